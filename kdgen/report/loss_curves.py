"""The curves of training: losses, quick evaluations and what spoils images, against seconds."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from kdgen.metrics.signs import BOUNDS
from kdgen.report.events import read_events
from kdgen.report.report import heading

COLOURS = {"assistant_1": "#009e73", "student": "#0072b2", "control_steps": "#d55e00", "control_seconds": "#e69f00"}
TERMS = ("#000000", "#009e73", "#cc79a7", "#56b4e9", "#8c564b", "#7f7f7f")
NOT_TERMS = frozenset({"alpha", "lr", "images_per_second", "seconds", "seconds_left"})


def curves(path: Path, log: Path, *, primary_metric: str = "psnr") -> None:
    """Write a picture of the losses and of the quick evaluations against seconds.

    Of nets that draw there are also the signs of what spoils them, each in its own panel with its bounds as a band.

    Args:
        path: PNG file to write.
        log: the run's `metrics.jsonl`, an ``Event`` on each line. Where a resumed run repeats steps, the last time
            counts; a line cut short is skipped.
        primary_metric: the metric to show.
    """
    phases = curves_of(read_events(log))
    shown = [sign for sign in BOUNDS if any(points_of(series, sign) for series in phases.values())]
    figure = Figure(figsize=(13, 8.4 if shown else 4.8), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    rows = [["losses"] * 3 + ["quality"] * 3, [sign for sign in shown for _ in range(6 // len(shown))]]
    axes_of: dict[str, Any] = figure.subplot_mosaic(rows if shown else rows[:1], height_ratios=[3, 2] if shown else [1])
    losses, quality = axes_of["losses"], axes_of["quality"]
    for phase, colour in COLOURS.items():
        steps, evaluations = phases.get(phase, {}).get("step", []), phases.get(phase, {}).get("evaluate", [])
        label = _title(phase)
        if steps and phase == "student":
            terms = dict.fromkeys(key for each in steps for key in each["data"] if key not in NOT_TERMS)
            shades = dict(zip(sorted(terms, key=lambda term: term != "loss"), [colour, *TERMS], strict=False))
            for term in terms:
                _line(losses, steps, term, f"{label}: {term}", shades.get(term, "#7f7f7f"), "-")
        elif steps:
            _line(losses, steps, "loss", f"{label}: loss", colour, "--")
        for name, axes in (("quality", quality), *((sign, axes_of[sign]) for sign in shown)):
            measured = points_of({"evaluate": evaluations}, primary_metric if name == "quality" else name)
            if measured:
                axes.plot(*zip(*measured, strict=True), "o-", ms=3, color=colour, label=label)
    losses.set(title="losses, smoothed", xlabel="seconds of training", ylabel="loss", yscale="log")
    quality.set(title="quick evaluation", xlabel="seconds of training", ylabel=heading(primary_metric))
    for sign in shown:
        axes_of[sign].axhspan(*BOUNDS[sign], color="#7f7f7f", alpha=0.15, lw=0)
        axes_of[sign].set(title=sign.replace("_", " "), xlabel="seconds of training")
    for axes in axes_of.values():
        axes.grid(visible=True, which="major", alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        if axes.lines:
            axes.legend(frameon=False, fontsize=9)
        else:
            axes.text(0.5, 0.5, "nothing was measured", ha="center", transform=axes.transAxes, color="#7f7f7f")
    figure.savefig(path, format="png")


def smooth(values: Iterable[float], keep: float) -> list[float]:
    """An exponential moving average that starts without bias, as of Adam (arXiv 1412.6980, section 3)."""
    average, weight, out = 0.0, 0.0, []
    for value in values:
        average = keep * average + (1 - keep) * value
        weight = keep * weight + (1 - keep)
        out.append(average / weight)
    return out


def curves_of(events: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """Steps and evaluations of each phase in order, with seconds; what a resumed run did again is dropped."""
    phases: dict[str, dict[str, list[dict[str, Any]]]] = {}
    clock: dict[str, float] = {}
    for event in events:
        kind, phase = event["kind"], event["phase"]
        if kind not in ("step", "evaluate"):
            continue
        clock[phase] = float(event["data"].get("seconds", clock.get(phase, 0.0)))
        series = phases.setdefault(phase, {"step": [], "evaluate": []})
        for each in series.values():
            while each and each[-1]["step"] > event["step"]:
                each.pop()
        if series[kind] and series[kind][-1]["step"] == event["step"]:
            series[kind].pop()
        series[kind].append({**event, "seconds": clock[phase]})
    return phases


def points_of(series: Mapping[str, Sequence[Mapping[str, Any]]], metric: str) -> list[tuple[float, float]]:
    """Seconds and figures of the quick evaluations of a phase; those that are no number are left out."""
    return [(each["seconds"], value) for each in series.get("evaluate", ())
            if isinstance(value := each["data"].get(metric), int | float)]  # fmt: skip


def _line(axes: Any, steps: list[dict[str, Any]], term: str, label: str, colour: str, style: str) -> None:
    points = [(each["seconds"], each["data"][term]) for each in steps if (each["data"].get(term) or 0) > 0]
    if points:
        seconds, values = zip(*points, strict=True)
        keep = max(0.0, 1 - 50 / len(values)) ** 0.5 if len(values) > 50 else 0.5
        axes.plot(seconds, values, color=colour, lw=0.5, alpha=0.15)
        axes.plot(
            seconds, smooth(values, keep), style, color=colour, lw=3 if term == "loss" else 1.4, alpha=0.8, label=label
        )


def _title(role: str) -> str:
    return role.replace("control_", "control, equal ")
