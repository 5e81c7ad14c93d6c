"""Sign-in links for the dashboard, made where the master key is: whoever may read that is admin anyway."""

import hmac
import secrets
from hashlib import sha256

from api.session import Claim, sign
from ledger.ledger import Ledger
from ops import master_key
from ops.bootstrap import clock_us
from ops.settings import Settings
from projections import key
from schema.errors import NotFound
from schema.times import SECOND_US

NONCE_BYTES = 16
PURPOSE = b"usage-ledger dashboard sessions v1"


def session_secret(settings: Settings) -> bytes:
    """What signs sessions and links: of the current master key, but not that key; raises SecretUnreadable."""
    return hmac.digest(master_key.reader(settings)()[0].key, PURPOSE, sha256)


def link(settings: Settings, ledger: Ledger, address: str, key_id: str, lifetime_s: int) -> str:
    """An address that signs in as a key, once, until it is over. The token comes after `#`, which no server logs.

    Raises NotFound where there is no such valid key.
    """
    record = ledger.readers.now(key.find, key_id)
    if record is None:
        raise NotFound(f"there is no valid key {key_id}")
    claim = Claim("link", key_id, clock_us() + lifetime_s * SECOND_US, secrets.token_hex(NONCE_BYTES))
    return f"{address}/#link={sign(session_secret(settings), claim, record.sha256)}"
