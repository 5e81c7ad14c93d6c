"""The keyring: master keys, which wrap data keys, which seal secrets. AES-256-GCM throughout, each nonce drawn once.

What is sealed is bound to its place: a data key to its id and subject, a secret to its record. Bytes that were changed,
moved to another record or sealed under another key do not open, and nothing of them is given out.
"""

import hmac
import threading
from base64 import b64decode
from binascii import Error as Base64Error
from collections import OrderedDict
from collections.abc import Callable, Sequence
from hashlib import sha256

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from msgspec import Struct

from schema.errors import InvalidSetting, SecretUnreadable
from schema.sealed import Drawn, Sealed, WrappedKey, mask

KEY_BYTES = 32
NONCE_BYTES = 12
KEY_ID_BYTES = 8
DATA_KEYS_CACHED_MAX = 1_024
MASTER_KEYS_MAX = 100

_sorted = msgspec.json.Encoder(order="sorted")
_secret = msgspec.json.Decoder(dict[str, str])


class MasterKey(Struct, frozen=True):
    """A master key, and the name it goes by, which is derived from it."""

    id: str
    key: bytes

    def __repr__(self) -> str:
        return f"MasterKey({self.id})"


ReadKeys = Callable[[], Sequence[MasterKey]]
Draw = Callable[[int], bytes]


def master_key(key: bytes) -> MasterKey:
    """A master key by its 32 bytes."""
    return MasterKey(sha256(b"usage-ledger master key\0" + key).hexdigest()[: 2 * KEY_ID_BYTES], key)


def master_keys(text: str) -> list[MasterKey]:
    """Master keys written in Base64, apart by commas or white space, the current one first. Raises InvalidSetting."""
    words = text.replace(",", " ").split()
    if not 1 <= len(words) <= MASTER_KEYS_MAX:
        raise InvalidSetting(f"Expected 1 to {MASTER_KEYS_MAX} master keys, the current one first")
    return [master_key(_decoded(word)) for word in words]


def _decoded(word: str) -> bytes:
    try:
        key = b64decode(word, validate=True)
    except (Base64Error, ValueError):
        key = b""
    if len(key) != KEY_BYTES:
        raise InvalidSetting(f"Expected each master key to be {KEY_BYTES} bytes in Base64")
    return key


class Keyring:
    """The master keys of this process, and the data keys it used last.

    `read` gives the master keys, the current one first; it is asked again when a data key names one that is not known,
    as after a rotation. `draw` gives random bytes. Safe to use from several threads.
    """

    def __init__(self, read: ReadKeys, draw: Draw) -> None:
        self._read = read
        self._draw = draw
        self._lock = threading.Lock()
        self._masters: tuple[MasterKey, ...] = ()
        self._data_keys: OrderedDict[WrappedKey, bytes] = OrderedDict()

    def draw(self) -> Drawn:
        """The randomness of one sealing; to be drawn before the command that carries it is queued."""
        return Drawn(
            key=self._draw(KEY_ID_BYTES).hex(), data_key=self._draw(KEY_BYTES), wrap_nonce=self.nonce(),
            nonce=self.nonce(),
        )  # fmt: skip

    def nonce(self) -> bytes:
        """A nonce, for one use."""
        return self._draw(NONCE_BYTES)

    def first(self) -> MasterKey:
        """The current master key, as it is written down now."""
        self._masters = tuple(self._read())
        return self._masters[0]

    def knows(self, master_key_id: str) -> bool:
        """Whether the master key of this id is at hand."""
        return self._master(master_key_id) is not None

    def wrap(self, drawn: Drawn, subject: str, master_key_id: str) -> WrappedKey:
        """A drawn data key, wrapped for a subject; raises SecretUnreadable where the master key is not at hand."""
        return self._wrapped(drawn.key, drawn.data_key, subject, master_key_id, drawn.wrap_nonce)

    def rewrap(self, wrapped: WrappedKey, master_key_id: str, nonce: bytes) -> WrappedKey:
        """The same data key under another master key; raises SecretUnreadable."""
        return self._wrapped(wrapped.id, self.unwrap(wrapped), wrapped.subject, master_key_id, nonce)

    def unwrap(self, wrapped: WrappedKey) -> bytes:
        """The data key itself, to be kept nowhere; raises SecretUnreadable."""
        with self._lock:
            if wrapped in self._data_keys:
                self._data_keys.move_to_end(wrapped)
                return self._data_keys[wrapped]
        bound = _bound_key(wrapped.id, wrapped.subject)
        master = self._required(wrapped.master_key_id)
        data_key = _open(master.key, wrapped.nonce, wrapped.wrapped, bound, wrapped.subject)
        with self._lock:
            self._data_keys[wrapped] = data_key
            if len(self._data_keys) > DATA_KEYS_CACHED_MAX:
                self._data_keys.popitem(last=False)
        return data_key

    def open(self, sealed: Sealed, subject: str, wrapped: WrappedKey | None) -> dict[str, str]:
        """The secret; raises SecretUnreadable, and gives out nothing, unless every byte is as it was sealed."""
        if wrapped is None or (wrapped.id, wrapped.subject) != (sealed.key, subject):
            raise SecretUnreadable(f"{subject}: its data key is not there; it was erased, or another took its place")
        text = _open(self.unwrap(wrapped), sealed.nonce, sealed.ciphertext, _bound_secret(subject), subject)
        return _secret.decode(text)

    def forget(self, data_key_id: str) -> None:
        """Drop a data key from memory."""
        with self._lock:
            for wrapped in [each for each in self._data_keys if each.id == data_key_id]:
                del self._data_keys[wrapped]

    def _wrapped(self, id_: str, data_key: bytes, subject: str, master_key_id: str, nonce: bytes) -> WrappedKey:
        master = self._required(master_key_id)
        wrapped = AESGCM(master.key).encrypt(nonce, data_key, _bound_key(id_, subject))
        return WrappedKey(id=id_, subject=subject, master_key_id=master.id, nonce=nonce, wrapped=wrapped)

    def _required(self, id_: str) -> MasterKey:
        found = self._master(id_)
        if found is None:
            raise SecretUnreadable(f"master key {id_} is not at hand")
        return found

    def _master(self, id_: str) -> MasterKey | None:
        found = next((each for each in self._masters if each.id == id_), None)
        if found is None:
            self._masters = tuple(self._read())
            found = next((each for each in self._masters if each.id == id_), None)
        return found


def seal(secret: dict[str, str], subject: str, data_key_id: str, data_key: bytes, nonce: bytes) -> Sealed:
    """A secret sealed for a subject."""
    text = _sorted.encode(secret)
    return Sealed(
        key=data_key_id,
        nonce=nonce,
        ciphertext=AESGCM(data_key).encrypt(nonce, text, _bound_secret(subject)),
        same=_same(text, data_key),
        mask=mask(secret),
    )


def is_same(secret: dict[str, str], sealed: Sealed, data_key: bytes) -> bool:
    """Whether a secret is the one that was sealed with this data key."""
    return hmac.compare_digest(_same(_sorted.encode(secret), data_key), sealed.same)


def _same(text: bytes, data_key: bytes) -> bytes:
    key = HKDFExpand(SHA256(), KEY_BYTES, b"usage-ledger same content").derive(data_key)
    return hmac.new(key, text, sha256).digest()


def _bound_key(id_: str, subject: str) -> bytes:
    return f"{subject}#data_key/{id_}".encode()


def _bound_secret(subject: str) -> bytes:
    return f"{subject}#secret".encode()


def _open(key: bytes, nonce: bytes, ciphertext: bytes, bound: bytes, subject: str) -> bytes:
    try:
        return AESGCM(key).decrypt(nonce, ciphertext, bound)
    except (InvalidTag, ValueError):
        detail = f"{subject}: it was sealed with another key or for another record, or was changed"
        raise SecretUnreadable(detail) from None
