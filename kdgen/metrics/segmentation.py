"""How well maps of labels agree: overlap of classes, and of their boundaries."""

import math
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kdgen.metrics.columns import column
from kdgen.types import text

IGNORE = 255
"""The label of places that count for nothing."""

TOLERANCE = 0.0075
"""How far apart boundaries may lie, as a share of the image's diagonal (Csurka et al. 2013, section 4)."""

Labels = NDArray[np.int64]


def confusion(answer: Tensor, truth: Tensor, num_classes: int, *, ignore: int = IGNORE) -> Tensor:
    """How many places of each class are said to be of which.

    Args:
        answer: labels ``(..., H, W)``; of a place whose label is no class, it is said to be of none.
        truth: likewise, with ``ignore`` where places count for nothing.
        num_classes: K; labels are 0 to K - 1.
        ignore: see above.

    Returns:
        ``(K, K + 1)`` int64 on the CPU: rows are the truth, columns the answer, the last one that of no class.
    """
    counts = truth != ignore
    right, said = truth[counts].long().cpu(), answer[counts].long().cpu()
    said = torch.where((said >= 0) & (said < num_classes), said, num_classes)
    wide = num_classes + 1
    return torch.bincount(right * wide + said, minlength=num_classes * wide).view(num_classes, wide)


def overlap(counts: Tensor) -> dict[str, float]:
    """What a confusion matrix says, over all images that were counted into it.

    Of a class with ``t`` places in truth, ``a`` in the answer and ``b`` in both, the intersection over union is ``b /
    (t + a - b)`` and Dice ``2 b / (t + a)``. Classes that are in neither are left out of both means.

    Args:
        counts: what ``confusion`` gives, or a sum of such, ``(K, K + 1)``.

    Returns:
        ``miou``, ``dice`` and ``pixel_accuracy``, each in [0, 1]; NaN where nothing was counted.
    """
    square = counts[:, :-1].double()
    both, truth, answer = square.diagonal(), counts.double().sum(1), square.sum(0)
    there = truth + answer > 0
    total = truth.sum()
    if not total:
        return dict.fromkeys(("miou", "dice", "pixel_accuracy"), math.nan)
    both, sizes = both[there], (truth + answer)[there]
    return {"miou": (both / (sizes - both)).mean().item(), "dice": (2 * both / sizes).mean().item(),
            "pixel_accuracy": (both.sum() / total).item()}  # fmt: skip


def boundary_scores(
    answer: Tensor, truth: Tensor, *, ignore: int = IGNORE, tolerance: float = TOLERANCE
) -> dict[int, float]:
    """How near the boundaries of each class lie in one image: Csurka et al. 2013 (BMVC), section 3.2.

    Precision is the share of the answer's boundary that lies within the tolerance of the truth's, recall the share of
    the truth's that lies within it of the answer's, and the score is ``2 P R / (P + R)``. A boundary are the places of
    a class beside one of another class; where the truth is ignored there is none.

    Args:
        answer: labels ``(H, W)``.
        truth: likewise.
        ignore: the label of places that count for nothing.
        tolerance: as a share of the diagonal of the image.

    Returns:
        by class, for those that have a boundary in either: in [0, 1].
    """
    right: Labels = truth.cpu().numpy().astype(np.int64)
    said: Labels = np.where(right == ignore, ignore, answer.cpu().numpy().astype(np.int64))
    edges, reach = [_edges(labels, ignore) for labels in (said, right)], tolerance * math.hypot(*right.shape)
    found = sorted({int(label) for labels, edge in zip((said, right), edges, strict=True) for label in labels[edge]})
    return {label: _score((said == label) & edges[0], (right == label) & edges[1], reach) for label in found}


def boundary_f(images: Iterable[dict[int, float]]) -> float:
    """The mean over classes of their mean score over the images in which they have a boundary; NaN for none at all."""
    by_class: dict[int, list[float]] = {}
    for scores in images:
        for label, score in scores.items():
            by_class.setdefault(label, []).append(score)
    means: Sequence[float] = [sum(scores) / len(scores) for scores in by_class.values()]
    return sum(means) / len(means) if means else math.nan


def _edges(labels: Labels, ignore: int) -> NDArray[np.bool_]:
    """Places beside, above or below one of another class."""
    edge = np.zeros(labels.shape, dtype=bool)
    for one, other in (((slice(1, None),), (slice(-1),)), ((..., slice(1, None)), (..., slice(-1)))):
        differ = (labels[one] != labels[other]) & (labels[one] != ignore) & (labels[other] != ignore)
        edge[one] |= differ
        edge[other] |= differ
    return edge


def _score(answer: NDArray[np.bool_], truth: NDArray[np.bool_], reach: float) -> float:
    if not answer.any() or not truth.any():
        return 0.0
    precision, recall = _near(answer, truth, reach), _near(truth, answer, reach)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _near(places: NDArray[np.bool_], others: NDArray[np.bool_], reach: float) -> float:
    """The share of places that lie within reach of others."""
    from skimage.morphology import isotropic_dilation

    rows, columns = np.nonzero(places)
    window = (slice(rows.min(), rows.max() + 1), slice(columns.min(), columns.max() + 1))
    margin = math.ceil(reach)
    around = tuple(slice(max(side.start - margin, 0), side.stop + margin) for side in window)
    if not others[around].any():
        return 0.0
    return float(isotropic_dilation(others[around], reach)[places[around]].mean())


column("miou", text("metric_miou", "mIoU"), "{:.2%}", same=0.002)
column("dice", text("metric_dice", "Dice"), "{:.2%}", same=0.002)
column("pixel_accuracy", text("metric_pixel_accuracy", "pixel accuracy"), "{:.2%}", same=0.002)
column("boundary_f", text("metric_boundary_f", "boundary F"), "{:.2%}", same=0.002)
