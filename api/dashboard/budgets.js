// How much of each budget is used in the period that is now, and which thresholds it crossed.
import { parse, ratio } from "./decimal.js";
import { h } from "./dom.js";
import { gauge } from "./panel.js";
import { number, pages, text } from "./pages.js";
import { money, time } from "./show.js";
import { t } from "./words.js";

const FULL = 100;

export const scopeOf = ({ kind, id, app, key }) => `${kind} ${app ? `${app}/` : ""}${key ? `${key}=` : ""}${id}`;

// Percent of the amount, held credit aside, to one decimal; calls nobody asked for may take it over 100.
export const used = (budget) => ratio(parse(budget.spent) < 0n ? 0n : parse(budget.spent) * 100n, parse(budget.amount), 1);

const level = (budget) => (Number(used(budget)) >= FULL ? "over" : budget.crossed.length ? "near" : "calm");
const percents = (values) => values.map((each) => `${each} %`).join(", ") || "–";

function columns(state) {
  return [
    text(t("budget"), (row) => row.id), text(t("scope"), (row) => scopeOf(row.scope)),
    { name: t("period"), raw: (row) => row.period, cell: (row) => (row.window_hours ? `${row.window_hours} h` : t(row.period)) },
    { name: t("until"), raw: (row) => row.period_end, cell: (row) => time(row.period_end, state.zone) },
    { name: t("enforcement"), raw: (row) => row.enforcement, cell: (row) => t(row.enforcement) },
    number(t("amount"), (row) => row.amount, money), number(t("spent"), (row) => row.spent, money), number(t("held"), (row) => row.held, money),
    number(t("remaining"), (row) => row.remaining, money),
    { name: t("used"), number: true, raw: used, cell: (row) => [gauge(Number(used(row)), level(row)), h("span", { class: `level ${level(row)}` }, `${used(row)} %`)] },
    { name: t("thresholds"), raw: (row) => row.thresholds.join(" "), cell: (row) => percents(row.thresholds) },
    { name: t("crossed"), raw: (row) => row.crossed.map((each) => each.threshold).join(" "), cell: (row) => h("span", { class: `level ${level(row)}` }, percents(row.crossed.map((each) => each.threshold))) },
  ];
}

export async function budgets(state) {
  const asked = { kind: state.kind, scope_id: state.scope_id, enforcement: state.enforcement, q: state.q };
  return [await pages(t("budgets"), "/v1/budgets", asked, columns(state), { empty: t("empty_budgets"), name: "budgets" })];
}
