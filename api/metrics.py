"""Prometheus metrics. Counters are of the worker process that answers; gauges of the ledger are the same in each."""

from collections.abc import Iterable, Iterator

from litestar.types import Scope
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ledger.budget_reads import Watched
from ledger.ledger import Ledger
from ledger.status import LedgerStatus

_responses: dict[tuple[str, str, int], int] = {}


def count_response(scope: Scope, status: int) -> None:
    """Count a response by method, route and status."""
    if scope["type"] != "http" or "route_handler" not in scope:
        return  # no route was found: strangers' methods and paths must not add series
    key = (str(scope["method"]), scope["path_template"], status)
    _responses[key] = _responses.get(key, 0) + 1


class _LedgerCollector(Collector):
    def __init__(self, ledger: Ledger, status: LedgerStatus, watched: Watched, more: Iterable[Metric]) -> None:
        self.ledger = ledger
        self.status = status
        self.watched = watched
        self.more = more

    def collect(self) -> Iterator[Metric]:
        yield from self._responses()
        yield from self._writer()
        yield from self.more
        yield GaugeMetricFamily("usage_ledger_position", "Last position of the journal.", self.status.position)
        lag = GaugeMetricFamily("usage_ledger_projection_lag_events", "Events not yet applied.", labels=["projection"])
        for projection in self.status.projections:
            lag.add_metric([projection.name], projection.lag)
        yield lag
        for name, text, value in (
            ("budgets", "Budgets in force.", self.watched.budgets),
            ("budget_crossings", "Thresholds of budgets that were crossed, ever.", self.watched.crossings),
            (
                "accounts_low",
                "Accounts whose balance is told to be at or below their low_balance.",
                self.watched.accounts_low,
            ),
        ):
            yield GaugeMetricFamily(f"usage_ledger_{name}", text, value)
        for name, path in (("database", self.ledger.path), ("wal", self.ledger.path.with_name("ledger.db-wal"))):
            size = path.stat().st_size if path.exists() else 0
            yield GaugeMetricFamily(f"usage_ledger_{name}_bytes", f"Size of the {name} file.", size)

    def _responses(self) -> Iterator[Metric]:
        family = CounterMetricFamily("usage_ledger_http_responses", "Responses.", labels=["method", "route", "status"])
        for (method, route, status), count in list(_responses.items()):
            family.add_metric([method, route, str(status)], count)
        yield family

    def _writer(self) -> Iterator[Metric]:
        stats, queue = self.ledger.writer.stats, self.ledger.queue
        for name, text, value in (
            ("groups", "Transactions committed.", stats.groups),
            ("commands", "Commands decided.", stats.commands),
            ("events", "Events appended.", stats.events),
            ("commit_failures", "COMMITs that raised and were looked up.", stats.commit_failures),
            ("reopened", "Times the file was reopened after an error.", stats.reopened),
        ):
            yield CounterMetricFamily(f"usage_ledger_writer_{name}", text, value)
        yield GaugeMetricFamily("usage_ledger_queue_commands", "Commands waiting.", queue.commands)
        yield GaugeMetricFamily("usage_ledger_queue_bytes", "Bytes waiting.", queue.bytes)


def registry(ledger: Ledger, status: LedgerStatus, watched: Watched, more: Iterable[Metric] = ()) -> CollectorRegistry:
    """A registry that shows this moment; `more` are metrics of what goes on beside requests."""
    found = CollectorRegistry()
    found.register(_LedgerCollector(ledger, status, watched, more))
    return found
