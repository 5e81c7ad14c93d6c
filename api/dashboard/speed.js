// How fast calls were: percentiles where the ledger has them, means where it has not.
import { format, parse, ratio } from "./decimal.js";
import { h } from "./dom.js";
import { panel, table } from "./panel.js";
import { count, mean, milliseconds } from "./show.js";
import { t } from "./words.js";
import { card, groupLink, numeric, overTime } from "./views.js";

// Each measure's sum, the calls that tell it, and its percentiles, which come in the order of their colours.
const MEASURES = [
  { name: "duration", word: "took", title: "duration_over_time", sum: "duration_ms_sum", calls: "calls", percentiles: ["p50", "p95", "p99"] },
  { name: "ttfb", word: "first_byte", title: "ttfb_over_time", sum: "ttfb_ms_sum", calls: "ttfb_calls", percentiles: ["p50", "p95"] },
];
const COLOURS = { p50: 0, p95: 1, p99: 3 };
const label = (measure, percentile) => `${t(measure.word)} ${percentile}`;
const value = (sums, measure, percentile) => sums[`${measure.name}_ms_${percentile}`];
const meanOf = (sums, measure) => mean(sums[measure.sum], sums[measure.calls]);

export async function speed(stats, go) {
  const [axis, models] = await Promise.all([stats.axis(), stats.totals("model", "duration_ms_sum", 50)]);
  const options = { unit: "ms", file: stats.file({ granularity: stats.range.granularity }) };
  const charts = axis.percentiles.source
    ? MEASURES.map((measure) => overTime(t(measure.title), stats, axis, percentileLines(measure), go,
      { ...options, logarithmic: true, note: `${t("logarithmic")} ${errorNote(axis.percentiles)}` }))
    : [overTime(t("speed_over_time"), stats, axis, MEASURES.map(meanLine), go, { ...options, note: t("no_percentiles") })];
  return [h("dl", { class: "cards" }, MEASURES.map((measure) => cards(axis, measure))), ...charts, byModel(stats, models)];
}

// The mean, and beside it the range's percentiles, each with how it grew since the period before.
function cards({ totals, previous, percentiles }, measure) {
  const { sum, calls } = measure;
  const told = totals[calls] && previous[calls];
  // Of two quotients, each times both of their divisors: whole numbers of the same ratio.
  const means = told ? [BigInt(totals[sum]) * BigInt(previous[calls]), BigInt(previous[sum]) * BigInt(totals[calls])] : [];
  const ranks = (percentiles.source ? measure.percentiles : []).map((each) => {
    const pair = [value(totals, measure, each), value(previous, measure, each)];
    return card(label(measure, each), milliseconds(pair[0]), ...(pair.includes(null) ? [] : pair.map(BigInt)));
  });
  return [card(t(measure.name), meanOf(totals, measure), ...means), ...ranks];
}

const percentileLines = (measure) => measure.percentiles.map((each) => ({ name: each, line: true, colour: COLOURS[each], at: (bucket) => {
  const found = value(bucket, measure, each);
  return found === null ? null : { height: found, text: milliseconds(found), raw: found };
} }));

const meanLine = (measure, n) => ({ name: t(measure.name), line: true, colour: n, at: (bucket) => {
  const [sum, calls] = [bucket[measure.sum], bucket[measure.calls]];
  return calls ? { height: sum / calls, text: mean(sum, calls), raw: ratio(sum, calls, 0) } : null;
} });

function byModel(stats, models) {
  const known = Boolean(models.percentiles.source);
  const columns = MEASURES.flatMap((measure) => [
    numeric(t(measure.name), (row) => meanOf(row.sums, measure)),
    ...(known ? measure.percentiles : []).map((each) => numeric(label(measure, each), (row) => milliseconds(value(row.sums, measure, each))))]);
  return panel(t("by_model"), table([
    { name: t("model"), cell: (row) => groupLink(stats, "model", row) }, numeric(t("n_calls"), (row) => count(row.sums.calls)), ...columns],
  models.rows, t("by_model")), !known && h("p", { class: "note" }, t("no_percentiles")));
}

// The stated error is a decimal fraction, told in percent to its last digit.
const errorNote = (percentiles) => `${t("percentile_error")} ${format(parse(percentiles.relative_error) * 100n)} %.`;
