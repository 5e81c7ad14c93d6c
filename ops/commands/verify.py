"""`usage-ledger verify`."""

import click

from ledger.ledger import LEDGER_FILE
from ops.bootstrap import require_ledger
from ops.master_key import make_keyring
from ops.settings import Settings
from ops.terminal import answer, note, progress_bar, takes_json, takes_settings
from ops.verify import Report, verify


@click.command("verify")
@takes_json
@takes_settings
@click.pass_context
def verify_command(context: click.Context, settings: Settings, *, as_json: bool) -> None:
    """Re-hash the journal and compare every projection with its rebuild; exit 1 and say where if anything is amiss."""
    require_ledger(settings)
    with progress_bar() as progress:
        report = verify(settings.directory / LEDGER_FILE, progress, make_keyring(settings))
    answer(report, summary(report), as_json=as_json)
    for fault in report.faults:
        note(f"fault: {fault}")
    for text in report.notes:
        note(f"note: {text}")
    context.exit(0 if report.ok else 1)


def summary(report: Report) -> str:
    """The report in a few lines."""
    lines = [f"{each.name}: {each.status}{f' ({each.detail})' if each.detail else ''}" for each in report.projections]
    verdict = "verified" if report.ok else f"NOT verified; the first fault: {report.faults[0]}"
    return "\n".join([f"{report.size} entries, root {report.root}", *lines, verdict])


COMMAND = verify_command
