"""The Merkle tree of a transparency log: hashes, roots, proofs and their verification. Pure, over hashlib.

Source: RFC 6962, section 2.1 (hashes, proofs) and RFC 9162, sections 2.1.3.2 and 2.1.4.2 (verification).
"""

from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256

HEIGHT = 8
WIDTH = 1 << HEIGHT
"""A tile holds this many hashes: a subtree of height 8 (C2SP tlog-tiles)."""
EMPTY_ROOT = sha256().digest()

Subtree = Callable[[int, int], bytes]
"""(height, index) -> the root of a perfect subtree: that of the leaves from `index << height` on."""


def leaf_hash(entry: bytes) -> bytes:
    """The hash of one entry."""
    return sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of two subtrees."""
    return sha256(b"\x01" + left + right).digest()


def perfect_root(hashes: Sequence[bytes]) -> bytes:
    """The root over 1, 2, 4, 8 ... hashes."""
    while len(hashes) > 1:
        pairs = iter(hashes)
        hashes = [sha256(b"\x01" + left + right).digest() for left, right in zip(pairs, pairs, strict=True)]
    return hashes[0]


def _split(size: int) -> int:
    """The largest power of two that is smaller than `size`."""
    return 1 << ((size - 1).bit_length() - 1)


def _range_root(start: int, end: int, subtree: Subtree) -> bytes:
    """MTH(D[start:end]) for a range that the recursion of RFC 6962 reaches."""
    size = end - start
    if size & (size - 1) == 0:
        return subtree(size.bit_length() - 1, start // size)
    middle = start + _split(size)
    return node_hash(_range_root(start, middle, subtree), _range_root(middle, end, subtree))


def root(size: int, subtree: Subtree) -> bytes:
    """The root of the first `size` leaves."""
    return _range_root(0, size, subtree) if size else EMPTY_ROOT


def inclusion_proof(index: int, size: int, subtree: Subtree) -> list[bytes]:
    """PATH(index, D[size]): from the leaf's sibling up. Raises ValueError for a leaf that the tree does not have."""
    if not 0 <= index < size:
        raise ValueError(f"a tree of {size} leaves has no leaf {index}")
    proof, start, end = [], 0, size
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            proof.append(_range_root(middle, end, subtree))
            end = middle
        else:
            proof.append(_range_root(start, middle, subtree))
            start = middle
    return proof[::-1]


def consistency_proof(old: int, size: int, subtree: Subtree) -> list[bytes]:
    """PROOF(old, D[size]). Empty for `old` 0 and for equal sizes. Raises ValueError where `old` is larger."""
    if not 0 <= old <= size:
        raise ValueError(f"a tree of {size} leaves cannot continue one of {old}")
    if old == 0:
        return []
    proof, start, end = [], 0, size
    while old != end:
        middle = start + _split(end - start)
        if old <= middle:
            proof.append(_range_root(middle, end, subtree))
            end = middle
        else:
            proof.append(_range_root(start, middle, subtree))
            start = middle
    if start > 0:
        proof.append(_range_root(start, end, subtree))
    return proof[::-1]


def includes(index: int, size: int, leaf: bytes, proof: Sequence[bytes], root_hash: bytes) -> bool:
    """Whether the proof shows that the tree has this leaf hash at `index` (RFC 9162, section 2.1.3.2)."""
    if not 0 <= index < size or len(leaf) != len(EMPTY_ROOT):
        return False
    node, last, found = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            return False
        if node & 1 or node == last:
            found = node_hash(sibling, found)
            while node and not node & 1:
                node, last = node >> 1, last >> 1
        else:
            found = node_hash(found, sibling)
        node, last = node >> 1, last >> 1
    return last == 0 and found == root_hash


def continues(old: int, old_root: bytes, size: int, root_hash: bytes, proof: Sequence[bytes]) -> bool:
    """Whether the proof shows that the tree of `size` begins with the one of `old` (RFC 9162, section 2.1.4.2).

    Every tree continues the empty one, whose root is known; there is nothing to prove then, nor for equal sizes.
    """
    if old == size or old == 0:
        known = (old, old_root) == (size, root_hash) or (old == 0 != size and old_root == EMPTY_ROOT)
        return known and not proof and (size > 0 or root_hash == EMPTY_ROOT)
    if not 0 < old < size or not proof:
        return False
    path = [old_root, *proof] if old & (old - 1) == 0 else list(proof)
    node, last = old - 1, size - 1
    while node & 1:
        node, last = node >> 1, last >> 1
    old_found = found = path[0]
    for sibling in path[1:]:
        if last == 0:
            return False
        if node & 1 or node == last:
            old_found, found = node_hash(sibling, old_found), node_hash(sibling, found)
            while node and not node & 1:
                node, last = node >> 1, last >> 1
        else:
            found = node_hash(found, sibling)
        node, last = node >> 1, last >> 1
    return last == 0 and old_found == old_root and found == root_hash


class Edge:
    """The right edge of a growing tree: of each level the hashes that fill no tile yet, fewer than 256 of each.

    It is all that is needed to go on, and to say the root.
    """

    def __init__(self, size: int = 0, levels: Iterable[Sequence[bytes]] = ()) -> None:
        self.size = size
        self.levels: list[list[bytes]] = [list(level) for level in levels]

    def extend(self, leaves: Iterable[bytes]) -> list[tuple[int, int, list[bytes]]]:
        """Add leaf hashes; returns the tiles that are full now, as (level, index, hashes)."""
        full: list[tuple[int, int, list[bytes]]] = []
        for leaf in leaves:
            if not self.levels:
                self.levels.append([])
            self.levels[0].append(leaf)
            self.size += 1
            if len(self.levels[0]) == WIDTH:
                self._carry(full)
        return full

    def _carry(self, full: list[tuple[int, int, list[bytes]]]) -> None:
        level = 0
        while len(self.levels[level]) == WIDTH:
            tile, self.levels[level] = self.levels[level], []
            full.append((level, (self.size >> HEIGHT * (level + 1)) - 1, tile))
            if level + 1 == len(self.levels):
                self.levels.append([])
            self.levels[level + 1].append(perfect_root(tile))
            level += 1

    def root(self) -> bytes:
        """The root of all leaves so far: perfect subtrees of falling size, joined from the right."""
        joined: bytes | None = None
        for hashes in self.levels:
            end = len(hashes)
            while end:
                size = end & -end
                left = perfect_root(hashes[end - size : end])
                joined = left if joined is None else node_hash(left, joined)
                end -= size
        return EMPTY_ROOT if joined is None else joined
