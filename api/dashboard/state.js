// What is shown is what the address says, so a view can be kept, sent and gone back to.
export const FILTERS = ["app", "provider", "model", "user_id", "type", "status", "credential_id", "q"];
// What lists that are not about calls are narrowed by, beside `q`; names of their own, so that none means two things.
const LISTED = ["owner_kind", "owner_id", "kind", "scope_id", "enforcement", "enabled", "report_status"];
const OWN = ["view", "range", "from", "to", "zone", "group", "metric", "call", "call_app", "account", "webhook", ...LISTED];
const DEFAULTS = { view: "overview", range: "24h", group: "model", metric: "calls" };
const PRESETS = { "24h": [24, "hour"], "7d": [24 * 7, "hour"], "30d": [24 * 30, "day"], "3m": [24 * 91, "day"] };
const HOUR = 3_600_000;
const QUARTER = HOUR / 4;

export const presets = Object.keys(PRESETS);
export const ownZone = Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC";

export function read() {
  const given = new URLSearchParams(location.search);
  const state = { ...DEFAULTS, zone: ownZone };
  for (const name of [...OWN, ...FILTERS]) if (given.get(name)) state[name] = given.get(name);
  if (!validZone(state.zone)) state.zone = "UTC";
  if (state.from && state.to && !(Date.parse(state.from) < Date.parse(state.to))) state.from = state.to = undefined;
  if (!PRESETS[state.range]) state.range = DEFAULTS.range;
  return state;
}

function validZone(zone) {
  try {
    return Boolean(new Intl.DateTimeFormat("en", { timeZone: zone }));
  } catch {
    return false;
  }
}

export function address(state, change = {}) {
  const next = { ...state, ...change };
  const found = new URLSearchParams();
  for (const name of [...OWN, ...FILTERS]) {
    const value = next[name];
    const standard = name === "zone" ? ownZone : DEFAULTS[name];
    if (value && value !== standard && !(name === "range" && next.from)) found.set(name, value);
  }
  const text = found.toString();
  return text ? `/?${text}` : "/";
}

export const filters = (state) => Object.fromEntries(FILTERS.map((name) => [name, state[name]]));

// The range as instants, and how fine it is shown. A preset begins with a whole bucket and ends now.
export function range(state) {
  if (state.from && state.to) {
    const [from, to] = [Date.parse(state.from), Date.parse(state.to)];
    return { from: iso(from), to: iso(to), granularity: grain(to - from) };
  }
  const [hours, granularity] = PRESETS[state.range];
  const now = Date.now();
  const from = now - hours * HOUR;
  const start = granularity === "hour" ? Math.floor(from / HOUR) * HOUR : midnight(from, state.zone);
  return { from: iso(start), to: iso(Math.ceil(now / 1000) * 1000 + 1000), granularity };
}

const grain = (span) => (span <= 8 * 24 * HOUR ? "hour" : span <= 400 * 24 * HOUR ? "day" : "month");
const iso = (time) => new Date(time).toISOString();
// The end of the quarter of an hour that an instant is in: as far as histograms are kept whole.
export const quarterEnd = (text) => iso(Math.ceil(Date.parse(text) / QUARTER) * QUARTER);

function offset(time, zone) {
  const parts = new Intl.DateTimeFormat("en-CA", {
    timeZone: zone, hourCycle: "h23", year: "numeric", month: "2-digit", day: "2-digit", hour: "2-digit",
    minute: "2-digit", second: "2-digit",
  }).formatToParts(time);
  const at = Object.fromEntries(parts.map((part) => [part.type, Number(part.value)]));
  return Date.UTC(at.year, at.month - 1, at.day, at.hour, at.minute, at.second) - Math.floor(time / 1000) * 1000;
}

export function midnight(time, zone) {
  const local = time + offset(time, zone);
  const day = Math.floor(local / (24 * HOUR)) * 24 * HOUR;
  const guess = day - offset(time, zone);
  return day - offset(guess, zone);
}

// The start of as many buckets just before: what the period before is compared by.
export function before({ from, granularity }, buckets, zone) {
  const start = Date.parse(from);
  if (granularity === "hour") return iso(start - buckets * HOUR);
  const days = granularity === "day" ? buckets : buckets * 31;
  return iso(midnight(start - days * 24 * HOUR + 2 * HOUR, zone));
}

// What a field for local time shows, and the instant that such a text means in the zone.
export const toLocal = (text, zone) => iso(Date.parse(text) + offset(Date.parse(text), zone)).slice(0, 16);
export function fromLocal(text, zone) {
  const local = Date.parse(`${text}Z`);
  if (Number.isNaN(local)) return undefined;
  const guess = local - offset(local, zone);
  return iso(local - offset(guess, zone));
}
