"""Sealing: what was changed, moved or sealed under another key does not open, and masks give little away."""

import secrets
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from ledger import keyring as sealing
from ledger.keyring import Keyring, MasterKey, master_key, master_keys
from schema.errors import InvalidSetting, SecretUnreadable
from schema.sealed import MASK, Sealed, WrappedKey, mask, masked

SUBJECT = "credential/openai-1"
SECRET = {"api_key": "sk-abcdefghijklmnopqrstuvwxyz", "organisation": "org-é"}
OLD, NEW = master_key(bytes(range(32))), master_key(bytes(range(1, 33)))


def ring(*keys: MasterKey) -> Keyring:
    return Keyring(lambda: keys, secrets.token_bytes)


@dataclass
class Kept:
    sealed: Sealed
    wrapped: WrappedKey


@pytest.fixture
def kept() -> Kept:
    keys = ring(OLD)
    drawn = keys.draw()
    sealed = sealing.seal(SECRET, SUBJECT, drawn.key, drawn.data_key, drawn.nonce)
    return Kept(sealed, keys.wrap(drawn, SUBJECT, OLD.id))


def test_what_was_sealed_opens(kept: Kept) -> None:
    """With the master key the secret comes back; kept bytes hold nothing of it."""
    assert ring(OLD).open(kept.sealed, SUBJECT, kept.wrapped) == SECRET
    assert not any(text.encode() in kept.sealed.ciphertext for text in SECRET.values())


def flipped(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


def test_any_flipped_byte_is_found(kept: Kept) -> None:
    """Each byte of ciphertext, tag and nonce, of secret and data key: changed by one bit, nothing opens."""
    tampered = [
        *((replace(kept.sealed, ciphertext=flipped(kept.sealed.ciphertext, n)), kept.wrapped)
          for n in range(len(kept.sealed.ciphertext))),
        *((replace(kept.sealed, nonce=flipped(kept.sealed.nonce, n)), kept.wrapped) for n in range(12)),
        *((kept.sealed, replace(kept.wrapped, wrapped=flipped(kept.wrapped.wrapped, n))) for n in range(48)),
        *((kept.sealed, replace(kept.wrapped, nonce=flipped(kept.wrapped.nonce, n))) for n in range(12)),
    ]  # fmt: skip
    keys = ring(OLD)
    for sealed, wrapped in tampered:
        with pytest.raises(SecretUnreadable):
            keys.open(sealed, SUBJECT, wrapped)
    assert keys.open(kept.sealed, SUBJECT, kept.wrapped) == SECRET


def test_ciphertext_cut_short_is_found(kept: Kept) -> None:
    """Nothing partial comes out, down to no bytes at all."""
    for length in range(len(kept.sealed.ciphertext)):
        with pytest.raises(SecretUnreadable):
            ring(OLD).open(replace(kept.sealed, ciphertext=kept.sealed.ciphertext[:length]), SUBJECT, kept.wrapped)


def test_another_master_key_opens_nothing(kept: Kept) -> None:
    """Neither a key with another id, nor another key under the same id."""
    with pytest.raises(SecretUnreadable, match=f"master key {OLD.id} is not at hand"):
        ring(NEW).open(kept.sealed, SUBJECT, kept.wrapped)
    with pytest.raises(SecretUnreadable, match="sealed with another key"):
        ring(MasterKey(OLD.id, NEW.key)).open(kept.sealed, SUBJECT, kept.wrapped)


def test_what_was_moved_to_another_record_does_not_open(kept: Kept) -> None:
    """A ciphertext copied to another record opens there neither alone nor together with its data key."""
    other = "credential/openai-2"
    for wrapped in (kept.wrapped, replace(kept.wrapped, subject=other), None):
        with pytest.raises(SecretUnreadable):
            ring(OLD).open(kept.sealed, other, wrapped)
    data_key = ring(OLD).unwrap(kept.wrapped)
    theirs = ring(OLD).wrap(replace(ring(OLD).draw(), key=kept.wrapped.id, data_key=data_key), other, OLD.id)
    with pytest.raises(SecretUnreadable):
        ring(OLD).open(kept.sealed, other, theirs)


def test_equal_secrets_are_known_without_equal_ciphertexts(kept: Kept) -> None:
    """Fresh nonces make each ciphertext another, and the HMAC tells that the content is the same, in any order."""
    data_key = ring(OLD).unwrap(kept.wrapped)
    again = sealing.seal(dict(reversed(SECRET.items())), SUBJECT, kept.sealed.key, data_key, secrets.token_bytes(12))
    assert (again.ciphertext == kept.sealed.ciphertext, again.same == kept.sealed.same) == (False, True)
    assert sealing.is_same(SECRET, kept.sealed, data_key)
    assert not sealing.is_same({**SECRET, "organisation": "org-e"}, kept.sealed, data_key)
    assert not sealing.is_same(SECRET, kept.sealed, secrets.token_bytes(32))


def test_a_data_key_is_wrapped_anew_for_the_same_secret(kept: Kept) -> None:
    """After a rotation the new master key opens it and the old one is not needed."""
    wrapped = ring(NEW, OLD).rewrap(kept.wrapped, NEW.id, secrets.token_bytes(12))
    assert ring(NEW).open(kept.sealed, SUBJECT, wrapped) == SECRET
    with pytest.raises(SecretUnreadable):
        ring(OLD).open(kept.sealed, SUBJECT, wrapped)


def test_a_master_key_that_is_not_known_is_looked_for_again(kept: Kept) -> None:
    """A process that read the keys before a rotation reads them again when it meets the new one's id."""
    written = [OLD]
    keys = Keyring(lambda: written, secrets.token_bytes)
    assert keys.open(kept.sealed, SUBJECT, kept.wrapped) == SECRET
    written[:] = [NEW, OLD]
    assert keys.wrap(keys.draw(), SUBJECT, NEW.id).master_key_id == NEW.id
    assert keys.first() == NEW


def test_data_keys_in_memory_are_few_and_can_be_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """The cache is bounded, and forgets on demand."""
    monkeypatch.setattr(sealing, "DATA_KEYS_CACHED_MAX", 2)
    keys = ring(OLD)
    wrapped = [keys.wrap(keys.draw(), SUBJECT, OLD.id) for _ in range(3)]
    for each in wrapped:
        keys.unwrap(each)
    assert list(keys._data_keys) == wrapped[1:]
    keys.forget(wrapped[2].id)
    assert list(keys._data_keys) == wrapped[1:2]


def test_nothing_prints_what_it_carries(kept: Kept) -> None:
    """Keys and drawn randomness show in no repr."""
    drawn = ring(OLD).draw()
    for shown in (repr(OLD), str(drawn), repr([drawn])):
        assert drawn.data_key.hex() not in shown
        assert repr(drawn.data_key) not in shown
        assert repr(OLD.key) not in shown


@pytest.mark.parametrize("text", ["", "  \n", "c2hvcnQ=", "not base64!", ",".join(["QUFB" * 11] * 2), "é"])
def test_what_is_no_master_key_is_refused(text: str) -> None:
    """Not 32 bytes in Base64: a clear error that does not repeat it."""
    with pytest.raises(InvalidSetting) as caught:
        master_keys(text)
    assert not text.strip() or text.strip() not in str(caught.value)


texts = st.text(min_size=1, max_size=200)


@given(texts)
def test_a_mask_shows_at_most_four_at_each_end_and_half_of_all(text: str) -> None:
    """Whatever the secret: what is shown is its beginning and its end, and never more than half of it."""
    shown = masked(text)
    first, _, last = shown.partition(MASK)
    if len(text) < 16:
        assert shown == MASK
    else:
        assert text.startswith(first)
        assert text.endswith(last)
        assert len(shown) - len(MASK) <= min(8, len(text) // 2)


@given(st.dictionaries(st.text(min_size=1, max_size=5), texts, max_size=4))
def test_every_string_of_a_secret_is_masked(secret: dict[str, str]) -> None:
    """Names stay, values do not."""
    assert mask(secret) == {name: masked(text) for name, text in secret.items()}
    assert masked("12345678") == MASK
