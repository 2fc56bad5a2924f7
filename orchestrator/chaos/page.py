"""The report as one page that needs nothing else: no script, no network, plots drawn as SVG."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from orchestrator.chaos.judge import deprovision_seconds
from orchestrator.chaos.report import Outcome

WIDTH, HEIGHT, LEFT, BOTTOM = 900, 220, 60, 30
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 960px; margin: 2em auto; padding: 0 1em; color: #1b1f24 }
table { border-collapse: collapse } td, th { padding: .15em .8em .15em 0; text-align: left; vertical-align: top }
td.number { text-align: right } .good { color: #116329 } .bad { color: #a40e26 } code { background: #f0f2f4 }
svg { width: 100%; height: auto } svg text { font: 12px system-ui, sans-serif; fill: #57606a }
"""


def page(outcome: Outcome, figures: Mapping[str, Any]) -> str:
    """The whole document."""
    violations = outcome.violations
    verdict = (
        f'<p class="bad"><strong>{len(violations)} violations</strong></p>'
        f"<ul>{''.join(f'<li>{escape(one)}</li>' for one in violations)}</ul>"
        if violations
        else '<p class="good"><strong>No violation.</strong></p>'
    )
    flat = {name: value for name, value in figures.items() if not isinstance(value, dict | list)}
    nested = {name: value for name, value in figures.items() if isinstance(value, dict)}
    parts = [
        f"<!doctype html><html lang='en'><head><meta charset='utf-8'><title>Chaos run {outcome.seed}</title>",
        f"<style>{STYLE}</style></head><body><h1>Chaos run, seed {outcome.seed}</h1>",
        verdict,
        f"<p>Play it again: <code>{escape(str(figures['command']))}</code></p>",
        "<h2>Calls a second, and blows</h2>",
        _calls(outcome),
        "<h2>Time to deprovision</h2>",
        _curve(deprovision_seconds(outcome.evidence)),
        "<h2>Figures</h2>",
        _table(flat.items()),
        *(f"<h3>{escape(_words(name))}</h3>{_table(value.items())}" for name, value in nested.items()),
        "<h2>Blows</h2>",
        _table(
            (f"{blow.at - outcome.started_at:.1f} s", f"{blow.what} {blow.whom} for {blow.seconds:.1f} s")
            for blow in outcome.blows
        ),
        "</body></html>",
    ]
    return "\n".join(parts)


def _calls(outcome: Outcome) -> str:
    """A bar for each second; grey answers well, red lines are kills, blue bands are pauses."""
    deeds = [deed for found in outcome.evidence.deeds.values() for deed in found]
    calls = Counter(int(deed.at - outcome.started_at) for deed in deeds)
    faulty = Counter(int(deed.at - outcome.started_at) for deed in deeds if deed.fault)
    length = max([*calls, int(outcome.healed_at - outcome.started_at)], default=1) + 1
    most = max([*calls.values(), 1])
    step = (WIDTH - LEFT) / length
    shapes = []
    for blow in outcome.blows:
        x = LEFT + (blow.at - outcome.started_at) * step
        title = f"<title>{escape(blow.what)} {escape(blow.whom)}</title>"
        if blow.what == "pause":
            width = blow.seconds * step
            shapes.append(_rectangle(x, 0, width, HEIGHT - BOTTOM, "#b6d5ff", title))
        else:
            shapes.append(
                f'<line x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{HEIGHT - BOTTOM}" stroke="#cf222e">{title}</line>'
            )
    for second, count in sorted(calls.items()):
        for value, colour in ((count, "#8c959f"), (faulty[second], "#d4a72c")):
            height = value / most * (HEIGHT - BOTTOM)
            shapes.append(
                _rectangle(LEFT + second * step, HEIGHT - BOTTOM - height, max(step - 1, 0.5), height, colour, "")
            )
    healed = LEFT + (outcome.healed_at - outcome.started_at) * step
    shapes.append(
        f'<line x1="{healed:.1f}" x2="{healed:.1f}" y1="0" y2="{HEIGHT - BOTTOM}" stroke="#116329" '
        'stroke-dasharray="4"><title>peace</title></line>'
    )
    legend = "grey: calls; yellow: with a fault; red lines: kills; blue: pauses; green: peace"
    return _svg(shapes, f"{most}", "0", "0 s", f"{length} s") + f"<p>{legend}</p>"


def _curve(took: Sequence[float]) -> str:
    """Which share was out within how long."""
    if not took:
        return "<p>Nobody had to leave.</p>"
    longest = max(took[-1], 0.001)
    points = [
        f"{LEFT + seconds / longest * (WIDTH - LEFT):.1f},{(HEIGHT - BOTTOM) * (1 - number / len(took)):.1f}"
        for number, seconds in enumerate(took, 1)
    ]
    start = f"{LEFT},{HEIGHT - BOTTOM}"
    line = f'<polyline fill="none" stroke="#0969da" stroke-width="2" points="{start} {" ".join(points)}"/>'
    return _svg([line], "100 %", "0 %", "0 s", f"{longest:.1f} s")


def _svg(shapes: Iterable[str], top: str, zero: str, first: str, last: str) -> str:
    floor = HEIGHT - BOTTOM
    axis = f'<path d="M{LEFT} 0V{floor}H{WIDTH}" fill="none" stroke="#57606a"/>'
    texts = (
        f'<text x="{LEFT - 6}" y="12" text-anchor="end">{top}</text>'
        f'<text x="{LEFT - 6}" y="{floor}" text-anchor="end">{zero}</text>'
        f'<text x="{LEFT}" y="{HEIGHT - 10}">{first}</text>'
        f'<text x="{WIDTH}" y="{HEIGHT - 10}" text-anchor="end">{last}</text>'
    )
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img">{"".join(shapes)}{axis}{texts}</svg>'


def _rectangle(x: float, y: float, width: float, height: float, colour: str, inner: str) -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"'
    return f'<rect {place} fill="{colour}">{inner}</rect>'


def _table(rows: Iterable[tuple[str, Any]]) -> str:
    cells = "".join(
        f'<tr><td>{escape(_words(name))}</td><td class="number">{escape(str(value))}</td></tr>' for name, value in rows
    )
    return f"<table>{cells}</table>"


def _words(name: str) -> str:
    return name.replace("_", " ")
