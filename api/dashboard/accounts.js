// What accounts hold, owe and have set aside, how long it lasts, and one account's statement.
import { ask } from "./api.js";
import { parse } from "./decimal.js";
import { h } from "./dom.js";
import { panel, table } from "./panel.js";
import { number, pages, text } from "./pages.js";
import { count, money, named, time } from "./show.js";
import { address } from "./state.js";
import { t } from "./words.js";

const ACCOUNTS = "/v1/accounts";
const DAYS_MOST = 999;
const DAYS_FEW = 7;

export const ownerOf = (owner) => `${owner.kind} ${owner.app ? `${owner.app}/` : ""}${owner.id}`;
const isLow = ({ figures, low_balance: low }) => figures.basis === "nothing_left" || (low !== null && parse(figures.balance) + parse(figures.free_quota) <= parse(low));

// 999 days is all that a forecast says, and without use it says nothing.
function lasts({ basis, days_left: days }) {
  if (basis === "no_use") return "–";
  return h("span", { class: days < DAYS_FEW ? "level over" : null }, days === DAYS_MOST ? `≥ ${DAYS_MOST}` : count(days));
}

const figure = (name) => number(t(name), (row) => row.figures[name], money);

function columns(state) {
  return [
    { name: t("account"), raw: (row) => row.id, cell: (row) => h("a", { href: address(state, { view: "accounts", account: row.id }) }, row.id) },
    text(t("owner"), (row) => ownerOf(row.owner)), figure("balance"), figure("free_quota"), figure("held"), figure("available"), figure("owed"), figure("spent"),
    number(t("average"), (row) => row.figures.average, money),
    { name: t("days_left"), number: true, raw: (row) => row.figures.days_left, cell: (row) => lasts(row.figures) },
    { name: t("state"), raw: (row) => (isLow(row) ? "low" : ""), cell: (row) => isLow(row) && h("span", { class: "level near" }, t("low")) },
  ];
}

export async function accounts(state) {
  if (state.account) return account(state);
  const asked = { owner_kind: state.owner_kind, owner_id: state.owner_id, q: state.q, figures: true };
  return [await pages(t("accounts"), ACCOUNTS, asked, columns(state), { empty: t("empty_accounts"), name: "accounts" })];
}

async function account(state) {
  const path = `${ACCOUNTS}/${encodeURIComponent(state.account)}`;
  const [known, forecast] = await Promise.all([ask(path), ask(`${path}/forecast`)]);
  const card = (name, value) => h("div", { class: "card" }, h("dt", {}, t(name)), h("dd", { class: "figure" }, value));
  const cards = h("dl", { class: "cards" }, ["balance", "free_quota", "held", "available", "owed", "spent"].map((name) => card(name, money(known[name]))),
    card("tokens", count(known.tokens)), card("average", money(forecast.average)), card("days_left", lasts(forecast)));
  const rules = [[t("owner"), ownerOf(known.owner)], [t("overdraft"), t(`overdraft_${known.overdraft}`)], [t("low_balance"), money(known.low_balance)],
    [t("apps"), known.apps.join(", ") || "–"], [t("position"), count(known.position)]];
  const statement = await pages(t("statement"), `${path}/transactions`, {}, [
    number(t("sequence"), (row) => row.sequence, count), { name: t("recorded_at"), raw: (row) => row.at, cell: (row) => time(row.at, state.zone) },
    text(t("kind"), (row) => row.kind), number(t("amount"), (row) => row.amount, money), number(t("before"), (row) => row.before, money),
    number(t("after"), (row) => row.after, money), { name: t("related"), raw: (row) => row.related, cell: (row) => named(row.related) },
    { name: t("reason"), raw: (row) => row.reason, cell: (row) => row.reason ?? "" }], { empty: t("empty_statement"), name: `account-${known.id}` });
  return [h("p", {}, h("a", { href: address(state, { account: "" }) }, `← ${t("back")}`)), cards,
    panel(`${t("account")} ${known.id}`, table([{ name: t("field"), cell: ([name]) => name }, { name: t("value"), cell: ([, value]) => value }], rules, t("account"))), statement];
}
