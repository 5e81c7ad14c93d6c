// Numbers, money and times as people read them; the figures are those of the API.
import { format, parse, ratio } from "./decimal.js";
import { language, t } from "./words.js";

export const count = (value) => String(value).replace(/\B(?=(\d{3})+$)/g, ",");
export const money = (text) => (text === null || text === undefined ? "–" : format(parse(text), 2));
export const percent = (part, whole) => (whole ? `${ratio(part * 100, whole, 2)} %` : "–");

export function mean(sum, calls) {
  const value = ratio(sum, calls, 0);
  return value === null ? "–" : `${count(value)} ms`;
}

export const milliseconds = (value) => (value === null || value === undefined ? "–" : `${count(value)} ms`);
export const named = (value) => value ?? t("none");

const formats = new Map();
function formatter(zone, kind) {
  const key = `${language()}|${zone}|${kind}`;
  if (!formats.has(key)) {
    const options = { timeZone: zone, hourCycle: "h23" };
    if (kind !== "hour") Object.assign(options, { year: "numeric", month: "2-digit" });
    if (kind === "day" || kind === "time") options.day = "2-digit";
    if (kind === "hour") Object.assign(options, { month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit" });
    if (kind === "time") Object.assign(options, { hour: "2-digit", minute: "2-digit", second: "2-digit" });
    formats.set(key, new Intl.DateTimeFormat("sv-SE", options));
  }
  return formats.get(key);
}

export const time = (text, zone) => formatter(zone, "time").format(Date.parse(text));
export const bucket = (text, zone, granularity) => formatter(zone, granularity).format(Date.parse(text));
