"""Carries re-rates on, batch by batch, until nothing is left: also those that a stopped service left unfinished."""

import asyncio
from collections.abc import Callable

import structlog

from ledger.ledger import Ledger
from projections import rerate
from schema.errors import LedgerError
from schema.model_call import RatingPolicy
from schema.rerate import AdvanceRerate

log = structlog.get_logger()

LOOK_INTERVAL_S = 5


class Rerater:
    """One a process. Several may work on the same run: each batch is decided under the write lock, once."""

    def __init__(self, ledger: Ledger, clock: Callable[[], int], policy: RatingPolicy) -> None:
        self._ledger = ledger
        self._clock = clock
        self._policy = policy
        self._wanted = asyncio.Event()

    def wake(self) -> None:
        """There is something to do."""
        self._wanted.set()

    async def run(self) -> None:
        """Work for ever."""
        while True:
            await self._carry_on()
            try:
                await asyncio.wait_for(self._wanted.wait(), LOOK_INTERVAL_S)
            except TimeoutError:
                continue
            finally:
                self._wanted.clear()

    async def _carry_on(self) -> None:
        """Every run as far as it goes: one that cannot go on must not hold up the others."""
        try:
            unfinished = await self._ledger.readers.run(rerate.unfinished)
        except LedgerError as error:
            log.warning("rerates_wait", code=error.code)
            return
        except Exception:
            log.exception("rerates_wait")  # the next look may succeed; this task must not end for good
            return
        for id_ in unfinished:
            try:
                while await self._advance(id_):
                    pass
            except LedgerError as error:
                log.warning("rerate_waits", rerate=id_, code=error.code)
            except Exception:
                log.exception("rerate_waits", rerate=id_)

    async def _advance(self, id_: str) -> bool:
        """The next batch; False when there is none."""
        command = AdvanceRerate(received_at_us=self._clock(), id=id_, policy=self._policy)
        return (await self._ledger.execute_one(command)).events > 0
