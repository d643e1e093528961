"""Lines and points as SVG that takes the page's colours and its font, light or dark."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 560, 300
LEFT, RIGHT, TOP, BOTTOM = 58, 14, 14, 44
COLOURS = tuple(f"var(--kd-{name})" for name in ("accent", "second", "third", "fourth", "fifth", "sixth"))
"""Of series, the student's first."""

DASHES = ("", "7 4", "2 4", "9 4 2 4")

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
        return (LEFT + _share(point[0], x_low, x_high, x.log) * (WIDTH - LEFT - RIGHT),
                HEIGHT - BOTTOM - _share(point[1], y_low, y_high, y.log) * (HEIGHT - TOP - BOTTOM))  # fmt: skip

    parts = [_grid(x, y, (x_low, x_high), (y_low, y_high), at)]
    if level:
        _, up = at((x_low, level[1]))
        parts.append(f'<line class="kd-level" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{up:.1f}" y2="{up:.1f}"/>'
                     f'<text class="kd-level-name" x="{WIDTH - RIGHT}" y="{up - 6 if up > 30 else up + 16:.1f}" '
                     f'text-anchor="end">{escape(level[0])}</text>')  # fmt: skip
    parts += [_line(each, [at(point) for point in points]) for each, points in sound]
    legend = "" if any(not each.width for each, _ in sound) else _legend([each for each, _ in sound])
    return (f'<svg class="kd-chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(alt, quote=True)}">'
            f"{''.join(parts)}</svg>{legend}")  # fmt: skip


def _sound(points: Sequence[Point], x: Axis, y: Axis) -> list[Point]:
    return [(across, up) for across, up in points
            if math.isfinite(across + up) and (across > 0 or not x.log) and (up > 0 or not y.log)]  # fmt: skip


def _share(value: float, low: float, high: float, log: bool) -> float:
    if log:
        return math.log(value / low) / (math.log(high / low) or 1.0)
    return (value - low) / (high - low or 1.0)


def _grid(x: Axis, y: Axis, across: Point, up: Point, at: Callable[[Point], Point]) -> str:
    """Lines at round values, these values, and the titles of the axes."""
    parts = []
    for value in y.ticks(*up):
        _, level = at((across[0], value))
        parts.append(f'<line class="kd-grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{level:.1f}" y2="{level:.1f}"/>'
                     f'<text x="{LEFT - 8}" y="{level + 4:.1f}" text-anchor="end">{_number(value)}</text>')  # fmt: skip
    for value in x.ticks(*across):
        place, _ = at((value, up[0]))
        parts.append(f'<text x="{place:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{_number(value)}</text>')
    middle = (TOP + HEIGHT - BOTTOM) / 2
    parts.append(f'<text class="kd-axis" x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 6}" text-anchor="middle">'
                 f'{escape(x.title)}</text><text class="kd-axis" transform="translate(13 {middle}) rotate(-90)" '
                 f'text-anchor="middle">{escape(y.title)}</text>')  # fmt: skip
    return "".join(parts)


def _line(series: Series, points: Sequence[Point]) -> str:
    if not series.width:
        across, up = points[0]
        return (f'<circle cx="{across:.1f}" cy="{up:.1f}" r="7" fill="{series.colour}"/><text class="kd-name" '
                f'x="{across:.1f}" y="{up - 13:.1f}" text-anchor="middle">{escape(series.label)}</text>')  # fmt: skip
    path = " ".join(f"{across:.1f},{up:.1f}" for across, up in points)
    dots = "".join(f'<circle cx="{across:.1f}" cy="{up:.1f}" r="3.5" fill="{series.colour}"/>' for across, up in points)
    return (f'<polyline points="{path}" fill="none" stroke="{series.colour}" stroke-width="{series.width}" '
            f'stroke-dasharray="{series.dash}" stroke-linejoin="round"/>{dots if series.dots else ""}')  # fmt: skip


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
