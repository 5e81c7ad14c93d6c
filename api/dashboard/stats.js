// Statistics as the views share them: asked once a rendering, put on one time axis.
import { ask, query } from "./api.js";
import { address, filters, quarterEnd, range } from "./state.js";
import { parse } from "./decimal.js";
import { bucket, count, money, named } from "./show.js";
import { t } from "./words.js";

const STATS = "/v1/model-call-stats";
export const TOP = 8;

// Each measure: how a bucket's value is read exactly, and how high it is drawn.
const whole = (name) => ({ raw: (b) => b[name], text: (b) => count(b[name]), height: (b) => b[name] });
const amount = (read) => ({ raw: read, text: (b) => money(read(b)), height: (b) => Number(read(b) ?? 0) });
export const MEASURES = {
  calls: whole("calls"), failed: whole("failed"), cost: amount((b) => b.cost), vendor_cost: amount((b) => b.vendor_cost),
  input_tokens: whole("input_tokens"), output_tokens: whole("output_tokens"), cache_read_tokens: whole("cache_read_tokens"),
  reasoning_tokens: whole("reasoning_tokens"),
};
export const measureName = (name) => t({ calls: "n_calls", cost: "cost_credits" }[name] ?? name);

// What users were last counted as, and until when that holds. Counting takes a row for each user and quarter of an
// hour, so views that draw themselves anew count again only after so many times as long as it took.
const COUNTING_PAUSE = 20;
let counted = null;

export class Stats {
  constructor(state, session) {
    this.state = state;
    this.session = session;
    this.percentiles = state.view === "speed"; // they cost the ledger work, so only the view that shows them asks
    this.range = range(state);
    // Calls of a cut quarter of an hour are counted one by one, so a range that ends now ends with its quarter; without
    // that, one call by a clock that is ahead would cut it.
    if (this.percentiles && !state.from) this.range.to = quarterEnd(this.range.to);
    this.asked = { ...filters(state), from: this.range.from, to: this.range.to, timezone: state.zone };
    this.found = new Map();
  }

  get(change) {
    const asked = { ...this.asked, percentiles: this.percentiles, ...change };
    const key = query(asked);
    if (!this.found.has(key)) this.found.set(key, ask(STATS, asked));
    return this.found.get(key);
  }

  // One bucket for each step of the range, empty ones too: the axis of every chart.
  axis() { return this.get({ granularity: this.range.granularity, fill: true, compare: "previous" }); }

  // A file is asked for once, so it has them whatever the view.
  file(change) { return `${STATS}.csv?${query({ ...this.asked, ...change })}`; }

  label(start) { return bucket(start, this.state.zone, this.range.granularity); }

  labels(buckets) {
    const seen = new Map();
    return buckets.map((each) => {
      const label = this.label(each.start);
      seen.set(label, (seen.get(label) ?? 0) + 1);
      return seen.get(label) > 1 ? `${label} (${seen.get(label)})` : label;
    });
  }

  zoom(buckets, go) {
    return (low, high) => go({ from: buckets[low].start, to: buckets[high].end });
  }

  callsAt(start, end, change = {}) {
    return address(this.state, { view: "calls", from: start, to: end, ...change });
  }

  // How many users called, and how many in the period before; null where they are too many to count.
  async users() {
    const about = `${this.session.key_id} ${address(this.state)}`;
    if (counted?.about === about && Date.now() < counted.until) return counted.found;
    const began = Date.now();
    const found = await this.get({ granularity: "total", distinct: "user_id", compare: "previous" }).then(
      ({ totals, previous }) => [totals.distinct.user_id, previous.distinct.user_id], tooMany);
    counted = { about, found, until: Date.now() + COUNTING_PAUSE * (Date.now() - began) };
    return found;
  }

  // The top groups by a measure, the remainder last, each on the axis.
  async grouped(group, measure) {
    const by = ["cache_read_tokens", "reasoning_tokens"].includes(measure) ? "calls" : measure;
    const asked = { granularity: this.range.granularity, group_by: group, top: TOP, top_by: by };
    const [axis, found, totals] = await Promise.all([this.axis(), this.get(asked), this.totals(group, by)]);
    const place = new Map(axis.buckets.map((each, n) => [each.start, n]));
    const rows = new Map(totals.rows.map((row) => [row.key, { ...row, cells: new Array(axis.buckets.length).fill(null) }]));
    for (const each of found.buckets) rows.get(keyOf(each, group)).cells[place.get(each.start)] = each;
    return { axis, rows: [...rows.values()], groups: totals.groups, asked };
  }

  async totals(group, by, top = TOP) {
    const found = await this.get({ granularity: "total", group_by: group, top, top_by: by, });
    const height = by in MEASURES ? MEASURES[by].height : MEASURES.calls.height;
    const rows = found.buckets.map((each) => ({
      key: keyOf(each, group), sums: each, others: each.others ?? 0, value: each.group[group] ?? null,
      name: each.others ? `${t("rest")} (${each.others})` : named(each.group[group]),
    }));
    rows.sort((a, b) => Boolean(a.others) - Boolean(b.others) || height(b.sums) - height(a.sums));
    rows.forEach((row, n) => { row.colour = row.others ? -1 : n; });
    return { rows, groups: found.groups ?? rows.length, percentiles: found.percentiles };
  }
}

function tooMany(problem) {
  if (problem.path !== "$.distinct") throw problem;
  return null;
}

const keyOf = (each, group) => (each.others ? "others" : `=${each.group[group] ?? ""}`);
export const exact = (text) => parse(text ?? "0");
