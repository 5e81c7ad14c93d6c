"""Asking a vendor with a credential in hand: seldom enough, and without a word of the secret to anyone."""

from collections import deque
from collections.abc import Callable
from typing import Protocol

import structlog

from schema.errors import NotFound, Overloaded, TooManyRequests
from schema.lease import ProbeTarget
from schema.times import SECOND_US
from schema.vendor import ModelListing

log = structlog.get_logger()

MINUTE_US = 60 * SECOND_US
ASKED_A_MINUTE_MAX = 10  # of one provider, by one process
ASKED_AT_ONCE_MAX = 16


class CredentialProbe(Protocol):
    """Asks a vendor with a credential. Must end by itself within half a minute."""

    async def works(self, target: ProbeTarget) -> bool:
        """Whether the vendor takes it; what it raises counts as no."""
        ...

    async def models(self, target: ProbeTarget) -> ModelListing:
        """What it lists, or why it does not."""
        ...


class Vendors:
    """The vendors' own APIs, as this process may ask them."""

    def __init__(self, probe: CredentialProbe | None, clock: Callable[[], int]) -> None:
        self._probe = probe
        self._clock = clock
        self._asked_us: dict[str, deque[int]] = {}
        self._under_way = 0

    @property
    def able(self) -> bool:
        """Whether anybody can be asked."""
        return self._probe is not None

    def admit(self, provider: str) -> None:
        """Count a request to a provider that there is; raises TooManyRequests, NotFound where nobody can be asked."""
        if not self.able:
            raise NotFound("this service asks no vendors")
        now_us = self._clock()
        for id_, times in list(self._asked_us.items()):
            while times and times[0] <= now_us - MINUTE_US:
                times.popleft()
            if not times:
                del self._asked_us[id_]
        times = self._asked_us.setdefault(provider, deque())
        if len(times) >= ASKED_A_MINUTE_MAX:
            wait_us = times[0] + MINUTE_US - now_us
            raise TooManyRequests(
                f"{provider} was asked {ASKED_A_MINUTE_MAX} times within a minute",
                retry_after_s=max(1, -(-wait_us // SECOND_US)),
            )
        times.append(now_us)

    async def models(self, target: ProbeTarget) -> ModelListing:
        """What a vendor lists, or why it does not; raises Overloaded while many are being asked."""
        assert self._probe is not None
        if self._under_way >= ASKED_AT_ONCE_MAX:
            raise Overloaded(f"{ASKED_AT_ONCE_MAX} vendors are being asked")
        self._under_way += 1
        try:
            found = await self._probe.models(target)
        except Exception as error:  # noqa: BLE001 - whatever it is, its text may hold the secret
            found = ModelListing(outcome="server", detail=type(error).__name__)
        finally:
            self._under_way -= 1
        log.info("vendor_asked", provider=target.provider, outcome=found.outcome, status=found.status)
        return found
