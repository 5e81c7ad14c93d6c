// How the vendors' credentials stand: in use or not and why, how much of their quotas is lent, when that begins anew.
import { h } from "./dom.js";
import { gauge } from "./panel.js";
import { number, pages, text } from "./pages.js";
import { count, time } from "./show.js";
import { address } from "./state.js";
import { t } from "./words.js";

const LEVELS = { normal: "calm", disabled: "off", rate_limited: "near" };
const FULL = 100;

function quota(kind) {
  const usage = (row) => row.usage[kind];
  const level = (each) => (each.percent >= FULL ? "over" : each.percent >= 90 ? "near" : "calm");
  return { name: t(kind), number: true, raw: (row) => (usage(row).limit === null ? usage(row).used : `${usage(row).used}/${usage(row).limit}`),
    cell: (row) => (usage(row).limit === null ? count(usage(row).used)
      : [gauge(usage(row).percent, level(usage(row))), h("span", { class: `level ${level(usage(row))}` }, `${count(usage(row).used)} / ${count(usage(row).limit)} · ${usage(row).percent} %`)]) };
}

function columns(state) {
  const at = (name, read) => ({ name, raw: read, cell: (row) => (read(row) ? time(read(row), state.zone) : "–") });
  return [
    { name: t("credential_id"), raw: (row) => row.id, cell: (row) => h("a", { href: address(state, { view: "calls", credential_id: row.id, provider: "", q: "" }) }, row.id) },
    text(t("provider"), (row) => row.provider),
    { name: t("status"), raw: (row) => row.status, cell: (row) => h("span", { class: `level ${LEVELS[row.status] ?? "over"}` }, t(`credential_${row.status}`)) },
    { name: t("reason"), raw: (row) => row.disabled_reason, cell: (row) => row.disabled_reason ?? "" },
    { name: t("near_limit"), raw: (row) => row.near_limit, cell: (row) => (row.near_limit ? h("span", { class: "level near" }, t("near_limit")) : "") },
    quota("daily"), at(t("daily_resets"), (row) => row.usage.daily.resets_at), quota("monthly"), at(t("monthly_resets"), (row) => row.usage.monthly.resets_at),
    number(t("weight"), (row) => row.weight, count), number(t("priority"), (row) => row.priority, count), number(t("errors_in_row"), (row) => row.errors, count),
    at(t("penalised"), (row) => row.penalised_until), at(t("recheck"), (row) => row.recheck_at),
    number(t("n_calls"), (row) => row.calls, count), at(t("last_used"), (row) => row.last_used_at),
  ];
}

export async function credentials(state) {
  const asked = { provider: state.provider, enabled: state.enabled, q: state.q };
  return [await pages(t("credentials"), "/v1/credentials", asked, columns(state), { empty: t("empty_credentials"), name: "credentials" })];
}
