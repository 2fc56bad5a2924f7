"""What a writer knows of the log, derived from the files and from nothing else.

It refuses to go on where the files contradict each other: whatever it signed after that would hide what happened.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from orchestrator.adapters.audit_log.files import DurableFolder
from orchestrator.adapters.audit_log.reading import load_tile, read_entries
from orchestrator.adapters.audit_log.seen import SNAPSHOT, Seen, load_snapshot
from orchestrator.domain.audit_entry import Unfit, read_entry
from orchestrator.domain.merkle import EMPTY_ROOT, HEIGHT, WIDTH, Edge, leaf_hash
from orchestrator.domain.merkle import root as root_of
from orchestrator.domain.signed_note import NoteError, SigningKey, parse_note
from orchestrator.domain.tlog import (
    CHECKPOINT,
    HISTORY,
    Checkpoint,
    Damaged,
    Tiles,
    bundle_path,
    encode_frame,
    journal_path,
    parse_checkpoint,
    parse_journal,
    parse_tile,
    split_history,
    tile_path,
)
from orchestrator.errors import AuditLogDamaged

HISTORY_END = 64 << 10
"""More than one checkpoint with all its signatures."""


@dataclass
class Recovered:
    """The right edge of the tree, the entries of the bundle that it ends in, and what none of the files has yet."""

    checkpoint: Checkpoint
    note: bytes
    history: bytes
    """The last checkpoint of the history; after a crash it may be ahead of `note`."""
    seen: Seen
    snapshot_size: int
    edge: Edge
    held: list[bytes]
    """The entries from the last full bundle below the checkpoint on."""
    full: list[tuple[int, int, list[bytes]]] = field(default_factory=list)
    """Tiles that became full since the checkpoint."""

    def take(self, entries: list[bytes]) -> None:
        """Entries that are in the journal."""
        self.full += self.edge.extend([leaf_hash(entry) for entry in entries])
        self.held += entries

    def covered(self, checkpoint: Checkpoint, note: bytes) -> None:
        """A checkpoint over all of them is on the disk."""
        del self.held[: (checkpoint.size // WIDTH - self.checkpoint.size // WIDTH) * WIDTH]
        self.checkpoint, self.note, self.history = checkpoint, note, note
        self.full = []

    def outgrown(self) -> Iterator[str]:
        """Folders of partial tiles and bundles that full ones have replaced."""
        for level, index, _ in self.full:
            yield f"{tile_path(level, index)}.p"
            if level == 0:
                yield f"{bundle_path(index)}.p"


def recover(disk: DurableFolder, key: SigningKey) -> Recovered:
    """Read what is there, and make the journal durable: who wrote it may have died before it was.

    Raises AuditLogDamaged, OSError.
    """
    note = disk.read(CHECKPOINT)
    history = _history(disk)
    checkpoint = _checkpoint(disk, key, note)
    edge = _edge(disk, checkpoint)
    held = [entry for _, entry in read_entries_of(disk, checkpoint.size - checkpoint.size % WIDTH, checkpoint.size)]
    if edge.levels and [leaf_hash(entry) for entry in held] != edge.levels[0]:
        raise AuditLogDamaged(f"the last entries in {disk.folder} are not those of its checkpoint")
    entries, _ = parse_journal(disk.read(journal_path(checkpoint.size)) or b"", checkpoint.size)
    _clear_journals(disk, checkpoint.size, entries)
    seen, snapshot_size = _seen(disk, checkpoint)
    state = Recovered(checkpoint, note or b"", history, seen, snapshot_size, edge, held)
    for entry in entries:
        seen.note(_entry(disk, entry))
    _retrace(disk, state, entries)
    return state


def read_entries_of(disk: DurableFolder, start: int, end: int) -> Iterator[tuple[int, bytes]]:
    """The entries of a range that a checkpoint covers."""
    for position, entry in read_entries(disk.folder, start):
        if position >= end:
            return
        yield position, entry


def _checkpoint(disk: DurableFolder, key: SigningKey, data: bytes | None) -> Checkpoint:
    if data is None:
        return Checkpoint(key.name, 0, EMPTY_ROOT)
    try:
        note = parse_note(data)
        checkpoint = parse_checkpoint(note.text)
        key.verifier.signed(note)  # raises when it bears our signature falsely; an older key's is for `verify` to judge
    except NoteError as error:
        raise AuditLogDamaged(f"{disk.folder / CHECKPOINT} is damaged: {error}") from None
    if checkpoint.origin != key.name:
        raise AuditLogDamaged(
            f"the audit log in {disk.folder} is that of {checkpoint.origin}, and the key is {key.name}'s: a log keeps"
            " its origin for ever; name another [audit] dir, or the right key"
        )
    return checkpoint


def _edge(disk: DurableFolder, checkpoint: Checkpoint) -> Edge:
    levels, load = [], load_tile(disk.folder)
    level = 0
    while count := checkpoint.size >> HEIGHT * level:
        index, width = divmod(count, WIDTH)
        path = tile_path(level, index, width) if width else ""
        try:
            levels.append(parse_tile(load(path), width) if width else [])
        except (Damaged, FileNotFoundError) as error:
            raise AuditLogDamaged(f"{disk.folder / path} is damaged or missing: {error}") from None
        level += 1
    edge = Edge(checkpoint.size, levels)
    if edge.root() != checkpoint.root:
        raise AuditLogDamaged(
            f"the tiles in {disk.folder} do not have the root of its checkpoint: see `jml audit verify`"
        )
    return edge


def _history(disk: DurableFolder) -> bytes:
    """The last checkpoint of the history. What is not finished at its end was being written by a process that died."""
    path = disk.folder / HISTORY
    if not path.exists():
        return b""
    with path.open("r+b") as file:
        size = file.seek(0, 2)
        start = max(0, size - HISTORY_END)
        file.seek(start)
        data = file.read()
        if start:  # within a note: the next one begins after a signature line and an empty line
            skipped = data.find(b"\n\n", data.find("\n— ".encode())) + 2
            start, data = start + skipped, data[skipped:]
        notes = list(split_history(data))
        whole = sum(len(note) + 1 for note in notes)
        if start + whole != size:
            file.truncate(start + whole)
    return notes[-1] if notes else b""


def _clear_journals(disk: DurableFolder, size: int, entries: list[bytes]) -> None:
    disk.write({journal_path(size): encode_frame(size, entries) if entries else b""})
    for path in (disk.folder / journal_path(0)).parent.iterdir():
        if path.name != journal_path(size).rpartition("/")[2]:
            path.unlink()


def _seen(disk: DurableFolder, checkpoint: Checkpoint) -> tuple[Seen, int]:
    seen, size, root = load_snapshot(disk.read(SNAPSHOT))
    if size > checkpoint.size or (size and root_of(size, Tiles(checkpoint.size, load_tile(disk.folder))) != root):
        seen, size = Seen(), 0
    for _, entry in read_entries_of(disk, size, checkpoint.size):
        seen.note(_entry(disk, entry))
    return seen, size


def _entry(disk: DurableFolder, record: bytes) -> dict[str, object]:
    try:
        return read_entry(record)
    except Unfit as unfit:
        raise AuditLogDamaged(f"{disk.folder} holds what is no entry ({unfit}): see `jml audit verify`") from None


def _retrace(disk: DurableFolder, state: Recovered, entries: list[bytes]) -> None:
    """Take the journal's entries. What was signed last has to come out again, or another tree would be signed."""
    signed = state.checkpoint
    if state.history:
        try:
            signed = parse_checkpoint(parse_note(state.history).text)
        except NoteError as error:
            raise AuditLogDamaged(f"{disk.folder / HISTORY} is damaged: {error}") from None
    behind = signed.size - state.checkpoint.size
    if behind > len(entries):
        raise AuditLogDamaged(
            f"{disk.folder} holds {state.checkpoint.size + len(entries)} entries and a checkpoint of {signed.size} was"
            " signed: an old state was put back. Restore the newest one"
        )
    state.take(entries[: max(behind, 0)])
    if behind >= 0 and (state.edge.size, state.edge.root()) != (signed.size, signed.root):
        raise AuditLogDamaged(f"the entries in {disk.folder} are not those of the last checkpoint that was signed")
    state.take(entries[max(behind, 0) :])
