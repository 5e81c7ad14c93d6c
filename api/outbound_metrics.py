"""Metrics of what the service sends by itself: usage reports and webhooks. Ids of webhooks are the only labels."""

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from api.services import Services
from ledger import report_reads, webhook_reads
from schema.usage_report import ReportingView
from schema.webhook import Delivery


async def read(services: Services) -> list[Metric]:
    """As of this moment; the counters are of this process."""
    readers = services.ledger.readers
    standing = await readers.run(report_reads.standing, services.clock(), None)
    deliveries = await readers.run(webhook_reads.deliveries, None)
    return [*_reports(services, standing), *_webhooks(services, deliveries)]


def _reports(services: Services, standing: ReportingView) -> list[Metric]:
    batches = GaugeMetricFamily("usage_ledger_usage_reports", "Batches not reported yet.", labels=["status"])
    for status, count in standing.batches.items():
        batches.add_metric([status], count)
    sent = CounterMetricFamily("usage_ledger_usage_reports_sent", "Attempts, by outcome.", labels=["outcome"])
    if services.reporter is not None:
        for outcome, count in services.reporter.sent.items():
            sent.add_metric([outcome], count)
    age = "Age of the oldest batch not reported yet, 0 where there is none."
    return [
        batches,
        sent,
        GaugeMetricFamily("usage_ledger_usage_reports_oldest_seconds", age, standing.oldest_age_s or 0),
        GaugeMetricFamily("usage_ledger_usage_reports_behind_events", "Events not collected yet.", standing.behind),
        GaugeMetricFamily("usage_ledger_usage_reports_paused", "Whether sending is paused.", int(standing.paused)),
    ]


def _webhooks(services: Services, deliveries: dict[str, Delivery]) -> list[Metric]:
    behind = GaugeMetricFamily("usage_ledger_webhook_behind_events", "Events not looked at yet.", labels=["webhook"])
    dead = GaugeMetricFamily("usage_ledger_webhook_dead_letters", "Events that were given up.", labels=["webhook"])
    attempts = GaugeMetricFamily("usage_ledger_webhook_attempts", "Attempts at the next event.", labels=["webhook"])
    for id_, each in deliveries.items():
        behind.add_metric([id_], each.behind)
        dead.add_metric([id_], each.dead_letters)
        attempts.add_metric([id_], each.attempts)
    sent = CounterMetricFamily("usage_ledger_webhook_sent", "Attempts, by outcome.", labels=["outcome"])
    if services.deliverer is not None:
        for outcome, count in services.deliverer.sent.items():
            sent.add_metric([outcome], count)
    return [behind, dead, attempts, sent]
