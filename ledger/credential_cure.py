"""Putting what failed right: a credential whose failures are over, by hand, by a new secret or by a look at it."""

from msgspec.structs import replace

from ledger.credential_book import Line
from ledger.credential_event import Told
from ledger.lease_state import LeaseHead, RotationRow
from schema.credential import Credential, CredentialRestored


def forgiven(row: RotationRow, head: LeaseHead) -> RotationRow:
    """Without failures, yet still to be looked at; reports on leases made until now say nothing of it."""
    return replace(row, errors=0, cleared=head.sequence)


def cured(row: RotationRow, head: LeaseHead) -> RotationRow:
    """Without failures, and not to be looked at again."""
    return replace(forgiven(row, head), failed=False, recheck_at_us=None, recheck_failures=0)


def resealed(row: RotationRow, head: LeaseHead) -> RotationRow:
    """With another secret: no lease made until now is repeated, and no vendor has limited its rate."""
    return replace(row, resealed=head.sequence, penalised_until_us=0, unreadable_until_us=0)


def restored(line: Line, *, probed: bool) -> CredentialRestored:
    """What brings a disabled credential back into use."""
    fields = {name: getattr(line.content, name) for name in Credential.__struct_fields__}
    fields |= {"enabled": True, "disabled_reason": None}
    return CredentialRestored(**fields, replaces=line.position, by="probe" if probed else "hand")


def restore(told: Told, line: Line, head: LeaseHead, *, probed: bool) -> None:
    """Tell that a credential is back in use, and forget what it failed by.

    A look alone does not end the series of looks: a key that lists models and fails at calls would else be disabled and
    restored every few seconds for ever. The next one begins where this one ended, until a call succeeds.
    """
    told.tell("restore", restored(line, probed=probed), line.position)
    looks = told.rotation.recheck_failures
    told.rotation = cured(told.rotation, head)
    if probed:
        told.set(recheck_failures=looks + 1)
