"""The curves of a run and the trade-offs of models, drawn for the page."""

from collections.abc import Mapping, Sequence
from html import escape

from kdgen.metrics.columns import lower_is_better
from kdgen.metrics.signs import BOUNDS
from kdgen.report.loss_curves import NOT_TERMS, points_of, smooth
from kdgen.report.report import heading
from kdgen.ui.plot import COLOURS, DASHES, Axis, Point, Series, plot
from kdgen.ui.progress import Curves, Progress
from kdgen.ui.words import translated

POINTS = 240
"""How many points of a loss are drawn."""

SPREAD = 8.0
"""From how many times the least of a loss its largest is, it is drawn on a logarithmic axis."""

OF_PHASES = {"student": (COLOURS[0], DASHES[0]), "control_steps": (COLOURS[1], DASHES[1]),
             "control_seconds": (COLOURS[2], DASHES[2])}  # fmt: skip
OF_TERMS = [(COLOURS[3 + (number + turn) % 3], DASHES[1 + number]) for turn in range(3) for number in range(3)]
OTHER = (COLOURS[5], DASHES[3])


def figures(progress: Progress, words: Mapping[str, str]) -> str:
    """All curves of a run that there are, each with its title."""
    charts = [
        ("loss_title", loss_chart(progress.curves, words), ""),
        ("quality_title", quality_chart(progress.curves, progress.primary_metric, words), quick_note(progress, words)),
        ("signs_title", signs_chart(progress.curves, words), ""),
    ]
    return "".join(f"<figure class=kd-figure><figcaption>{escape(words[title])}</figcaption>{svg}{note}</figure>"
                   for title, svg, note in charts if svg)  # fmt: skip


def loss_chart(curves: Curves, words: Mapping[str, str]) -> str:
    """The loss of every phase and each term of the student's, smoothed, against seconds."""
    lines: list[Series] = []
    for phase, series in curves.items():
        steps, name = series["step"], words.get(phase, phase)
        terms = [key for key in (steps[-1]["data"] if steps else {}) if key not in NOT_TERMS]
        totals = _values(steps, "loss")
        if len(totals) > 1:
            colour, dash = OF_PHASES.get(phase, OTHER)
            lines.append(Series(name, _smoothed(totals), colour, dash, 2.6 if phase == "student" else 1.8))
        parts = [term for term in terms if term != "loss"] if phase == "student" else []
        for term, (colour, dash) in zip(parts, OF_TERMS, strict=False):
            points = _values(steps, term)
            if len(points) > 1 and points != totals:
                lines.append(Series(f"{name}: {term}", _smoothed(points), colour, dash, 1.6))
    shown = [up for line in lines for _, up in line.points]
    log = bool(shown) and min(shown) > 0 and max(shown) > SPREAD * min(shown)
    return plot(lines, Axis(words["seconds"], zero=True), Axis(words["loss"], log=log, zero=not log), words["loss_alt"])


def quality_chart(
    curves: Curves, primary_metric: str, words: Mapping[str, str], *, only: Sequence[str] | None = None
) -> str:
    """The quick evaluations of every phase against seconds, the teacher's as a line; distances from 0 on."""
    lines = [Series(words.get(phase, phase), points, *OF_PHASES.get(phase, OTHER), 2.4, dots=True)
             for phase, series in curves.items()
             if phase != "teacher" and (only is None or phase in only)
             and (points := points_of(series, primary_metric))]  # fmt: skip
    taught = points_of(curves.get("teacher", {}), primary_metric)
    level = (f"{words['teacher']} {taught[-1][1]:.4g}", taught[-1][1]) if taught else None
    up = Axis(translated(heading(primary_metric), words), zero=lower_is_better(primary_metric))
    return plot(lines, Axis(words["seconds"], zero=True), up, words["quality_alt"], level=level)


def quick_note(progress: Progress, words: Mapping[str, str]) -> str:
    """Why the figures of the quick evaluations are not those of the report."""
    if not progress.quick_images:
        return ""
    return f"<p class=kd-note>{escape(words['quality_quick'].format(count=progress.quick_images))}</p>"


def signs_chart(curves: Curves, words: Mapping[str, str]) -> str:
    """What spoils the student's images, against seconds: saturation + 1, contrast and diversity, all 1 where none."""
    lines = []
    for number, sign in enumerate(BOUNDS):
        points = [(seconds, value + (sign == "saturation"))
                  for seconds, value in points_of(curves.get("student", {}), sign)]  # fmt: skip
        lines.append(Series(words[sign], points, COLOURS[number], DASHES[number], dots=True))
    level = (words["teacher"], 1.0)
    return plot(lines, Axis(words["seconds"], zero=True), Axis(words["signs"], zero=True), words["signs_alt"],
                level=level)  # fmt: skip


def tradeoff_chart(points: Sequence[tuple[str, float, float]], quality: str, words: Mapping[str, str]) -> str:
    """Models as points: multiply-accumulates an image across, quality up.

    Args:
        points: name, MACs of an image, quality.
        quality: what the quality is called.
        words: of the page.
    """
    listed = "; ".join(f"{name}: {macs:.3g} MACs, {value:.4g}" for name, macs, value in points)
    lines = [Series(name, [(macs, value)], COLOURS[number % len(COLOURS)], width=0)
             for number, (name, macs, value) in enumerate(points)]  # fmt: skip
    across = Axis(words["macs_an_image"], log=True)
    return plot(lines, across, Axis(translated(quality, words)), f"{words['tradeoff_alt']} {listed}")


def _values(steps: Sequence[Mapping[str, object]], term: str) -> list[Point]:
    found = []
    for each in steps:
        data = each["data"]
        value = data.get(term) if isinstance(data, Mapping) else None
        if isinstance(value, int | float):
            found.append((float(str(each["seconds"])), float(value)))
    return found


def _smoothed(points: Sequence[Point]) -> list[Point]:
    values = smooth([up for _, up in points], 0.9 if len(points) > 40 else 0.5)
    stride = max(len(points) // POINTS, 1)
    smoothed = [(across, value) for (across, _), value in zip(points, values, strict=True)]
    return [*smoothed[:-1:stride], smoothed[-1]]
