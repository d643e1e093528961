"""Curves and trade-offs as SVG text that takes the page's colours, light or dark."""

import io
import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from matplotlib import rc_context
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from kdgen.metrics.signs import BOUNDS
from kdgen.report.loss_curves import NOT_TERMS, points_of, smooth
from kdgen.report.report import heading
from kdgen.ui.progress import Curves

INK = {"#010101": "var(--kd-ink)", "#020202": "var(--kd-line)", "#030303": "var(--kd-accent)",
       "#040404": "var(--kd-second)", "#050505": "var(--kd-third)", "#060606": "var(--kd-fourth)"}  # fmt: skip
"""Colours that the page replaces by its own."""

TEXT, LINE, *SHADES = INK
COLORS = {"student": SHADES[0], "control_steps": SHADES[1], "control_seconds": SHADES[2]}
STYLE = {"svg.fonttype": "none", "svg.hashsalt": "kdgen", "font.family": "sans-serif", "font.size": 11,
         "text.color": TEXT, "axes.edgecolor": LINE, "axes.labelcolor": TEXT, "xtick.color": TEXT,
         "ytick.color": TEXT}  # fmt: skip


def loss_chart(curves: Curves, words: Mapping[str, str]) -> str:
    """The loss of every phase and the terms of the student's, against seconds."""
    figure, axes = _axes(words["seconds"], words["loss"])
    with rc_context(STYLE):
        axes.set_yscale("log")
        drawn = False
        for phase, series in curves.items():
            steps = series["step"]
            terms = [key for key in (steps[-1]["data"] if steps else {}) if key not in NOT_TERMS]
            for term in terms if not phase.startswith("control") else ["loss"]:
                points = [(each["seconds"], each["data"][term]) for each in steps if (each["data"].get(term) or 0) > 0]
                if len(points) > 1:
                    x, y = zip(*points, strict=True)
                    total = term == "loss"
                    label = words.get(phase, phase) + ("" if total else f": {term}")
                    axes.plot(x, smooth(y, 0.9 if len(y) > 40 else 0.5), color=COLORS.get(phase, SHADES[3]),
                              lw=2.2 if total else 1, ls="-" if total else ":", label=label)  # fmt: skip
                    drawn = True
        return _svg(figure, axes, words["loss_alt"]) if drawn else ""


def quality_chart(curves: Curves, primary_metric: str, words: Mapping[str, str]) -> str:
    """The quick evaluations of every phase against seconds."""
    figure, axes = _axes(words["seconds"], heading(primary_metric))
    with rc_context(STYLE):
        drawn = False
        for phase, series in curves.items():
            points = points_of(series, primary_metric)
            if points:
                axes.plot(*zip(*points, strict=True), "o-", ms=4, lw=2, color=COLORS.get(phase, SHADES[3]),
                          label=words.get(phase, phase))  # fmt: skip
                drawn = True
        return _svg(figure, axes, words["quality_alt"]) if drawn else ""


def signs_chart(curves: Curves, words: Mapping[str, str]) -> str:
    """What spoils the student's images, against seconds: saturation + 1, contrast and diversity, all 1 where none."""
    figure, axes = _axes(words["seconds"], words["signs"])
    with rc_context(STYLE):
        drawn = False
        for number, sign in enumerate(BOUNDS):
            points = points_of(curves.get("student", {}), sign)
            if points:
                shifted = [(seconds, value + (sign == "saturation")) for seconds, value in points]
                axes.plot(*zip(*shifted, strict=True), "o-", ms=4, lw=2, color=SHADES[number], label=words[sign])
                drawn = True
        return _svg(figure, axes, words["signs_alt"]) if drawn else ""


def tradeoff_chart(points: Sequence[tuple[str, float, float]], quality: str, words: Mapping[str, str]) -> str:
    """Models as points: multiply-accumulates an image across, quality up.

    Args:
        points: name, MACs of an image, quality.
        quality: what the quality is called.
        words: of the page.
    """
    if not points:
        return ""
    figure, axes = _axes(words["macs_an_image"], quality)
    with rc_context(STYLE):
        axes.set_xscale("log")
        for number, (name, macs, value) in enumerate(points):
            axes.plot([macs], [value], "o", ms=10, color=SHADES[min(number, 2)])
            axes.annotate(name, (macs, value), xytext=(0, 12), textcoords="offset points", ha="center", color=TEXT)
        low, high = min(p[1] for p in points), max(p[1] for p in points)
        axes.set_xlim(low / 3, high * 3)
        axes.margins(y=0.3)
        listed = "; ".join(f"{name}: {macs:.3g} MACs, {value:.4g}" for name, macs, value in points)
        return _svg(figure, axes, f"{words['tradeoff_alt']} {listed}")


def _axes(x: str, y: str) -> tuple[Figure, Any]:
    with rc_context(STYLE):
        figure = Figure(figsize=(5.6, 3.1), layout="constrained")
        figure.patch.set_alpha(0)
        FigureCanvasSVG(figure)
        axes = figure.subplots()
        axes.patch.set_alpha(0)
        axes.set(xlabel=x, ylabel=y)
        axes.grid(visible=True, color=LINE, lw=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        return figure, axes


def _svg(figure: Figure, axes: Any, alt: str) -> str:
    """The figure as SVG with a text in its place for those who do not see it."""
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, fontsize=9, labelcolor=TEXT)
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None, "Type": None, "Format": None})
    text = file.getvalue()[file.getvalue().index("<svg") :]
    for colour, replaced in INK.items():
        text = text.replace(colour, replaced)
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    for side in ("width", "height"):
        text = re.sub(rf'(<svg[^>]*?) {side}="[^"]*"', r"\1", text)
    return text.replace("<svg", f'<svg class="kd-chart" role="img" aria-label="{escape(alt, quote=True)}"', 1)
