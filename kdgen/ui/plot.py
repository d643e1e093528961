"""Lines and points as SVG that takes the page's colours, its font and its width: text is as large on every screen."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

COLOURS = tuple(f"var(--kd-{name})" for name in ("accent", "second", "third", "fourth", "fifth", "sixth"))
"""Of series, the student's first."""

DASHES = ("", "7 4", "2 4", "9 4 2 4")

NEAR = 0.13
"""How far, of the height, a label beside a point reaches, and somewhat more."""

EDGE = 0.25
"""How near to a side, of the width, a label is set inwards."""

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Series:
    """A line of a chart.

    Attributes:
        label: in the legend.
        points: across and up.
        colour: of ``COLOURS``.
        dash: of ``DASHES``.
        width: of the line in pixels; 0 draws points alone, each with the label beside it.
        dots: whether every point is marked.
    """

    label: str
    points: Sequence[Point]
    colour: str
    dash: str = ""
    width: float = 2.0
    dots: bool = False


@dataclass(frozen=True, slots=True)
class Axis:
    """An axis: its title, whether it is logarithmic, and whether it begins at 0."""

    title: str
    log: bool = False
    zero: bool = False

    def over(self, values: Sequence[float]) -> tuple[float, float]:
        """The least and the largest value that it shows."""
        low, high = min(values), max(values)
        if self.log:
            return (low, high) if high > low else (low / 2, high * 2)
        low, high = (min(low, 0.0), max(high, 0.0)) if self.zero else (low, high)
        room = (high - low or abs(high) or 1.0) * 0.06
        return (low if self.zero and low == 0 else low - room), high + room

    def ticks(self, low: float, high: float) -> list[float]:
        """Round values between two."""
        if self.log:
            decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
            many = math.log10(high / low) > 2.5
            found = [m * 10.0**d for d in decades for m in ((1,) if many else (1, 2, 5)) if low <= m * 10.0**d <= high]
            return found if len(found) > 1 else [low, high]
        raw = (high - low) / 4
        size = 10.0 ** math.floor(math.log10(raw))
        step = next(size * m for m in (1, 2, 2.5, 5, 10) if size * m >= raw * 0.999)
        first = math.ceil(low / step - 1e-9)
        return [number * step for number in range(first, math.floor(high / step + 1e-9) + 1)]


def plot(series: Sequence[Series], x: Axis, y: Axis, alt: str, *, level: tuple[str, float] | None = None) -> str:
    """Lines with their legend; nothing where there is no point.

    Args:
        series: the lines; on logarithmic axes what is not above 0 is left out.
        x: the axis across.
        y: the axis up.
        alt: in place of the picture for those who do not see it.
        level: a horizontal line and its label.
    """
    sound = [(each, _sound(each.points, x, y)) for each in series]
    sound = [(each, points) for each, points in sound if points]
    if not sound:
        return ""
    ups = [up for _, points in sound for _, up in points] + ([level[1]] if level else [])
    across = [point[0] for _, points in sound for point in points]
    x_low, x_high = x.over(across) if x.log else (0.0 if x.zero else min(across), max(across) or 1.0)
    y_low, y_high = y.over(ups)
    if x.log and any(not each.width for each, _ in sound):
        x_low, x_high = x_low / 2.5, x_high * 2.5
        y_high += 0.12 * (y_high - y_low)

    def at(point: Point) -> Point:
        """Shares of the width and of the height, from the upper left."""
        return _share(point[0], x_low, x_high, x.log), 1 - _share(point[1], y_low, y_high, y.log)

    placed = [(each, [at(point) for point in points]) for each, points in sound]
    parts = [_grid(x, y, (x_low, x_high), (y_low, y_high))]
    at_level = None
    if level:
        at_level = at((x_low, level[1]))[1]
        parts.append(f'<line class="kd-level" x1="0" x2="100%" y1="{_percent(at_level)}" y2="{_percent(at_level)}"/>'
                     f'<text class="kd-level-name" x="100%" y="{_percent(at_level)}" dy="-6" text-anchor="end">'
                     f"{escape(level[0])}</text>")  # fmt: skip
    placed = placed[::-1]  # the first, which is the student's, on top
    lines = "".join(_line(each, points) for each, points in placed if each.width)
    if lines:
        parts.append(f'<svg width="100%" height="100%" viewBox="0 0 100 100" preserveAspectRatio="none">{lines}</svg>')
    parts += [_dots(each, points) if each.width else _named(each, points[0], at_level) for each, points in placed]
    legend = "" if any(not each.width for each, _ in sound) else _legend([each for each, _ in sound])
    return f'<svg class="kd-chart" role="img" aria-label="{escape(alt, quote=True)}">{"".join(parts)}</svg>{legend}'


def _sound(points: Sequence[Point], x: Axis, y: Axis) -> list[Point]:
    return [(across, up) for across, up in points
            if math.isfinite(across + up) and (across > 0 or not x.log) and (up > 0 or not y.log)]  # fmt: skip


def _share(value: float, low: float, high: float, log: bool) -> float:
    if log:
        return math.log(value / low) / (math.log(high / low) or 1.0)
    return (value - low) / (high - low or 1.0)


def _percent(share: float) -> str:
    return f"{100 * share:.2f}%"


def _grid(x: Axis, y: Axis, across: Point, up: Point) -> str:
    """Lines at round values, these values, and the titles of the axes."""
    parts = []
    for value in y.ticks(*up):
        level = _percent(1 - _share(value, *up, y.log))
        parts.append(f'<line class="kd-grid" x1="0" x2="100%" y1="{level}" y2="{level}"/>'
                     f'<text x="0" y="{level}" dx="-8" dy="4" text-anchor="end">{_number(value)}</text>')  # fmt: skip
    for value in x.ticks(*across):
        place = _percent(_share(value, *across, x.log))
        parts.append(f'<text x="{place}" y="100%" dy="18" text-anchor="middle">{_number(value)}</text>')
    parts.append(f'<text class="kd-axis" x="50%" y="100%" dy="38" text-anchor="middle">{escape(x.title)}</text>'
                 f'<text class="kd-axis" x="0" y="0" dx="-46" dy="-22">{escape(y.title)}</text>')  # fmt: skip
    return "".join(parts)


def _line(series: Series, points: Sequence[Point]) -> str:
    path = " ".join(f"{100 * across:.2f},{100 * up:.2f}" for across, up in points)
    return (f'<polyline points="{path}" fill="none" stroke="{series.colour}" stroke-width="{series.width}" '
            f'stroke-dasharray="{series.dash}" stroke-linejoin="round" '
            'vector-effect="non-scaling-stroke"/>')  # fmt: skip


def _dots(series: Series, points: Sequence[Point]) -> str:
    return "".join(f'<circle cx="{_percent(across)}" cy="{_percent(up)}" r="3.5" fill="{series.colour}"/>'
                   for across, up in points if series.dots)  # fmt: skip


def _named(series: Series, point: Point, level: float | None) -> str:
    """A point with its label: above it, or below where the label would meet the level; never beyond a side."""
    across, up = point
    below = level is not None and 0 <= up - level < NEAR
    anchor = "start" if across < EDGE else "end" if across > 1 - EDGE else "middle"
    return (f'<circle cx="{_percent(across)}" cy="{_percent(up)}" r="7" fill="{series.colour}"/><text class="kd-name" '
            f'x="{_percent(across)}" y="{_percent(up)}" dy="{24 if below else -13}" text-anchor="{anchor}">'
            f"{escape(series.label)}</text>")  # fmt: skip


def _legend(series: Sequence[Series]) -> str:
    lines = "".join(
        f'<li><svg width="26" height="8" aria-hidden="true"><line x1="0" x2="26" y1="4" y2="4" stroke="{each.colour}" '
        f'stroke-width="{max(each.width, 2)}" stroke-dasharray="{each.dash}"/></svg>{escape(each.label)}</li>'
        for each in series
    )
    return f"<ul class=kd-legend>{lines}</ul>"


def _number(value: float) -> str:
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size * (10 if letter == "k" else 1):
            return f"{value / size:.3g} {letter}"
    return f"{value:.6g}" if abs(value) >= 1e-4 or not value else f"{value:.0e}"
