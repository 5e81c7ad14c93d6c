"""The RFC 6962 Merkle tree over entries: leaf hashes and the right edge that lets it grow.

The right edge of a tree of n leaves holds the roots of its perfect subtrees, one per set bit of n, largest first: at
most 64 hashes. Source: RFC 6962 section 2.1 (SHA-256).
"""

from collections.abc import Iterable
from hashlib import sha256

HASH_BYTES = 32
EMPTY_ROOT = sha256(b"").digest()


def leaf_hash(entry: bytes) -> bytes:
    """SHA-256 of 0x00 and the entry."""
    return sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """SHA-256 of 0x01 and the two children."""
    return sha256(b"\x01" + left + right).digest()


def extend(size: int, edge: list[bytes], leaves: Iterable[bytes]) -> int:
    """Append leaves to a tree of `size` leaves; `edge` changes in place. Returns the new size."""
    for leaf in leaves:
        node = leaf
        carry = size
        while carry & 1:
            node = node_hash(edge.pop(), node)
            carry >>= 1
        edge.append(node)
        size += 1
    return size


def root(edge: list[bytes]) -> bytes:
    """The tree's root hash."""
    if not edge:
        return EMPTY_ROOT
    node = edge[-1]
    for left in reversed(edge[:-1]):
        node = node_hash(left, node)
    return node


def pack(edge: list[bytes]) -> bytes:
    """The edge as one blob."""
    return b"".join(edge)


def unpack(blob: bytes) -> list[bytes]:
    """The edge from its blob."""
    return [blob[i : i + HASH_BYTES] for i in range(0, len(blob), HASH_BYTES)]
