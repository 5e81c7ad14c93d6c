// Single calls: the list, one call with its events, and calls as they come.
import { ask, query } from "./api.js";
import { h } from "./dom.js";
import { panel, table } from "./panel.js";
import { count, milliseconds, money, named, time } from "./show.js";
import { address, filters, range } from "./state.js";
import { t } from "./words.js";

const PAGE = 50;
const LIVE_MAX = 200;

function columns(state) {
  const number = (name, cell) => ({ name, number: true, cell });
  return [
    { name: t("started_at"), cell: (call) => h("a", { href: address(state, { view: "calls", call: call.id, call_app: call.app }) }, time(call.started_at, state.zone)) },
    { name: t("status"), cell: (call) => h("span", { class: `status ${call.status}` }, call.status) },
    { name: t("app"), cell: (call) => call.app }, { name: t("user_id"), cell: (call) => named(call.user_id) },
    { name: t("provider"), cell: (call) => call.provider }, { name: t("model"), cell: (call) => call.model },
    number(t("input_tokens"), (call) => count(call.usage?.input_tokens ?? 0)), number(t("output_tokens"), (call) => count(call.usage?.output_tokens ?? 0)),
    number(t("cost_credits"), (call) => money(call.cost)), number(t("took"), (call) => milliseconds(call.duration_ms)),
    { name: t("reason"), cell: (call) => call.error?.code ?? (call.cost === null ? call.cost_reason : "") },
  ];
}

export async function list(state) {
  const { from, to } = range(state);
  const asked = { ...filters(state), from, to };
  const place = h("div");
  const items = [];
  let cursor;
  const more = h("button", { type: "button", onclick: () => load() }, t("more"));
  async function load() {
    const page = await ask("/v1/model-calls", { ...asked, limit: PAGE, cursor });
    items.push(...page.items);
    cursor = page.next_cursor;
    place.replaceChildren(items.length || cursor ? table(columns(state), items, t("calls")) : h("p", { class: "empty" }, t("empty")));
    more.hidden = !cursor;
  }
  await load();
  const found = panel(t("calls"), place, more);
  found.querySelector(".panel-head").append(files(query(asked)));
  return [found];
}

// The same calls in every form; the page says whether this service can write Parquet.
function files(asked) {
  const file = (name, path, saved = "") => h("a", { class: "button", href: `/v1/${path}?${asked}`, download: saved }, name);
  const parquet = document.body.dataset.forms.split(" ").includes("parquet");
  return h("div", { class: "tools" }, file(t("csv"), "model-calls.csv"), parquet && file("Parquet", "model-calls.parquet"),
    file("FOCUS (CSV)", "focus.csv"), parquet && file("FOCUS (Parquet)", "focus.parquet"),
    file(t("manifest"), "model-calls.csv/manifest", "manifest.json"), !parquet && h("span", { class: "note" }, t("parquet_missing")));
}

export async function detail(state, session) {
  const path = `/v1/model-calls/${encodeURIComponent(state.call)}`;
  const named_app = session.role === "app" ? {} : { app: state.call_app };
  const call = await ask(path, named_app);
  const trail = session.role === "dashboard" ? null : (await ask(`${path}/events`, named_app)).items;
  const rows = flatten(call).filter(([, value]) => value !== null);
  const shown = (name, value) => (name === "cost" || name === "vendor_cost" ? money(value)
    : name.endsWith("_at") ? `${value} (${time(value, state.zone)})` : String(value));
  const back = address(state, { call: "", call_app: "" });
  return [h("p", {}, h("a", { href: back }, `← ${t("back")}`)),
    panel(`${t("detail")} ${call.id}`, table([{ name: t("field"), cell: ([name]) => name }, { name: t("value"), cell: ([name, value]) => shown(name, value) }], rows, t("detail"))),
    panel(t("trail"), trail === null ? h("p", { class: "note" }, t("trail_closed")) : h("ol", { class: "trail" }, trail.map((entry) =>
      h("li", {}, h("strong", {}, entry.type), ` · ${entry.sequence} · ${time(entry.recordedtime, state.zone)} · ${entry.actor}`,
        h("pre", { tabindex: "0" }, JSON.stringify(entry.data, null, 2))))))];
}

function flatten(value, path = "") {
  return Object.entries(value).flatMap(([name, part]) => part && typeof part === "object" && !Array.isArray(part)
    ? flatten(part, `${path}${name}.`) : [[`${path}${name}`, Array.isArray(part) ? JSON.stringify(part) : part]]);
}

// Calls since the page was opened, newest first; those that match the filters.
export function live(state, recent, follow) {
  const place = h("div");
  let paused = false;
  const matches = (call) => ["app", "provider", "model", "user_id", "type", "status", "credential_id"].every((name) => !state[name] || call[name] === state[name])
    && (!state.q || JSON.stringify([call.id, call.request_id, call.trace_id, call.error]).toLowerCase().includes(state.q.toLowerCase()));
  const paint = () => {
    const shown = recent.filter(matches).slice(0, LIVE_MAX);
    if (!paused) place.replaceChildren(shown.length ? table(columns(state), shown, t("live")) : h("p", { class: "empty" }, t("empty_live")));
  };
  const hold = h("button", { type: "button", onclick: () => { paused = !paused; hold.textContent = t(paused ? "resume" : "pause"); paint(); } }, t("pause"));
  paint();
  follow(paint);
  const found = panel(t("live"), place);
  found.querySelector(".panel-head").append(h("div", { class: "tools" }, hold));
  return [found];
}
