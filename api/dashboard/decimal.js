// Money as the API gives it: decimal strings. Sums stay exact, as whole numbers of 1e-12; no binary fraction is made
// of them but where a chart needs a height.
const SCALE = 12;
const ONE = 10n ** BigInt(SCALE);

export function parse(text) {
  const negative = text.startsWith("-");
  const [whole, fraction = ""] = text.replace("-", "").split(".");
  const value = BigInt(whole) * ONE + BigInt(fraction.padEnd(SCALE, "0").slice(0, SCALE));
  return negative ? -value : value;
}

export function format(value, least = 0) {
  const digits = (value < 0n ? -value : value).toString().padStart(SCALE + 1, "0");
  const fraction = digits.slice(-SCALE).replace(/0+$/, "").padEnd(least, "0");
  const whole = digits.slice(0, -SCALE).replace(/\B(?=(\d{3})+$)/g, ",");
  return `${value < 0n ? "−" : ""}${whole}${fraction && `.${fraction}`}`;
}

export const add = (a, b) => format_plain(parse(a) + parse(b));
export const subtract = (a, b) => format_plain(parse(a) - parse(b));

function format_plain(value) {
  return format(value).replaceAll(",", "").replace("−", "-");
}

// By how many percent a whole number grew, to one decimal, or null where it grew from nothing.
export function growth(now, before) {
  if (before === 0n) return null;
  const size = before < 0n ? -before : before;
  const twice = 2n * (now - before) * 1000n + (now >= before ? size : -size);
  const tenths = twice / (2n * size);
  const absolute = tenths < 0n ? -tenths : tenths;
  return `${tenths < 0n ? "−" : "+"}${absolute / 10n}.${absolute % 10n} %`;
}

// A quotient of whole numbers to so many decimals, rounded half up; null where there is nothing to divide by.
export function ratio(numerator, denominator, decimals) {
  if (!denominator) return null;
  const power = 10n ** BigInt(decimals);
  const value = (2n * BigInt(numerator) * power + BigInt(denominator)) / (2n * BigInt(denominator));
  const digits = value.toString().padStart(decimals + 1, "0");
  return decimals ? `${digits.slice(0, -decimals)}.${digits.slice(-decimals)}` : digits;
}
