// Whether the service is sound: ready, how far each projection is, and what to keep to notice a changed history.
import { ask } from "./api.js";
import { h } from "./dom.js";
import { panel, table } from "./panel.js";
import { count, time } from "./show.js";
import { t } from "./words.js";

export async function health(state) {
  const found = await ask("/health/ready");
  const word = h("p", { class: `state ${found.status}` }, t(found.status));
  const known = found.details;
  if (!known) return [panel(t("health"), word, h("p", { class: "note" }, t("details_closed")))];
  const facts = [[t("position"), count(known.position)], [t("root_hash"), known.root_hash],
    [t("slowest"), count(Math.max(0, ...known.projections.map((each) => each.lag)))], [t("leases_ahead"), known.leases_ahead_s == null ? "–" : `${count(known.leases_ahead_s)} s`],
    [t("recorded_at"), known.recorded_at ? time(known.recorded_at, state.zone) : "–"], [t("sqlite"), known.sqlite]];
  return [panel(t("health"), word), panel(t("integrity"),
    table([{ name: t("field"), cell: ([name]) => name }, { name: t("value"), cell: ([, value]) => h("code", {}, value) }], facts, t("integrity")),
    h("p", { class: "note" }, t("position_help"))),
  projections(known.projections)];
}

function projections(found) {
  return panel(t("projections"), table([
    { name: t("projection"), cell: (each) => each.name }, { name: t("version"), number: true, cell: (each) => each.version },
    { name: t("position"), number: true, cell: (each) => count(each.position) }, { name: t("lag"), number: true, cell: (each) => count(each.lag) },
    { name: t("status"), cell: (each) => (each.current ? t("current") : h("span", { class: "level near" }, `${t("rebuilding")} ${each.rebuilding == null ? "" : count(each.rebuilding)}`)) },
    { name: t("hash"), cell: (each) => h("code", {}, each.state_hash ?? "–") }], found, t("projections")));
}
