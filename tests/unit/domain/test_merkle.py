"""The Merkle tree against what RFC 6962's implementations publish, and against the RFC's definition taken literally."""

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.domain.merkle import (
    EMPTY_ROOT,
    WIDTH,
    Edge,
    consistency_proof,
    continues,
    includes,
    inclusion_proof,
    leaf_hash,
    node_hash,
    perfect_root,
    root,
)

VECTORS = json.loads((Path(__file__).parents[2] / "samples/merkle/proofs.json").read_text())

LEAVES = [
    bytes.fromhex(one)
    for one in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
]
"""The leaves of Certificate Transparency's reference tests, and the roots of the trees of 0 to 8 of them."""
ROOTS = [
    bytes.fromhex(one)
    for one in (
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    )
]


# --- the definition, word for word ------------------------------------------------------------------------------------


def mth(entries: list[bytes]) -> bytes:
    """RFC 6962, section 2.1."""
    if not entries:
        return EMPTY_ROOT
    if len(entries) == 1:
        return leaf_hash(entries[0])
    k = largest_below(len(entries))
    return node_hash(mth(entries[:k]), mth(entries[k:]))


def path(m: int, entries: list[bytes]) -> list[bytes]:
    """RFC 6962, section 2.1.1."""
    if len(entries) == 1:
        return []
    k = largest_below(len(entries))
    if m < k:
        return [*path(m, entries[:k]), mth(entries[k:])]
    return [*path(m - k, entries[k:]), mth(entries[:k])]


def subproof(m: int, entries: list[bytes], known: bool) -> list[bytes]:
    """RFC 6962, section 2.1.2."""
    n = len(entries)
    if m == n:
        return [] if known else [mth(entries)]
    k = largest_below(n)
    if m <= k:
        return [*subproof(m, entries[:k], known), mth(entries[k:])]
    return [*subproof(m - k, entries[k:], False), mth(entries[:k])]


def largest_below(n: int) -> int:
    k = 1
    while k * 2 < n:
        k *= 2
    return k


def subtrees(entries: list[bytes]) -> Callable[[int, int], bytes]:
    def subtree(height: int, index: int) -> bytes:
        inside = entries[index << height : (index + 1) << height]
        assert len(inside) == 1 << height, "only perfect subtrees are asked for"
        return mth(inside)

    return subtree


def entries_of(size: int) -> list[bytes]:
    return [number.to_bytes(4, "big") for number in range(size)]


# --- what others publish ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", range(9))
def test_roots_are_those_of_certificate_transparency(size: int) -> None:
    assert root(size, subtrees(LEAVES[:size])) == ROOTS[size]
    edge = Edge()
    edge.extend(map(leaf_hash, LEAVES[:size]))
    assert edge.root() == ROOTS[size]


def decoded(case: dict[str, Any], name: str) -> Any:
    value = case[name]
    if name == "proof":
        return [base64.b64decode(one or "") for one in value or ()]
    return base64.b64decode(value or "")


@pytest.mark.parametrize("case", VECTORS["inclusion"], ids=lambda case: case["name"])
def test_inclusion_proofs_are_judged_as_published(case: dict[str, Any]) -> None:
    leaf, proof, root_hash = (decoded(case, name) for name in ("leafHash", "proof", "root"))
    assert includes(case["leafIdx"], case["treeSize"], leaf, proof, root_hash) is not case["wantErr"]


@pytest.mark.parametrize("case", VECTORS["consistency"], ids=lambda case: case["name"])
def test_consistency_proofs_are_judged_as_published(case: dict[str, Any]) -> None:
    old_root, root_hash, proof = (decoded(case, name) for name in ("root1", "root2", "proof"))
    if case["size1"] == 0:  # their test refuses to be asked; C2SP tlog-witness says what holds: no proof is needed
        assert continues(0, EMPTY_ROOT, case["size2"], root_hash, proof) is (not proof and case["size2"] > 0)
        return
    assert continues(case["size1"], old_root, case["size2"], root_hash, proof) is not case["wantErr"]


# --- edges ------------------------------------------------------------------------------------------------------------


def test_every_tree_continues_the_empty_one_and_itself() -> None:
    assert continues(0, EMPTY_ROOT, 5, ROOTS[5], [])
    assert continues(0, EMPTY_ROOT, 0, EMPTY_ROOT, [])
    assert continues(5, ROOTS[5], 5, ROOTS[5], [])
    assert not continues(0, ROOTS[1], 5, ROOTS[5], []), "the empty tree has one root"
    assert not continues(0, EMPTY_ROOT, 5, ROOTS[5], [ROOTS[1]]), "there is nothing to prove"
    assert not continues(0, ROOTS[1], 0, ROOTS[1], [])
    assert not continues(5, ROOTS[5], 5, ROOTS[6], [])
    assert not continues(5, ROOTS[5], 5, ROOTS[5], [ROOTS[1]])
    assert not continues(6, ROOTS[6], 5, ROOTS[5], [])
    assert not continues(3, ROOTS[3], 5, ROOTS[5], [])


def test_what_a_tree_does_not_have_cannot_be_proved() -> None:
    for index, size in ((0, 0), (5, 5), (-1, 5)):
        with pytest.raises(ValueError, match="has no leaf"):
            inclusion_proof(index, size, subtrees(LEAVES))
        assert not includes(index, size, leaf_hash(b""), [], ROOTS[1])
    with pytest.raises(ValueError, match="cannot continue"):
        consistency_proof(6, 5, subtrees(LEAVES))
    assert consistency_proof(0, 5, subtrees(LEAVES)) == consistency_proof(5, 5, subtrees(LEAVES)) == []


def test_no_tree_continues_a_larger_one() -> None:
    """By hashes alone one could: a tree of two whose first leaf hash is the root of three."""
    other = leaf_hash(b"x")
    assert not continues(3, ROOTS[3], 2, node_hash(ROOTS[3], other), [ROOTS[3], other])
    assert not continues(-1, ROOTS[3], 2, node_hash(ROOTS[3], other), [ROOTS[3], other])


# --- every tree -------------------------------------------------------------------------------------------------------


def test_every_proof_of_every_small_tree_holds() -> None:
    """Chance may miss the sizes in which a right edge has a particular shape."""
    entries = entries_of(40)
    roots = [mth(entries[:size]) for size in range(41)]
    for size in range(1, 41):
        tree = subtrees(entries[:size])
        for number in range(size):
            leaf, found = leaf_hash(entries[number]), inclusion_proof(number, size, tree)
            assert includes(number, size, leaf, found, roots[size]), (number, size)
            assert continues(number, roots[number], size, roots[size], consistency_proof(number, size, tree)), (
                number,
                size,
            )


@given(st.integers(1, 70).flatmap(lambda size: st.tuples(st.just(size), st.integers(0, size - 1))), st.data())
def test_inclusion_is_proved_and_nothing_else_is(place: tuple[int, int], data: st.DataObject) -> None:
    size, index = place
    entries = entries_of(size)
    proof, root_hash = inclusion_proof(index, size, subtrees(entries)), mth(entries)
    leaf = leaf_hash(entries[index])
    assert proof == path(index, entries)
    assert includes(index, size, leaf, proof, root_hash)
    other = data.draw(st.integers(0, size + 1))
    assert includes(other, size, leaf, proof, root_hash) is (other == index)
    for bad in mutated(proof, data):
        assert not includes(index, size, leaf, bad, root_hash)
    assert not includes(index, size, leaf_hash(b"other"), proof, root_hash)


@given(st.integers(0, 70).flatmap(lambda size: st.tuples(st.just(size), st.integers(0, size))), st.data())
def test_consistency_is_proved_and_nothing_else_is(place: tuple[int, int], data: st.DataObject) -> None:
    size, old = place
    entries = entries_of(size)
    proof = consistency_proof(old, size, subtrees(entries))
    old_root, root_hash = mth(entries[:old]), mth(entries)
    assert proof == ([] if old == 0 else subproof(old, entries, True))
    assert continues(old, old_root, size, root_hash, proof)
    for bad in mutated(proof, data):
        assert not continues(old, old_root, size, root_hash, bad)
    assert not continues(old, leaf_hash(b"other"), size, root_hash, proof)
    if old:
        assert not continues(old, old_root, size, leaf_hash(b"other"), proof)


def mutated(proof: list[bytes], data: st.DataObject) -> list[list[bytes]]:
    """One hash too many at either end, one too few, one that is another."""
    bad = [[*proof, leaf_hash(b"x")], [leaf_hash(b"x"), *proof]]
    if proof:
        place = data.draw(st.integers(0, len(proof) - 1))
        bad += [proof[:-1], proof[1:], [*proof[:place], leaf_hash(b"x"), *proof[place + 1 :]]]
    return bad


@given(st.lists(st.integers(0, 600), min_size=1, max_size=5))
def test_the_edge_goes_on_from_anywhere_and_fills_tiles(steps: list[int]) -> None:
    entries, edge = entries_of(sum(steps)), Edge()
    tiles: dict[tuple[int, int], list[bytes]] = {}
    done = 0
    for step in steps:
        leaves = [leaf_hash(one) for one in entries[done : done + step]]
        for level, index, hashes in edge.extend(leaves):
            assert (level, index) not in tiles
            tiles[level, index] = hashes
        done += step
        edge = Edge(edge.size, edge.levels)
        assert edge.root() == mth(entries[:done])
    assert sorted(index for level, index in tiles if level == 0) == list(range(done // WIDTH))
    for (level, index), hashes in tiles.items():
        span = WIDTH**level
        assert hashes == [mth(entries[(index * WIDTH + n) * span :][:span]) for n in range(WIDTH)]


def test_two_levels_of_tiles_are_filled() -> None:
    edge = Edge()
    full = edge.extend([leaf_hash(b"same")] * (WIDTH * WIDTH))
    assert [(level, index) for level, index, _ in full][-2:] == [(0, 255), (1, 0)]
    assert edge.root() == perfect_root(full[-1][2])
    assert [len(level) for level in edge.levels] == [0, 0, 1]
