"""How well logits tell classes: which class is right, how images are ranked, and whether confidences are earned.

An answer that is not finite counts as the worst there is: in no class, ranked last among the images of a class and
first among all others, and certain of being right.
"""

from statistics import fmean

import torch
import torch.nn.functional as F
from torch import Tensor

from kdgen.metrics.columns import column
from kdgen.metrics.ranking import area_under_curve
from kdgen.types import Text, text


def predicted(logits: Tensor) -> Tensor:
    """The class of each of ``(N, K)`` logits, ``(N,)`` int64; -1 where they are not finite."""
    return torch.where(logits.isfinite().all(1), logits.argmax(1), -1)


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """The share of ``(N, K)`` logits whose largest is that of their label ``(N,)``."""
    return (predicted(logits) == labels).double().mean().item()


def balanced_accuracy(logits: Tensor, labels: Tensor) -> float:
    """The mean of the accuracies within each class, Brodersen et al. 2010; classes without an image are left out."""
    right, counts = (predicted(logits) == labels).double(), torch.bincount(labels)
    return (torch.bincount(labels, right)[counts > 0] / counts[counts > 0]).mean().item()


def auroc(logits: Tensor, labels: Tensor) -> float | None:
    """The mean over classes of the area under the ROC curve of one against the rest; of two classes the usual one.

    Of each class it is the share of pairs, an image of it and one of another, in which the first has the larger
    probability, ties counting half.

    Args:
        logits: ``(N, K)``.
        labels: ``(N,)``.

    Returns:
        the mean over the classes that have images: others have no such pair, and are left out. None where all images
        are of one class, so that there is no pair at all.
    """
    finite, scores, areas = logits.isfinite().all(1), logits.double().log_softmax(1), []
    for k in torch.bincount(labels).nonzero()[:, 0].tolist():
        worst = torch.where(labels == k, -torch.inf, torch.inf)
        areas.append(area_under_curve(torch.where(finite, scores[:, k], worst), labels == k))
    return fmean(areas) if len(areas) > 1 else None


def calibration_error(logits: Tensor, labels: Tensor, bins: int = 15) -> float:
    """Expected calibration error, Guo et al. 2017 (arXiv 1706.04599), eq. 3: 0 where confidences are accuracies.

    Args:
        logits: ``(N, K)``; a confidence is the largest probability of an image.
        labels: ``(N,)``.
        bins: as wide as each other, into which confidences in [0, 1] fall.

    Returns:
        the mean distance of accuracy and confidence over the bins, each weighted by its images, in [0, 1].
    """
    said = predicted(logits)
    confidence = torch.where(said < 0, 1.0, F.softmax(logits.double(), 1).amax(1))
    where = (confidence * bins).ceil().long().clamp(1, bins) - 1
    gaps = torch.bincount(where, (said == labels).double() - confidence, minlength=bins)
    return (gaps.abs().sum() / len(labels)).item()


def classified(logits: Tensor, labels: Tensor) -> dict[str, float]:
    """All of these by name, of logits ``(N, K)`` and labels ``(N,)``; no ``auroc`` where there is none."""
    figures = {"accuracy": accuracy(logits, labels), "balanced_accuracy": balanced_accuracy(logits, labels)}
    area = auroc(logits, labels)
    ranked = {} if area is None else {"auroc": area}
    return {**figures, **ranked, "ece": calibration_error(logits, labels)}


column("accuracy", Text("accuracy"), "{:.4g}", same=0.002)
column("balanced_accuracy", text("metric_balanced_accuracy", "balanced accuracy"), "{:.4g}", same=0.002)
column("auroc", text("metric_auroc", "AUROC"), "{:.4f}", same=0.002)
column("agreement", text("metric_agreement", "agreement with the teacher"), "{:.2%}", same=0.002)
column("ece", text("metric_ece", "calibration error (ECE)"), lower=True)

__all__ = ["accuracy", "auroc", "balanced_accuracy", "calibration_error", "classified", "predicted"]
