"""The course of a replay as pictures: lines of blocks for a terminal, and a drawing (SVG) for a page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from typing import NamedTuple

from mesh.simulation.report import Moment, Report

BLOCKS = " ▁▂▃▄▅▆▇█"
ROWS = 4
"""Lines of a curve in a terminal."""
WIDTH, HEIGHT, MARGIN, GAP = 720, 110, 70, 34
"""Of one curve in a drawing, in its units; `GAP` has the title of the next."""


class Curve(NamedTuple):
    """One figure over time; `top` is where its axis ends, None for the greatest value."""

    title: str
    value: Callable[[Moment], float]
    top: float | None = None
    unit: str = ""


CURVES = (
    Curve("hit rate", lambda moment: 100 * moment.hits / moment.calls if moment.calls else 0.0, 100.0, " %"),
    Curve("calls", lambda moment: moment.calls),
    Curve("loads", lambda moment: moment.loads),
    Curve("evictions", lambda moment: moment.evictions),
    Curve("copies", lambda moment: moment.copies),
    Curve("memory used", lambda moment: moment.used / (1 << 20), None, " MiB"),
)


def terminal(report: Report) -> list[str]:
    """Each curve as lines of text, the time from left to right."""
    lines = []
    for curve in CURVES:
        values = [curve.value(moment) for moment in report.moments]
        top = _top(curve, values)
        lines.append(f"{curve.title}, up to {top:.6g}{curve.unit}")
        lines += [f"  │{line}" for line in blocks(values, top)]
        lines.append(f"  └{'─' * len(values)}")
    lines.append(f"   0{report.moments[-1].at:>{len(report.moments) - 1}.6g} s")
    return lines


def blocks(values: Sequence[float], top: float, rows: int = ROWS) -> list[str]:
    """Columns as high as their values, in eighths of a line; from the top line down."""
    eighths = [round(min(1.0, value / top) * rows * 8) if top else 0 for value in values]
    return ["".join(BLOCKS[max(0, min(8, high - row * 8))] for high in eighths) for row in reversed(range(rows))]


def svg(report: Report, title: str) -> str:
    """All curves below each other as a drawing."""
    height = GAP + len(CURVES) * (HEIGHT + GAP) + 10
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH + MARGIN + 20} {height}" font-family="sans-serif" font-size="12">',
        f'<rect width="100%" height="100%" fill="white"/><text x="{MARGIN}" y="20" font-size="14">{escape(title)}</text>',
    ]
    for number, curve in enumerate(CURVES):
        parts.append(_drawn(curve, report.moments, GAP + number * (HEIGHT + GAP) + GAP / 2))
    parts.append(f'<text x="{MARGIN + WIDTH}" y="{height - 4}" text-anchor="end">{report.moments[-1].at:.6g} s</text></svg>\n')
    return "\n".join(parts)


def _drawn(curve: Curve, moments: Sequence[Moment], above: float) -> str:
    values = [curve.value(moment) for moment in moments]
    top, step = _top(curve, values), WIDTH / len(moments)
    points = [
        f"{MARGIN + (number + 0.5) * step:.1f},{above + HEIGHT * (1 - value / top if top else 1):.1f}"
        for number, value in enumerate(values)
    ]
    ends = f"{MARGIN + WIDTH - step / 2:.1f},{above + HEIGHT} {MARGIN + step / 2:.1f},{above + HEIGHT}"
    return (
        f'<text x="{MARGIN}" y="{above - 4}">{escape(curve.title)}</text>'
        f'<text x="{MARGIN - 6}" y="{above + 10}" text-anchor="end">{top:.6g}{escape(curve.unit)}</text>'
        f'<text x="{MARGIN - 6}" y="{above + HEIGHT}" text-anchor="end">0</text>'
        f'<rect x="{MARGIN}" y="{above}" width="{WIDTH}" height="{HEIGHT}" fill="none" stroke="#ccc"/>'
        f'<polygon points="{" ".join(points)} {ends}" fill="#cfe3f7"/>'
        f'<polyline points="{" ".join(points)}" fill="none" stroke="#1f6fb4" stroke-width="1.5"/>'
    )


def _top(curve: Curve, values: Sequence[float]) -> float:
    return max(values, default=0.0) if curve.top is None else curve.top
