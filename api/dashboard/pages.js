// Lists of things by the page: a table that grows by "More", and all of it as a file.
import { ask } from "./api.js";
import { h, save } from "./dom.js";
import { csv, panel, table } from "./panel.js";
import { count } from "./show.js";
import { t } from "./words.js";

const PAGE = 50;
const FILE_PAGE = 1000;
const FILE_ROWS_MAX = 20_000;

// Columns as `table` takes them, each with `raw` for the file. `empty` is said where there is nothing.
export async function pages(title, path, asked, columns, { empty, name }) {
  const place = h("div");
  const note = h("p", { class: "note", role: "status" });
  const items = [];
  let cursor;
  const more = h("button", { type: "button", onclick: () => load().then(() => { found.dataset.extended = "true"; }) }, t("more"));
  async function load() {
    const page = await ask(path, { ...asked, limit: PAGE, cursor });
    items.push(...page.items);
    cursor = page.next_cursor;
    place.replaceChildren(items.length || cursor ? table(columns, items, title) : h("p", { class: "empty" }, empty));
    more.hidden = !cursor;
  }
  async function download() {
    const rows = [];
    let next;
    do {
      const page = await ask(path, { ...asked, limit: FILE_PAGE, cursor: next });
      rows.push(...page.items);
      next = page.next_cursor;
    } while (next && rows.length < FILE_ROWS_MAX);
    save(`${name}.csv`, csv(columns, rows));
    note.textContent = next ? `${t("file_cut")} ${count(rows.length)}` : "";
  }
  await load();
  const found = panel(title, place, more, note);
  found.querySelector(".panel-head").append(h("div", { class: "tools" }, h("button", { type: "button", onclick: download }, t("csv"))));
  found.items = items;
  return found;
}

export const text = (name, read) => ({ name, cell: read, raw: read });
export const number = (name, read, shown) => ({ name, number: true, cell: (row) => shown(read(row)), raw: read });
