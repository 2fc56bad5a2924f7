"""The report as one page that needs nothing else: no script, no network, plots drawn as SVG."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from orchestrator.bench.quantiles import quantile
from orchestrator.chaos.evidence import Blow
from orchestrator.chaos.report import Outcome
from orchestrator.chaos.times import Left, recoveries

WIDTH, HEIGHT, LEFT, BOTTOM = 900, 220, 60, 30
BANDS = {"pause": "#b6d5ff"}
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
        _curves({"in the calm": _took(outcome.calm()), "in the trouble": _took(outcome.troubled())}),
        "<h2>Recovery</h2>",
        _recovery(recoveries(outcome.evidence)),
        "<h2>Figures</h2>",
        _table(flat.items()),
        *(f"<h3>{escape(_words(name))}</h3>{_table(_flat(value))}" for name, value in nested.items()),
        "<h2>Blows</h2>",
        _table(
            (f"{blow.begin - outcome.calm_at:.1f} s", f"{_said(blow)} for {blow.end - blow.begin:.1f} s")
            for blow in outcome.evidence.blows
        ),
        "</body></html>",
    ]
    return "\n".join(parts)


LINES = ("#0969da", "#cf222e")


def _said(blow: Blow) -> str:
    return f"{blow.what} {blow.whom}" + (f" by {blow.by:+.0f} s" if blow.by else "")


def _took(left: Sequence[Left]) -> list[float]:
    return sorted(one.took for one in left)


def _flat(values: Mapping[str, Any], before: str = "") -> Iterable[tuple[str, Any]]:
    """Nested figures as rows."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{name}: ")
        else:
            yield f"{before}{name}", value


def _calls(outcome: Outcome) -> str:
    """A bar for each second; grey answers well, red lines are kills, bands are everything that lasts."""
    begin = outcome.calm_at
    deeds = [deed for found in outcome.evidence.deeds.values() for deed in found]
    calls = Counter(int(deed.at - begin) for deed in deeds)
    faulty = Counter(int(deed.at - begin) for deed in deeds if deed.fault)
    length = max([*calls, int(outcome.healed_at - begin)], default=1) + 1
    most = max([*calls.values(), 1])
    step = (WIDTH - LEFT) / length
    shapes = []
    for blow in outcome.evidence.blows:
        x = LEFT + (blow.begin - begin) * step
        title = f"<title>{escape(_said(blow))}</title>"
        if blow.what == "kill" and blow.worker:
            shapes.append(
                f'<line x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{HEIGHT - BOTTOM}" stroke="#cf222e">{title}</line>'
            )
        else:
            colour = BANDS.get(blow.what, "#ffd8b5") if blow.worker else "#ffb8b0"
            shapes.append(_rectangle(x, 0, (blow.end - blow.begin) * step, HEIGHT - BOTTOM, colour, title))
    for second, count in sorted(calls.items()):
        for value, colour in ((count, "#8c959f"), (faulty[second], "#d4a72c")):
            height = value / most * (HEIGHT - BOTTOM)
            shapes.append(
                _rectangle(LEFT + second * step, HEIGHT - BOTTOM - height, max(step - 1, 0.5), height, colour, "")
            )
    for instant, what in ((outcome.started_at, "trouble begins"), (outcome.healed_at, "peace")):
        x = LEFT + (instant - begin) * step
        shapes.append(
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{HEIGHT - BOTTOM}" stroke="#116329" '
            f'stroke-dasharray="4"><title>{what}</title></line>'
        )
    legend = (
        "grey: calls; yellow: with a fault; red lines: killed roles; bands: what lasted (blue: frozen roles, "
        "red: broker and database, orange: disks, clocks, links); green: trouble begins, peace"
    )
    return _svg(shapes, f"{most}", "0", "0 s", f"{length} s") + f"<p>{legend}</p>"


def _curves(took: Mapping[str, Sequence[float]]) -> str:
    """Which share was out within how long."""
    longest = max([0.001, *(values[-1] for values in took.values() if values)])
    shapes, legend = [], []
    for (name, values), colour in zip(took.items(), LINES, strict=True):
        if not values:
            continue
        points = [
            f"{LEFT + seconds / longest * (WIDTH - LEFT):.1f},{(HEIGHT - BOTTOM) * (1 - number / len(values)):.1f}"
            for number, seconds in enumerate(values, 1)
        ]
        start = f"{LEFT},{HEIGHT - BOTTOM}"
        shapes.append(f'<polyline fill="none" stroke="{colour}" stroke-width="2" points="{start} {" ".join(points)}"/>')
        legend.append(f'<span style="color:{colour}">{name}: {len(values)}</span>')
    if not shapes:
        return "<p>Nobody had to leave.</p>"
    return _svg(shapes, "100 %", "0 %", "0 s", f"{longest:.1f} s") + f"<p>{', '.join(legend)}</p>"


def _recovery(found: Mapping[str, Sequence[float]]) -> str:
    """For each kind of blow a bar up to the longest recovery, darker up to the median."""
    if not found:
        return "<p>Nothing was struck that was seen at work again.</p>"
    longest = max([0.001, *(max(took) for took in found.values())])
    row = 22
    height, shapes = row * len(found) + BOTTOM, []
    for number, (kind, took) in enumerate(found.items()):
        ordered = sorted(took)
        for value, colour in ((ordered[-1], "#b6d5ff"), (quantile(ordered, 0.5), "#0969da")):
            width = value / longest * (WIDTH - 260)
            shapes.append(_rectangle(200, number * row + 4, max(width, 1), row - 8, colour, ""))
        text = f'<text x="194" y="{number * row + 15}" text-anchor="end">{escape(kind)}</text>'
        seconds = f'<text x="{WIDTH}" y="{number * row + 15}" text-anchor="end">{ordered[-1]:.1f} s</text>'
        shapes.append(text + seconds)
    return f'<svg viewBox="0 0 {WIDTH} {height}" role="img">{"".join(shapes)}</svg><p>dark: median; light: longest</p>'


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
