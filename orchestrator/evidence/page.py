"""A report as one printable HTML page that needs nothing else: no script, no font, no picture from anywhere.

Every value goes through MarkupSafe, which escapes whatever is not markup of ours.
"""

from collections.abc import Iterator
from datetime import UTC, datetime

from markupsafe import Markup

from orchestrator.evidence.reports.base import Cell, Finished, Row
from orchestrator.evidence.tables import describe

_STYLE = Markup("""
:root { color-scheme: light; }
body { font: 14px/1.45 system-ui, sans-serif; color: #1a1a1a; background: #fff; margin: 2rem auto; max-width: 100rem;
  padding: 0 1.5rem; }
h1 { font-size: 1.5rem; margin: 0 0 .25rem; }
h2 { font-size: 1.05rem; margin: 1.75rem 0 .5rem; }
p.query { max-width: 60rem; margin: .25rem 0 1rem; color: #333; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1.25rem; margin: 0; }
dt { color: #555; }
dd { margin: 0; overflow-wrap: anywhere; font-variant-numeric: tabular-nums; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 12.5px; font-variant-numeric: tabular-nums; }
th, td { text-align: left; vertical-align: top; padding: .3rem .5rem; border-bottom: 1px solid #ddd; }
th { border-bottom: 2px solid #555; position: sticky; top: 0; background: #fff; }
td { overflow-wrap: break-word; }
td.time { min-width: 5rem; }
td.long { min-width: 11rem; overflow-wrap: anywhere; }
td.number { text-align: right; }
td.bad { background: #fde8e8; font-weight: 600; }
td.open { background: #fff4d6; }
ul { margin: 0; padding-left: 1.2rem; }
footer { margin-top: 2rem; color: #555; font-size: 12px; max-width: 60rem; }
@page { size: A4 landscape; margin: 12mm; }
@media print {
  body { margin: 0; padding: 0; max-width: none; font-size: 10px; }
  table { font-size: 7px; }
  th, td { padding: .12rem .22rem; }
  th { position: static; }
  td.time { min-width: 0; }
  td.long { min-width: 22mm; }
  thead { display: table-header-group; }
  tr { break-inside: avoid; }
  .scroll { overflow: visible; }
  td.bad, td.open { -webkit-print-color-adjust: exact; print-color-adjust: exact; }
}
""")

_HEAD = Markup("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<h1>{title}</h1>
<p class="query">{query}</p>
<dl>
{facts}</dl>
<h2>{rows}</h2>
<div class="scroll"><table>
<thead><tr>{columns}</tr></thead>
<tbody>
""")
_FOOT = Markup("""</tbody>
</table></div>
<h2>Controls that this supports</h2>
<ul>
{controls}</ul>
<footer>Times are in UTC. Made from the audit log alone: {check}</footer>
</body>
</html>
""")
_FACT = Markup("<dt>{}</dt><dd>{}</dd>\n")
_HEADING = Markup('<th scope="col">{}</th>')
_CELL = Markup("<td{}>{}</td>")
_LINE = Markup("<tr>{}</tr>\n")
_ITEM = Markup("<li>{}</li>\n")

_FACTS = {
    "from": "From",
    "to": "Until",
    "cutoff": "Cutoff",
    "app": "Application",
    "person": "Person",
    "limit_seconds": "Limit in seconds",
    "rows": "Rows",
    "summary": "Summary",
    "first_entry": "First entry",
    "last_entry": "Last entry",
    "entries_up_to_cutoff": "Entries up to the cutoff",
    "checkpoint_size": "Checkpoint size",
    "checkpoint_root": "Checkpoint root",
}
_BAD, _OPEN = ("no", "parked", "rejected"), ("open", "held", "unsure", "pending")
_LONG = ("event_id", "groups", "known_later", "reason", "exception_reason")
_JUDGED = ("within_limit", "outcome", "access", "status", "stopped", "ended_by")
_NO_ROOT = "the log has no signed checkpoint, so nothing proves that it is whole."
_ROOT = "the root of the checkpoint names every entry in it; jml audit verify checks both."


def page(finished: Finished) -> Iterator[str]:
    """The page in pieces, so that a long one need not be in memory twice."""
    report, facts = finished.report, describe(finished)
    facts["checkpoint_root"] = facts["checkpoint_root"] or "none"
    shown = ((title, facts[name]) for name, title in _FACTS.items() if facts.get(name) is not None)
    columns = Markup("").join(_HEADING.format(one.title) for one in report.columns)
    yield _HEAD.format(
        title=report.title,
        style=_STYLE,
        query=report.query,
        facts=Markup("").join(_FACT.format(title, value) for title, value in shown),
        rows="1 row" if len(finished.rows) == 1 else f"{len(finished.rows):,} rows",
        columns=columns,
    )
    names = [one.name for one in report.columns]
    for row in finished.rows:
        yield _LINE.format(_cells(names, row))
    controls = Markup("").join(_ITEM.format(one) for one in facts["controls"])
    yield _FOOT.format(controls=controls, check=_NO_ROOT if finished.root is None else _ROOT)


def _cells(names: list[str], row: Row) -> Markup:
    return Markup("").join(_CELL.format(_kind(name, cell), _shown(cell)) for name, cell in zip(names, row, strict=True))


def _kind(name: str, cell: Cell) -> Markup:
    if isinstance(cell, datetime):
        return Markup(' class="time"')
    if isinstance(cell, int | float):
        return Markup(' class="number"')
    if name in _LONG and cell:
        return Markup(' class="long"')
    if name in _JUDGED and isinstance(cell, str):
        word = cell.partition(":")[0]
        if word in _OPEN:
            return Markup(' class="open"')
        if word in _BAD and name != "access":
            return Markup(' class="bad"')
    return Markup("")


def _shown(cell: Cell) -> str:
    if cell is None:
        return ""
    if isinstance(cell, datetime):
        return f"{cell.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
    return f"{cell:,.3f}" if isinstance(cell, float) else str(cell)
