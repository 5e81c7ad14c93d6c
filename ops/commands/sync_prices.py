"""`usage-ledger sync-prices`: the installed price list into the ledger, beside a running service too."""

import click

from ledger.decision import preview
from ledger.ledger import Ledger
from ledger.price_list import command, followers, selected, total
from ops.bootstrap import clock_us, opened, require_ledger
from ops.keys import ACTOR
from ops.price_list import installed
from ops.settings import Settings
from ops.terminal import answer, note, progress_bar, takes_json, takes_settings
from schema.price_list import SyncPriceList, SyncReport

ITEMS_SHOWN_MAX = 50


@click.command("sync-prices")
@click.option("--provider", "providers", metavar="ID", multiple=True, help="Only this provider; may be repeated.")
@click.option("--dry-run", is_flag=True, help="Tell what would change and write nothing.")
@takes_json
@takes_settings
def sync_prices(settings: Settings, providers: tuple[str, ...], *, dry_run: bool, as_json: bool) -> None:
    """Follow the installed price list: new and changed prices become rates. Again, it changes nothing."""
    require_ledger(settings)
    listed, offers = installed().load()
    offered = {each.id: each for each in offers}
    reports: list[SyncReport] = []
    with opened(settings) as ledger, progress_bar() as progress:
        found = selected(ledger.readers.now(followers, offered), offered, providers or None)
        for done, follower in enumerate(found, 1):
            wanted = command(ACTOR, clock_us(), listed, follower, offered)
            reports.append(_would(ledger, wanted) if dry_run else _sync(ledger, wanted))
            progress("providers", done, len(found))
    _tell(total(reports), f"{listed.source} {listed.version}", dry_run=dry_run, as_json=as_json)


def _would(ledger: Ledger, wanted: SyncPriceList) -> SyncReport:
    report = ledger.readers.now(preview, wanted).report
    assert isinstance(report, SyncReport)
    return report


def _sync(ledger: Ledger, wanted: SyncPriceList) -> SyncReport:
    report = ledger.execute_one_now(wanted).report
    assert isinstance(report, SyncReport)
    return report


def _tell(report: SyncReport, name: str, *, dry_run: bool, as_json: bool) -> None:
    counts = ", ".join(f"{what} {getattr(report, what)}" for what in ("created", "updated", "skipped", "missing"))
    answer(report, f"{name}: {'would be ' if dry_run else ''}{counts}", as_json=as_json)
    notable = [each for each in report.items if each.action not in {"created", "problem"}]
    for each in notable[:ITEMS_SHOWN_MAX]:
        note(f"{each.action}: {each.provider}/{each.model} {each.reason or ''}".rstrip())
    if len(notable) > ITEMS_SHOWN_MAX:
        note(f"and {len(notable) - ITEMS_SHOWN_MAX} more: see --json")


COMMAND = sync_prices
