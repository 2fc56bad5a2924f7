"""The audit log on a disk: a C2SP tiled transparency log, and the journal of what no checkpoint covers yet.

`TiledLog` writes it, `read_entries` and `latest_checkpoint` read it. Nothing of it is used by `audit_verify`, which has
to find what this package does wrong.
"""

from orchestrator.adapters.audit_log.reading import entries_end, latest_checkpoint, read_entries
from orchestrator.adapters.audit_log.writing import TiledLog

__all__ = ["TiledLog", "entries_end", "latest_checkpoint", "read_entries"]
