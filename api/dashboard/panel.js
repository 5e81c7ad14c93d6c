// A panel: a heading, a chart or figures, and behind each chart the very numbers as a table, and as a file.
import { draw, colour } from "./chart.js";
import { h, save } from "./dom.js";
import { t } from "./words.js";

export function panel(title, ...content) {
  return h("section", { class: "panel", "aria-label": title }, h("div", { class: "panel-head" }, h("h2", {}, title)), ...content);
}

// Columns: { name, number, cell(row), raw(row) }. Rows may have an address.
export function table(columns, rows, caption) {
  const cells = columns.map((each) => (each.number ? aligned(rows.map(each.cell)) : rows.map(each.cell)));
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    h("table", {},
      h("caption", { class: "unseen" }, caption),
      h("thead", {}, h("tr", {}, columns.map((each) => h("th", { scope: "col", class: each.number && "number" }, each.name)))),
      h("tbody", {}, rows.map((_, r) => h("tr", {}, columns.map((each, n) =>
        h(n ? "td" : "th", { scope: n ? null : "row", class: each.number && "number" }, cells[n][r]))))),
    ));
}

// Decimals stand under each other: what a fraction lacks is filled up with spaces as wide as its digits.
function aligned(texts) {
  const fraction = (text) => (/^[−\d,]+\.(\d+)$/.exec(text)?.[1].length ?? 0);
  const most = Math.max(0, ...texts.map(fraction));
  return texts.map((text) => (fraction(text) ? `${text}${"\u2007".repeat(most - fraction(text))}` : text));
}

export function csv(columns, rows) {
  const quoted = (value) => {
    const text = value === null || value === undefined ? "" : String(value);
    const safe = typeof value === "string" && /^[=+\-@\t\r]/.test(text) && !/^-\d+(\.\d+)?$/.test(text) ? `'${text}` : text;
    return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
  };
  const line = (cells) => cells.map(quoted).join(",");
  return [line(columns.map((each) => each.name)), ...rows.map((row) => line(columns.map((each) => each.raw(row))))].map((each) => `${each}\r\n`).join("");
}

// `file` is an address to download, or left out: then the table itself is.
export function chartPanel(title, chart, columns, rows, { note, file, name } = {}) {
  const place = h("div", { class: "chart", role: "img", "aria-label": `${title}. ${t("table")}: ${t("zoom_help")}` });
  const behind = h("div", { hidden: true });
  const toggle = h("button", { type: "button", "aria-pressed": "false", onclick: () => {
    const shown = behind.hidden;
    if (shown && !behind.childElementCount) behind.append(table(columns, rows, title));
    behind.hidden = !shown;
    place.hidden = shown;
    toggle.setAttribute("aria-pressed", String(shown));
  } }, t("table"));
  const download = file
    ? h("a", { class: "button", href: file, download: "" }, t("csv"))
    : h("button", { type: "button", onclick: () => save(`${name}.csv`, csv(columns, rows)) }, t("csv"));
  const legend = h("ul", { class: "legend" }, chart.series.map((each, n) =>
    h("li", {}, swatch(each.colour ?? n, each.dash), each.name)));
  const found = h("section", { class: "panel", "aria-label": title },
    h("div", { class: "panel-head" }, h("h2", {}, title), h("span", { class: "help" }, t("zoom_help")), h("div", { class: "tools" }, toggle, download)),
    chart.series.length > 1 && legend, place, behind, note && h("p", { class: "note" }, note));
  found.show = () => draw(place, chart);
  return found;
}

function drawing(kind, width, height, shapes) {
  const made = (tag, attributes) => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    return element;
  };
  const svg = made("svg", { viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true", class: kind });
  svg.append(...shapes.map((each) => made("rect", each)));
  return svg;
}

export const swatch = (n, dash) => drawing("swatch", 10, 10, [{ width: 10, height: dash ? 3 : 10, y: dash ? 4 : 0, fill: colour(n) }]);

// How full something is; the figure stands beside it, so that the bar says nothing alone.
export const gauge = (percent, level) => drawing(`gauge ${level}`, 60, 8, [
  { class: "whole", width: 60, height: 8 }, { class: "part", width: Math.max(0, Math.min(60, (percent * 60) / 100)), height: 8 }]);
