"""Draw plots as inline SVG; the page's style sheet has the colours, so they follow its theme."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

_WIDTH = 720
_LEFT, _RIGHT = 104, 56  # room for labels
_BAR = 22  # height of a row, bar and gap


def bars(
    rows: Sequence[tuple[str, Sequence[float]]],
    parts: Sequence[tuple[str, str]],
    longest: float,
    unit: str,
) -> str:
    """Draw a stacked horizontal bar for each row.

    Parameters
    ----------
    rows : sequence of (label, values)
        One value for each part.
    parts : sequence of (name, class)
        Names of the parts, and the style sheet's classes that colour them.
    longest : float
        The value at the right edge.
    unit : str
        "%" for shares, shown as percent, or the unit behind a number.
    """
    height = len(rows) * _BAR + 8
    scale = (_WIDTH - _LEFT - _RIGHT) / longest if longest else 0.0
    drawn = [_text(_LEFT - 8, i * _BAR + 18, row[0], "end") for i, row in enumerate(rows)]
    for i, (label, values) in enumerate(rows):
        x = float(_LEFT)
        for (name, style), value in zip(parts, values, strict=True):
            width = value * scale
            if width > 0.2:
                drawn.append(
                    f'<rect class="{style}" x="{x:.1f}" y="{i * _BAR + 4}" width="{width:.1f}"'
                    f' height="{_BAR - 5}"><title>{escape(label)}, {escape(name)}:'
                    f" {_number(value, unit)}</title></rect>"
                )
            x += width
        shown = values[0] if unit == "%" else sum(values)
        drawn.append(_text(min(x, _WIDTH - _RIGHT) + 6, i * _BAR + 18, _number(shown, unit)))
    legend = "".join(f'<span><i class="{style}"></i>{escape(name)}</span>' for name, style in parts)
    return f'<p class="legend">{legend}</p>' + _svg(height, drawn)


def line(
    values: Sequence[float],
    step: float,
    unit: str,
    highest: float = 0.0,
    height: int = 150,
) -> str:
    """Draw values over time, with the area below them filled.

    Parameters
    ----------
    values : sequence of float
    step : float
        Seconds between two values.
    unit : str
        Of the values, for the axis.
    highest : float
        The value at the upper edge, unless there is a higher one.
    height : int
        Of the picture in pixels.
    """
    if not values:
        return '<p class="note">too short to show</p>'
    top = _round_up(max(highest, *values, 1e-9))
    bottom, inner = height - 22, height - 34
    wide = _WIDTH - _LEFT - _RIGHT
    seconds = len(values) * step

    def y(value: float) -> float:
        return bottom - inner * value / top

    points = [
        f"{_LEFT + wide * (i + side) / len(values):.1f},{y(value):.1f}"
        for i, value in enumerate(values)
        for side in (0, 1)
    ]
    drawn = []
    for value in (0.0, top / 2, top):
        drawn.append(
            f'<line class="grid" x1="{_LEFT}" x2="{_LEFT + wide}" y1="{y(value):.1f}"'
            f' y2="{y(value):.1f}"/>'
        )
        drawn.append(_text(_LEFT - 8, y(value) + 4, _number(value, unit), "end"))
    ends = f"{_LEFT},{bottom} {' '.join(points)} {_LEFT + wide},{bottom}"
    drawn.append(f'<polygon class="area" points="{ends}"/>')
    drawn.append(f'<polyline class="line" points="{" ".join(points)}"/>')
    tick = _round_up(seconds / 6)
    for i in range(int(seconds / tick + 1e-9) + 1):
        x = _LEFT + wide * i * tick / seconds
        drawn.append(_text(x, height - 5, f"{i * tick:g} s", "middle"))
    return _svg(height, drawn)


def histogram(
    bins: Sequence[Sequence[float]], marks: Sequence[tuple[str, float]], unit: str
) -> str:
    """Draw how often each value occurred, on a logarithmic axis.

    Parameters
    ----------
    bins : sequence of (value, count)
        Ascending.
    marks : sequence of (label, value)
        Values to mark.
    unit : str
        Of the values.
    """
    if not bins:
        return '<p class="note">nothing measured</p>'
    height, bottom, top = 170, 140, 34
    low, high = bins[0][0] / 1.1, bins[-1][0] * 1.1
    wide, most = _WIDTH - _LEFT - _RIGHT, max(count for _, count in bins)

    def x(value: float) -> float:
        return _LEFT + wide * math.log(value / low) / math.log(high / low)

    drawn = [f'<line class="grid" x1="{_LEFT}" x2="{_LEFT + wide}" y1="{bottom}" y2="{bottom}"/>']
    for value, count in bins:
        tall = (bottom - top) * count / most
        begin, end = x(value / 1.01), x(value * 1.01)
        drawn.append(
            f'<rect class="busy" x="{begin:.1f}" y="{bottom - tall:.1f}"'
            f' width="{max(end - begin, 1.5):.1f}" height="{tall:.1f}"><title>'
            f"{_number(value, unit)}: {count:g} frames</title></rect>"
        )
    for i, (label, value) in enumerate(marks):
        at = x(min(max(value, low), high))
        drawn.append(
            f'<line class="mark" x1="{at:.1f}" x2="{at:.1f}" y1="{14 * i + 4}" y2="{bottom}"/>'
        )
        drawn.append(_text(at + 5, 14 * i + 13, f"{label} {_number(value, unit)}"))
    for value in _ticks(low, high):
        drawn.append(_text(x(value), bottom + 18, _number(value, unit), "middle"))
    return _svg(height, drawn)


def _ticks(low: float, high: float) -> list[float]:
    """Return at least one round value between two values, for a logarithmic axis."""
    found = [
        factor * 10.0**power
        for power in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        for factor in (1, 2, 3, 5, 7)
    ]
    inside = [value for value in found if low <= value <= high]
    return inside or [math.sqrt(low * high)]


def _round_up(value: float) -> float:
    """Return the next of 1, 2, 5, 10, 20, ..."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= value * 0.9999)


def _number(value: float, unit: str) -> str:
    if unit == "%":
        return f"{value:.0%}"
    shown = f"{value:.0f}" if value >= 100 or value == int(value) else f"{value:.1f}"
    return f"{shown} {unit}".rstrip()


def _text(x: float, y: float, text: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _svg(height: int, drawn: Sequence[str]) -> str:
    return f'<svg viewBox="0 0 {_WIDTH} {height}" role="img">{"".join(drawn)}</svg>'
