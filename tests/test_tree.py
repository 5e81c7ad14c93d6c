"""The Merkle tree of RFC 6962: known roots, and the right edge equal to the definition at every size."""

from base64 import b16decode

import pytest

from ledger.tree import EMPTY_ROOT, extend, leaf_hash, node_hash, pack, root, unpack

# The inputs and roots that Certificate Transparency's own tests use, sizes 1 to 8.
LEAVES = [
    b16decode(each)
    for each in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696A6B6C6D6E6F")
]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def merkle_tree_hash(leaves: list[bytes]) -> bytes:
    """MTH as RFC 6962 section 2.1 defines it, over leaf hashes."""
    if len(leaves) == 1:
        return leaves[0]
    k = 1 << (len(leaves) - 1).bit_length() - 1
    return node_hash(merkle_tree_hash(leaves[:k]), merkle_tree_hash(leaves[k:]))


@pytest.mark.parametrize("size", range(1, 9))
def test_known_roots(size: int) -> None:
    """The roots of the standard test leaves are the published ones."""
    edge: list[bytes] = []
    extend(0, edge, map(leaf_hash, LEAVES[:size]))
    assert root(edge).hex() == ROOTS[size - 1]


def test_the_empty_tree() -> None:
    """The root of no leaves is the hash of nothing."""
    assert root([]) == EMPTY_ROOT
    assert EMPTY_ROOT.hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_the_edge_gives_the_defined_root_at_every_size() -> None:
    """Grown leaf by leaf, the edge has one hash a set bit and the root is that of the definition."""
    leaves = [leaf_hash(str(n).encode()) for n in range(300)]
    edge: list[bytes] = []
    for size in range(1, 301):
        assert extend(size - 1, edge, leaves[size - 1 : size]) == size
        assert len(edge) == size.bit_count()
        assert root(edge) == merkle_tree_hash(leaves[:size])


@pytest.mark.parametrize("cut", [0, 1, 7, 64, 255, 256, 299, 300])
def test_growing_in_parts_changes_nothing(cut: int) -> None:
    """Leaves appended in two parts, with the edge stored in between, give the same edge."""
    leaves = [leaf_hash(str(n).encode()) for n in range(300)]
    whole: list[bytes] = []
    extend(0, whole, leaves)
    first: list[bytes] = []
    size = extend(0, first, leaves[:cut])
    second = unpack(pack(first))
    assert second == first
    assert extend(size, second, leaves[cut:]) == 300
    assert second == whole
