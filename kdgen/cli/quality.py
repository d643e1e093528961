"""How good a student is while it trains, in words for a line."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kdgen.types import Event

SIGNS = ("saturation", "contrast", "diversity_ratio")
"""Figures of `kdgen.metrics.signs`, shown beside the quality."""


class Quality:
    """The last quick evaluation of each phase, by the metric that decides."""

    def __init__(self) -> None:
        self.primary_metric = "psnr"
        self.last: dict[str, float | None] = {}
        self.signs: dict[str, dict[str, float]] = {}

    def take(self, event: "Event") -> None:
        """Take note of what an event says."""
        self.primary_metric = event.data.get("primary_metric", self.primary_metric)
        if event.kind == "evaluate" and self.primary_metric in event.data:
            self.last[event.phase] = event.data[self.primary_metric]
            self.signs[event.phase] = {key: event.data[key] for key in SIGNS if event.data.get(key) is not None}

    def of(self, phase: str) -> str:
        """In words, with the signs of what spoils images; empty before the first evaluation."""
        if phase not in self.last:
            return ""
        from kdgen.report.report import worded

        figure = self.last[phase]
        signs = [f"{key.replace('_', ' ')} {value:.2f}" for key, value in self.signs[phase].items()]
        return " · ".join([worded(self.primary_metric, float("nan") if figure is None else figure), *signs])
