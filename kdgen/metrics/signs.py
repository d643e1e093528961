"""What spoils students that draw, as figures: burnt-out images, lost contrast, images that grow alike."""

from collections.abc import Mapping

import torch
from torch import Tensor

from kdgen.metrics.finite import Answers
from kdgen.types import Text, text

END = 1 - 1 / 255
"""How near to an end of [-1, 1] a value counts as at it: half a level of an 8-bit image."""

BOUNDS = {"saturation": (-0.1, 0.1), "contrast": (0.8, 1.25), "diversity_ratio": (0.8, 1.25)}
"""Between what each figure lies of a student whose images are like its reference's."""

_WORDS = {
    "saturation": (text("too_grey", "fewer values of the student's images lie at black and white than of the "
                        "reference's"),
                   text("saturated", "the student's images saturate, more of their values lie at black or white than "
                        "of the reference's")),
    "contrast": (text("flat", "the student's images lose contrast"),
                 text("harsh", "the student's images have too much contrast")),
    "diversity_ratio": (text("alike", "the student's images grow alike (collapse)"),
                        text("unlike", "the student's images differ more from each other than the reference's "
                             "(noise)")),
}  # fmt: skip


def saturation(images: Tensor) -> float:
    """The share of values at an end of the range, of images ``(N, C, H, W)`` in [-1, 1]; NaN where one is NaN."""
    return float("nan") if images.isnan().any() else (images.abs() >= END).double().mean().item()


def contrast(images: Tensor) -> float:
    """The mean over images ``(N, C, H, W)`` of the standard deviation of their values."""
    return images.double().flatten(1).std(1, correction=0).mean().item()


def signs(images: Tensor, reference: Tensor) -> dict[str, float]:
    """Saturation and contrast of images beside those of a reference.

    Args:
        images: ``(N, C, H, W)`` in [-1, 1].
        reference: ``(M, C, H, W)``.

    Returns:
        ``saturation``, the share of values at the ends of the range less the reference's, in [-1, 1], and
        ``contrast``, the standard deviation within an image as a ratio to the reference's.
    """
    floor = torch.finfo(torch.float32).tiny
    return {
        "saturation": saturation(images) - saturation(reference),
        "contrast": contrast(images) / max(contrast(reference), floor),
    }


def beyond(figures: Mapping[str, float | None]) -> dict[str, Text]:
    """Those of the signs that lie outside their ``BOUNDS``, each in words with its figure."""
    found = {}
    for name, (low, high) in BOUNDS.items():
        value = figures.get(name)
        if value is not None and not low <= value <= high:
            found[name] = text("beyond", "{fault}: {sign} {value:.2f}, normally {low:g} to {high:g}",
                               fault=_WORDS[name][value > high], sign=name, value=value, low=low,
                               high=high)  # fmt: skip
    return found


class SignWatch:
    """Tells once what is wrong: answers that are not finite, and a sign that leaves its bounds.

    A sign is told of after it was within, or where it has not come in by half of the run: at first nobody can draw.
    """

    def __init__(self) -> None:
        self._reported: set[str] = set()
        self._within: set[str] = set()

    def warnings(self, figures: Mapping[str, float | None], answers: Answers, progress: float) -> list[Text]:
        """A line for each thing that has gone wrong since it was told of last.

        Args:
            figures: of a quick evaluation.
            answers: that it was made from.
            progress: of the training, in [0, 1].
        """
        out = beyond(figures)
        if answers.not_finite:
            out["finite"] = text("gives_not_finite", "it gives NaN or infinite values in {count:,} of {answers:,} "
                                 "answers",
                                 count=answers.not_finite, answers=answers.count)  # fmt: skip
        measured = {name for name in BOUNDS if figures.get(name) is not None} | {"finite"}
        within, late = measured - out.keys(), progress >= 0.5
        fresh = [name for name in out if name not in self._reported and (late or name in self._within | {"finite"})]
        self._reported = (self._reported | set(fresh)) - within
        self._within |= within
        return [out[name] for name in fresh]
