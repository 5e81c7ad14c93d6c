// What is told to others: usage to the payment system, events to webhooks; what waits, and what was given up.
import { ask } from "./api.js";
import { h } from "./dom.js";
import { panel } from "./panel.js";
import { number, pages, text } from "./pages.js";
import { count, money, named, time } from "./show.js";
import { address } from "./state.js";
import { t } from "./words.js";

const WEBHOOKS = "/v1/webhooks";
const LEVELS = { pending: "calm", claimed: "calm", reported: "calm", failed: "near", dead: "over" };

const card = (name, value, level) => h("div", { class: "card" }, h("dt", {}, t(name)), h("dd", { class: `figure ${level ? `level ${level}` : ""}` }, value));
const age = (seconds) => (seconds === null ? "–" : `${count(seconds)} s`);
const problem = (value, level) => (value ? level : "");

function standing(known) {
  const word = !known.started ? "reporting_off" : known.paused ? "reporting_paused" : "reporting_on";
  const { batches } = known;
  return h("dl", { class: "cards", "aria-label": t("usage_reports") }, card("payment_system", known.payment_system ?? "–"), card("state", t(word), problem(known.paused, "near")),
    card("behind", count(known.behind)), card("collecting", count(known.collecting)), card("batch_pending", count((batches.pending ?? 0) + (batches.claimed ?? 0))),
    card("batch_failed", count(batches.failed ?? 0), problem(batches.failed, "near")), card("batch_dead", count(batches.dead ?? 0), problem(batches.dead, "over")),
    card("oldest_age", age(known.oldest_age_s)));
}

function reports(state) {
  const at = (name, read) => ({ name, raw: read, cell: (row) => (read(row) ? time(read(row), state.zone) : "–") });
  return [
    at(t("created_at"), (row) => row.created_at), { name: t("status"), raw: (row) => row.status, cell: (row) => h("span", { class: `level ${LEVELS[row.status]}` }, t(`batch_${row.status}`)) },
    text(t("app"), (row) => row.app), { name: t("user_id"), raw: (row) => row.user_id, cell: (row) => named(row.user_id) },
    number(t("amount"), (row) => row.amount, money), number(t("n_calls"), (row) => row.calls, count), number(t("attempts"), (row) => row.attempts, count),
    at(t("due_at"), (row) => row.due_at), at(t("reported_at"), (row) => row.reported_at), { name: t("reason"), raw: (row) => row.error, cell: (row) => row.error ?? "" },
    { name: t("id"), raw: (row) => row.id, cell: (row) => h("code", {}, row.id) },
  ];
}

function webhookState(row) {
  if (!row.enabled) return ["off", "webhook_off"];
  if (row.delivery?.failing) return ["over", "webhook_failing"];
  if (row.delivery?.attempts) return ["near", "webhook_trying"];
  return ["calm", "webhook_on"];
}

function hooks(state) {
  const of = (name) => (row) => row.delivery?.[name] ?? null;
  const figure = (name) => number(t(name), of(name), (value) => (value === null ? "–" : count(value)));
  const at = (name) => ({ name: t(name), raw: of(name), cell: (row) => (of(name)(row) ? time(of(name)(row), state.zone) : "–") });
  return [
    text(t("webhook"), (row) => row.id), text(t("address"), (row) => row.url), { name: t("events"), raw: (row) => row.events.join(" "), cell: (row) => row.events.join(", ") },
    { name: t("status"), raw: (row) => webhookState(row)[1].replace("webhook_", ""), cell: (row) => { const [level, word] = webhookState(row); return h("span", { class: `level ${level}` }, t(word)); } },
    figure("position"), figure("behind"), figure("delivered"), figure("attempts"), at("due_at"), at("last_delivered_at"),
    { name: t("dead_letters"), number: true, raw: of("dead_letters"), cell: (row) => (row.delivery?.dead_letters
      ? h("a", { href: address(state, { webhook: row.id }), class: "level over" }, count(row.delivery.dead_letters)) : "0") },
    { name: t("reason"), raw: of("last_error"), cell: (row) => of("last_error")(row) ?? "" },
  ];
}

async function dead(state) {
  const columns = [number(t("position"), (row) => row.position, count), number(t("attempts"), (row) => row.attempts, count),
    { name: t("failed_at"), raw: (row) => row.failed_at, cell: (row) => time(row.failed_at, state.zone) },
    { name: t("status"), raw: (row) => (row.retrying ? "retrying" : "dead"), cell: (row) => t(row.retrying ? "webhook_trying" : "batch_dead") }, text(t("reason"), (row) => row.error)];
  const path = `${WEBHOOKS}/${encodeURIComponent(state.webhook)}/dead-letters`;
  return [h("p", {}, h("a", { href: address(state, { webhook: "" }) }, `← ${t("back")}`)),
    await pages(`${t("dead_letters")} · ${state.webhook}`, path, {}, columns, { empty: t("empty_dead"), name: "dead-letters" })];
}

export async function deliveries(state) {
  if (state.webhook) return dead(state);
  const asked = { status: state.report_status, app: state.app, user_id: state.user_id };
  const [known, batches, webhooks] = await Promise.all([ask("/v1/usage-reports/status"),
    pages(t("batches"), "/v1/usage-reports", asked, reports(state), { empty: t("empty_reports"), name: "usage-reports" }),
    pages(t("webhooks"), WEBHOOKS, {}, hooks(state), { empty: t("empty_webhooks"), name: "webhooks" })]);
  return [panel(t("usage_reports"), standing(known)), batches, webhooks];
}
