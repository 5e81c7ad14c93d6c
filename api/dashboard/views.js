// What each statistical view shows.
import { ask } from "./api.js";
import { format, growth, subtract } from "./decimal.js";
import { h } from "./dom.js";
import { chartPanel, panel, swatch, table } from "./panel.js";
import { count, mean, money, percent } from "./show.js";
import { address, before as preceding } from "./state.js";
import { MEASURES, exact, measureName } from "./stats.js";
import { t } from "./words.js";

const DIMENSIONS = ["model", "provider", "app", "user_id", "credential_id", "type", "status"];
// What nothing had a price for has no cost: that is not 0.
const priced = (sums, text) => (sums.calls && sums.unpriced_calls === sums.calls ? "–" : money(text));
export const numeric = (name, cell, raw) => ({ name, number: true, cell, raw });

function startColumn(stats, labels) {
  return { name: t("start"), raw: (n) => stats.buckets[n].start, cell: (n) => h("a", { href: stats.drill(n) }, labels[n]) };
}

// A chart over the axis: `lines` are { name, values(bucket) → {height, text, raw} }.
export function overTime(title, stats, axis, lines, go, options = {}) {
  const buckets = axis.buckets;
  const labels = stats.labels(buckets);
  const drill = (n) => stats.callsAt(buckets[n].start, buckets[n].end, options.drill);
  const series = lines.map((line) => {
    const cells = buckets.map((each, n) => line.at(each, n));
    return { name: line.name, colour: line.colour, line: line.line, dash: line.dash, value: line.value, filter: line.filter,
      values: cells.map((cell) => cell?.height ?? null), texts: cells.map((cell) => cell?.text ?? "–"), raws: cells.map((cell) => cell?.raw ?? null) };
  });
  const columns = [startColumn({ buckets, drill }, labels), ...series.map((each) =>
    numeric(each.name, (n) => each.texts[n], (n) => each.raws[n]))];
  const chart = { buckets: labels, series, unit: options.unit, stacked: options.stacked ?? true, logarithmic: options.logarithmic, onzoom: stats.zoom(buckets, go),
    onpick: (n, which) => go({ view: "calls", from: buckets[n].start, to: buckets[n].end, ...options.drill, ...series[which]?.filter }) };
  return chartPanel(title, chart, columns, buckets.map((_, n) => n), { note: options.note, file: options.file, name: options.name ?? "chart" });
}

const of = (name) => (each) => each && { height: MEASURES[name].height(each), text: MEASURES[name].text(each), raw: MEASURES[name].raw(each) };

export function card(name, value, now, before) {
  const grown = now === undefined ? null : growth(now, before);
  const known = now !== undefined;
  return h("div", { class: "card" }, h("dt", {}, name), h("dd", { class: "figure" }, value),
    known && h("dd", { class: "growth" }, grown ?? (now === 0n ? "±0" : t("since_nothing"))));
}

export async function overview(stats, go) {
  const axis = await stats.axis();
  const [now, before] = [axis.totals, axis.previous];
  const shifted = { from: preceding(stats.range, axis.buckets.length, stats.state.zone), to: stats.range.from };
  const [earlier, models, apps, users] = await Promise.all([
    stats.get({ ...shifted, granularity: stats.range.granularity, fill: true }), stats.totals("model", "calls"), stats.totals("app", "calls"), stats.users()]);
  const pair = (name) => [BigInt(now[name]), BigInt(before[name])];
  const cards = h("dl", { class: "cards" },
    card(t("n_calls"), count(now.calls), ...pair("calls")), card(t("success_rate"), percent(now.succeeded, now.calls)),
    card(t("failed"), count(now.failed), ...pair("failed")), users ? card(t("users"), count(users[0]), ...users.map(BigInt)) : card(t("users"), t("too_many")),
    card(t("input_tokens"), count(now.input_tokens), ...pair("input_tokens")),
    card(t("output_tokens"), count(now.output_tokens), ...pair("output_tokens")),
    card(t("cost_credits"), priced(now, now.cost), exact(now.cost), exact(before.cost)),
    card(t("unpriced_calls"), count(now.unpriced_calls)), card(t("duration"), mean(now.duration_ms_sum, now.calls)),
    card(t("ttfb"), mean(now.ttfb_ms_sum, now.ttfb_calls)));
  const previous = { name: t("previous"), line: true, dash: true, colour: -1, at: (_, n) => of("calls")(earlier.buckets[n]) };
  const calls = overTime(t("calls_over_time"), stats, axis, [
    { name: t("succeeded"), colour: 0, filter: { status: "success" }, at: (b) => ({ height: b.succeeded, text: count(b.succeeded), raw: b.succeeded }) },
    { name: t("failed"), colour: 7, filter: { status: "failed" }, at: of("failed") }, previous], go, { file: stats.file({ granularity: stats.range.granularity }) });
  const cost = overTime(t("cost_over_time"), stats, axis, [{ name: t("cost_credits"), colour: 2, at: of("cost") }], go,
    { file: stats.file({ granularity: stats.range.granularity }) });
  return [cards, calls, cost, h("div", { class: "pair" },
    panel(t("by_model"), groupTable(stats, "model", models.rows, now, t("by_model"))),
    panel(t("by_app"), groupTable(stats, "app", apps.rows, now, t("by_app"))))];
}

function groupTable(stats, group, rows, totals, caption) {
  return table([
    { name: t(group), cell: (row) => [swatch(row.colour), groupLink(stats, group, row)] },
    numeric(t("n_calls"), (row) => count(row.sums.calls)), numeric(t("share"), (row) => percent(row.sums.calls, totals.calls)),
    numeric(t("failed"), (row) => count(row.sums.failed)), numeric(t("input_tokens"), (row) => count(row.sums.input_tokens)),
    numeric(t("output_tokens"), (row) => count(row.sums.output_tokens)), numeric(t("cost_credits"), (row) => priced(row.sums, row.sums.cost)),
    numeric(t("duration"), (row) => mean(row.sums.duration_ms_sum, row.sums.calls)),
  ], rows, caption);
}

export const groupLink = (stats, group, row) =>
  row.value === null ? row.name : h("a", { href: address(stats.state, { view: "calls", [group]: row.value }) }, row.name);

export async function series(stats, go) {
  const { state } = stats;
  const group = DIMENSIONS.includes(state.group) ? state.group : "model";
  const measure = state.metric in MEASURES ? state.metric : "calls";
  const { axis, rows, groups, asked } = await stats.grouped(group, measure);
  const pick = (name, label, options, value) => h("label", {}, label, h("select", { name, onchange: (event) => go({ [name]: event.target.value }) },
    options.map(([key, text]) => h("option", { value: key, selected: key === value }, text))));
  const bar = h("div", { class: "bar" },
    pick("metric", t("metric"), Object.keys(MEASURES).map((name) => [name, measureName(name)]), measure),
    pick("group", t("group"), DIMENSIONS.map((name) => [name, t(name)]), group), h("span", { class: "note" }, `${count(groups)} ${t("groups")}`));
  const chart = overTime(`${measureName(measure)} · ${t(group)}`, stats, axis, rows.map((row) => ({
    name: row.name, colour: row.colour, filter: row.value === null ? {} : { [group]: row.value },
    at: (_, n) => of(measure)(row.cells[n]) })), go, { file: stats.file(asked) });
  return [bar, chart, panel(t(group), groupTable(stats, group, rows, axis.totals, t(group)))];
}

export async function tokens(stats, go) {
  const axis = await stats.axis();
  const parts = [
    ["plain_input", (b) => b.input_tokens - b.cache_read_tokens - b.cache_write_tokens], ["cache_read_tokens", (b) => b.cache_read_tokens],
    ["cache_write_tokens", (b) => b.cache_write_tokens], ["plain_output", (b) => b.output_tokens - b.reasoning_tokens],
    ["reasoning_tokens", (b) => b.reasoning_tokens]];
  const lines = parts.map(([name, read]) => ({ name: t(name), at: (b) => ({ height: read(b), text: count(read(b)), raw: read(b) }) }));
  const all = axis.totals.input_tokens + axis.totals.output_tokens;
  const rows = parts.map(([name, read], n) => ({ name: t(name), n, value: read(axis.totals) }));
  return [overTime(t("tokens_over_time"), stats, axis, lines, go, { file: stats.file({ granularity: stats.range.granularity }) }),
    panel(t("total"), table([{ name: t("usage"), cell: (row) => [swatch(row.n), row.name] }, numeric(t("tokens"), (row) => count(row.value)),
      numeric(t("share"), (row) => percent(row.value, all))], rows, t("total")))];
}

export async function errors(stats, go) {
  const [axis, found] = await Promise.all([stats.axis(), ask("/v1/model-call-errors", { ...stats.asked, granularity: stats.range.granularity, top: 8 })]);
  const key = (each) => (each.others ? "others" : `=${each.reason ?? ""}`);
  const name = (each) => (each.others ? `${t("rest")} (${each.others})` : each.reason ?? t("no_code"));
  const cells = new Map(found.buckets.map((each) => [`${each.start} ${key(each)}`, each]));
  const rows = found.reasons.map((each, n) => ({ ...each, colour: each.others ? -1 : n }));
  const failed = { status: "failed" };
  const lines = rows.map((row) => ({ name: name(row), colour: row.colour, filter: row.reason ? { ...failed, q: row.reason } : failed, at: (b) => {
    const calls = cells.get(`${b.start} ${key(row)}`)?.calls ?? 0;
    return { height: calls, text: count(calls), raw: calls };
  } }));
  const note = found.since && `${t("errors_since")} ${stats.label(found.since)}`;
  return [overTime(t("errors_over_time"), stats, axis, lines, go, { note, name: "errors", drill: failed }),
    panel(t("reason"), table([{ name: t("reason"), cell: (row) => [swatch(row.colour), row.reason
      ? h("a", { href: address(stats.state, { view: "calls", status: row.reason === "timed_out" ? "timed_out" : "failed", q: row.reason === "timed_out" ? "" : row.reason }) }, name(row)) : name(row)] },
    numeric(t("n_calls"), (row) => count(row.calls)), numeric(t("share"), (row) => percent(row.calls, found.failed))], rows, t("reason")),
    h("p", { class: "note" }, `${t("failed")}: ${count(found.failed)} · ${t("success_rate")}: ${percent(axis.totals.succeeded, axis.totals.calls)}`))];
}

const margin = (b) => (b.vendor_cost === null ? null : subtract(b.cost, b.vendor_cost));

export async function cost(stats, go) {
  const [axis, models] = await Promise.all([stats.axis(), stats.totals("model", "cost", 50)]);
  const knows = axis.totals.vendor_cost !== null;
  const left = (b) => ({ height: Number(margin(b)), text: money(margin(b)), raw: margin(b) });
  const lines = [{ name: t("cost_credits"), colour: 2, at: of("cost") }];
  if (knows) lines.push({ name: t("vendor_cost"), colour: 1, at: of("vendor_cost") }, { name: t("difference"), colour: 0, line: true, at: left });
  const { totals } = axis;
  const columns = [{ name: t("model"), cell: (row) => groupLink(stats, "model", row) }, numeric(t("n_calls"), (row) => count(row.sums.calls)),
    numeric(t("cost_credits"), (row) => priced(row.sums, row.sums.cost)), knows && numeric(t("vendor_cost"), (row) => money(row.sums.vendor_cost)),
    knows && numeric(t("difference"), (row) => money(margin(row.sums))), numeric(t("unpriced_calls"), (row) => count(row.sums.unpriced_calls))].filter(Boolean);
  return [h("dl", { class: "cards" }, card(t("cost_credits"), money(totals.cost), exact(totals.cost), exact(axis.previous.cost)),
    knows && card(t("vendor_cost"), money(totals.vendor_cost), exact(totals.vendor_cost), exact(axis.previous.vendor_cost)),
    knows && card(t("difference"), format(exact(totals.cost) - exact(totals.vendor_cost), 2)), card(t("unpriced_calls"), count(totals.unpriced_calls))),
  overTime(t("cost_over_time"), stats, axis, lines, go, { stacked: false, note: knows && t("margin_note"), file: stats.file({ granularity: stats.range.granularity }) }),
  panel(t("by_model"), table(columns, models.rows, t("by_model")))];
}
