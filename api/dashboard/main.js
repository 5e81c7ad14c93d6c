// The page: who is signed in, what the address asks for, and what is new.
import { Problem, ask, send } from "./api.js";
import { isDark, library } from "./chart.js";
import { accounts } from "./accounts.js";
import { budgets } from "./budgets.js";
import { detail, list, live } from "./calls.js";
import { credentials } from "./credentials.js";
import { deliveries } from "./deliveries.js";
import { byId, h } from "./dom.js";
import { health } from "./health.js";
import { FILTERS, address, fromLocal, ownZone, presets, range, read, toLocal } from "./state.js";
import { Stats } from "./stats.js";
import { speed } from "./speed.js";
import { cost, errors, overview, series, tokens } from "./views.js";
import { keep, language, speak, stored, t } from "./words.js";

const STATISTICS = { overview, series, tokens, errors, cost, speed };
const VIEWS = ["overview", "series", "tokens", "errors", "cost", "speed", "calls", "live", "accounts", "budgets", "credentials", "deliveries", "health"];
// Views that are not about calls: what shows each, and what it is narrowed by.
const LISTS = { accounts, budgets, credentials, deliveries, health };
const FIELDS = { accounts: ["owner_kind", "owner_id", "q"], budgets: ["kind", "scope_id", "enforcement", "q"], credentials: ["provider", "enabled", "q"],
  deliveries: ["report_status", "app", "user_id"], health: [] };
// Views that not every role may see; the others are for all.
const ROLES = { budgets: ["admin", "auditor", "dashboard"], credentials: ["admin", "auditor", "dashboard"], deliveries: ["admin", "auditor"] };
const CHOICES = { owner_kind: ["user", "app", "team"], kind: ["account", "app", "user", "model", "tag"], enforcement: ["soft", "hard"], enabled: ["true", "false"],
  report_status: ["pending", "claimed", "reported", "failed", "dead"],
  type: ["chat_completion", "embedding", "image_generation", "audio_generation", "video", "custom"],
  status: ["success", "failed", "timed_out", "processing"] };
const REFRESH_MS = 5000;
const RETRY_MS = 3000;
const LISTS_REFRESH_MS = 15_000;
const RECENT_MAX = 500;

let session = null;
let shown = 0;
let stream = null;
let repaint = null;
let due = null;
let drawnAt = 0;
let connection = "waiting";
const recent = [];

// What the address asks for; a view that is none is the first.
function asked() {
  const state = read();
  return VIEWS.includes(state.view) ? state : { ...state, view: VIEWS[0] };
}

function go(change) {
  history.pushState(null, "", address(asked(), change));
  render();
}

function notice(text) {
  if (byId("notice").textContent !== text) byId("notice").textContent = text;
}

function header(state) {
  const link = (view) => h("a", { href: address(state, { view, call: "", call_app: "", account: "", webhook: "" }), "aria-current": state.view === view ? "page" : null }, t(view));
  const select = (label, name, options, value, onchange) => h("label", {}, h("span", { class: "unseen" }, label),
    h("select", { name, onchange }, options.map(([key, text]) => h("option", { value: key, selected: key === value }, text))));
  const language_ = select(t("language"), "language", [["en", "English"], ["zh", "中文"]], language(), (event) => { speak(event.target.value); render(); });
  const theme = select(t("theme"), "theme", [["", t("auto")], ["light", t("light")], ["dark", t("dark")]], stored("theme") ?? "", (event) => { keep("theme", event.target.value); dress(); render(); });
  const top = h("div", { class: "top" }, h("h1", {}, t("title")),
    session && h("span", { id: "connection", class: connection, title: t(connection) }, t(connection)),
    h("span", { class: "space" }), language_, theme,
    session && h("span", { class: "who" }, session.app ? `${session.role} · ${session.app}` : session.role),
    session && h("button", { type: "button", onclick: signOut }, t("sign_out")));
  if (!session) return [top];
  return [top, h("nav", { "aria-label": t("views") }, VIEWS.filter(isOpen).map(link)), bar(state)];
}

const isOpen = (view) => !ROLES[view] || ROLES[view].includes(session.role);

function bar(state) {
  if (!isOpen(state.view) || state.account || state.webhook) return null;
  if (!LISTS[state.view]) return controls(state);
  return FIELDS[state.view].length ? narrowing(state, FIELDS[state.view]) : null;
}

function field(state, name) {
  return CHOICES[name]
    ? h("label", {}, t(name), h("select", { name, onchange: (event) => go({ [name]: event.target.value }) }, h("option", { value: "" }, t("any")),
      CHOICES[name].map((value) => h("option", { value, selected: state[name] === value }, value))))
    : h("label", {}, t(name), h("input", { name, value: state[name] ?? "", placeholder: t("any"), size: 10, autocomplete: "off", spellcheck: "false" }));
}

const cleared = (state, names) => names.some((name) => state[name]) && h("a", { class: "button", href: address(state, Object.fromEntries(names.map((name) => [name, ""]))) }, t("clear"));

function narrowing(state, names) {
  const submit = (event) => {
    event.preventDefault();
    const given = Object.fromEntries(new FormData(event.target));
    go(Object.fromEntries(names.map((name) => [name, given[name]?.trim()])));
  };
  return h("form", { class: "filters", "aria-label": t("filters"), onsubmit: submit }, names.map((name) => field(state, name)), h("button", {}, t("apply")), cleared(state, names));
}

function controls(state) {
  const zones = [...new Set([state.zone, ownZone, "UTC", ...(Intl.supportedValuesOf?.("timeZone") ?? [])])];
  const { from, to } = range(state);
  const ranges = h("div", { class: "presets", role: "group", "aria-label": t("range") }, presets.map((each) =>
    h("a", { class: "button", href: address(state, { range: each, from: "", to: "" }), "aria-current": !state.from && state.range === each ? "true" : null }, each)));
  const time = (name, value) => h("label", {}, t(name), h("input", { type: "datetime-local", name, value: toLocal(value, state.zone) }));
  const submit = (event) => {
    event.preventDefault();
    const given = Object.fromEntries(new FormData(event.target));
    const moved = given.from !== toLocal(from, state.zone) || given.to !== toLocal(to, state.zone);
    const times = moved ? { from: fromLocal(given.from, state.zone), to: fromLocal(given.to, state.zone) } : {};
    go({ ...Object.fromEntries(FILTERS.map((name) => [name, given[name]?.trim()])), ...times });
  };
  return h("form", { class: "filters", "aria-label": t("filters"), onsubmit: submit }, ranges,
    state.view !== "live" && [time("from", from), time("to", to)],
    h("label", {}, t("zone"), h("select", { name: "zone", onchange: (event) => go({ zone: event.target.value }) },
      zones.map((zone) => h("option", { value: zone, selected: zone === state.zone }, zone)))),
    FILTERS.filter((name) => !(name === "app" && session.role === "app")).map((name) => field(state, name)), h("button", {}, t("apply")), cleared(state, FILTERS));
}

async function content(state) {
  if (!isOpen(state.view)) return [h("p", { class: "empty", role: "alert" }, t("closed"))];
  if (LISTS[state.view]) return LISTS[state.view](state);
  if (state.view === "live") return live(state, recent, (paint) => { repaint = paint; });
  if (state.view === "calls") return state.call ? detail(state, session) : list(state);
  const stats = new Stats(state, session);
  const found = await STATISTICS[state.view](stats, go);
  const { totals } = await stats.axis();
  return totals.calls ? found : [h("p", { class: "empty" }, t("empty")), ...found];
}

// Draws what the address says; `quiet` keeps what is there until the new is ready.
async function render(quiet = false) {
  const mine = ++shown;
  const state = asked();
  document.title = `${t(state.view)} · ${t("title")}`;
  repaint = null;
  const view = byId("view");
  if (!quiet) byId("head").replaceChildren(...header(state).filter(Boolean));
  if (!session) return view.replaceChildren(signIn());
  if (!quiet) view.replaceChildren(h("p", { class: "empty" }, t("loading")));
  view.setAttribute("aria-busy", "true");
  try {
    const parts = (await content(state)).filter(Boolean);
    if (mine !== shown) return undefined;
    const top = view.scrollTop;
    view.replaceChildren(...parts);
    view.scrollTop = top;
    await Promise.all(parts.map((part) => part.show?.()));
    drawnAt = Date.now();
    if (mine === shown) view.setAttribute("aria-busy", "false");
  } catch (error) {
    if (mine === shown) failed(error, view);
  }
  return undefined;
}

function failed(error, view) {
  view.setAttribute("aria-busy", "false");
  if (error instanceof Problem && error.status === 401) return leave(t("signed_out"));
  if (error instanceof TypeError) return connect("disconnected");
  return view.replaceChildren(h("p", { class: "empty", role: "alert" }, `${t("failed_load")}: ${error.message}`));
}

function signIn() {
  const problem = h("p", { role: "alert", class: "problem" });
  const submit = async (event) => {
    event.preventDefault();
    try {
      await enter({ key: new FormData(event.target).get("key").trim() });
    } catch (error) {
      problem.textContent = error.status === 401 ? t("key_refused") : error.message;
    }
  };
  return h("form", { class: "sign-in", onsubmit: submit }, h("h2", {}, t("sign_in")),
    h("label", {}, t("key"), h("input", { name: "key", type: "password", required: true, autocomplete: "current-password", spellcheck: "false" })),
    h("button", {}, t("sign_in")), problem, h("p", { class: "note" }, t("sign_in_help")));
}

async function enter(given) {
  session = await send("/session", "POST", given);
  notice("");
  follow();
  render();
}

async function signOut() {
  await send("/session", "DELETE");
  leave("");
}

function leave(text) {
  session = null;
  stream?.close();
  stream = null;
  recent.length = 0;
  notice(text);
  render();
}

function connect(word) {
  connection = word;
  notice(word === "disconnected" ? t(word) : "");
  const mark = byId("connection");
  if (mark) Object.assign(mark, { className: word, title: t(word), textContent: t(word) });
}

// New calls as they come: into the live view at once, into the others at most every few seconds.
function follow() {
  library().catch(() => {}); // drawing asks again, and tells
  stream?.close();
  stream = new EventSource("/v1/live-calls/stream");
  stream.onopen = () => connect("connected");
  stream.onmessage = (event) => {
    const calls = JSON.parse(event.data);
    for (const call of calls) {
      const known = recent.findIndex((each) => each.id === call.id && each.app === call.app);
      if (known >= 0) recent.splice(known, 1);
      recent.unshift(call);
    }
    recent.length = Math.min(recent.length, RECENT_MAX);
    if (repaint) repaint();
    else refreshSoon();
  };
  stream.onerror = () => {
    connect("disconnected");
    if (stream?.readyState === EventSource.CLOSED) setTimeout(reconnect, RETRY_MS);
  };
}

async function reconnect() {
  try {
    const found = await ask("/session");
    if (!found.role) return leave(t("signed_out"));
    follow();
    render(true);
  } catch {
    setTimeout(reconnect, RETRY_MS);
  }
  return undefined;
}

function refreshSoon() {
  const state = asked();
  if (due || (state.from && !LISTS[state.view]) || state.view === "calls" || byId("view").querySelector("[data-extended]")) return;
  due = setTimeout(() => {
    due = null;
    const view = byId("view");
    const busy = view.contains(document.activeElement) && document.activeElement !== view;
    if (!document.hidden && !busy && !view.matches(":active") && session) render(true);
  }, Math.max(0, REFRESH_MS - (Date.now() - drawnAt)));
}

// What is not about calls changes without one.
setInterval(() => { if (session && LISTS[asked().view] && connection === "connected") refreshSoon(); }, LISTS_REFRESH_MS);

function dress() {
  const wanted = stored("theme");
  if (wanted) document.documentElement.dataset.theme = wanted;
  else delete document.documentElement.dataset.theme;
  document.documentElement.classList.toggle("is-dark", isDark());
}

// Links within the page change what is shown without leaving it.
document.addEventListener("click", (event) => {
  const link = event.target.closest?.("a[href^='/']");
  if (!link || link.hasAttribute("download") || event.metaKey || event.ctrlKey || event.shiftKey || event.button) return;
  event.preventDefault();
  history.pushState(null, "", link.getAttribute("href"));
  render().then(() => byId("view").focus({ preventScroll: true }));
});
addEventListener("popstate", () => render());
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { dress(); render(); });

async function start() {
  dress();
  document.querySelector(".skip").textContent = t("skip");
  const link = new URLSearchParams(location.hash.slice(1)).get("link");
  if (link) {
    history.replaceState(null, "", location.pathname + location.search);
    try {
      return await enter({ link });
    } catch (error) {
      notice(error.status === 410 ? t("link_used") : error.message);
    }
  }
  const found = await ask("/session");
  session = found.role ? found : null;
  if (session) follow();
  return render();
}

start();
