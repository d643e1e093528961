"""Figures of classifiers, against torchmetrics and by hand."""

import pytest
import torch
import torchmetrics.functional.classification as reference
from torch import Tensor

from kdgen.metrics.classification import auroc, calibration_error, classified


@pytest.fixture(params=[2, 5])
def answered(request: pytest.FixtureRequest) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(request.param)
    logits = torch.randn(200, request.param, generator=random).mul(2)
    return logits, torch.randint(request.param, (200,), generator=random)


def test_all_figures_are_those_of_torchmetrics(answered: tuple[Tensor, Tensor]) -> None:
    logits, labels = answered
    num = logits.shape[1]
    assert classified(logits, labels) == pytest.approx({
        "accuracy": reference.multiclass_accuracy(logits, labels, num, average="micro").item(),
        "balanced_accuracy": reference.multiclass_accuracy(logits, labels, num, average="macro").item(),
        "auroc": reference.multiclass_auroc(logits, labels, num).item(),
        "ece": reference.multiclass_calibration_error(logits, labels, num, n_bins=15).item(),
    }, abs=1e-5)  # fmt: skip


def test_of_two_classes_the_area_is_the_share_of_pairs_in_order_ties_by_half() -> None:
    logits = torch.tensor([[0.0, -1], [0, 2], [0, 2], [0, 3]])
    assert auroc(logits, torch.tensor([0, 0, 1, 1])) == pytest.approx((1 + 1 + 0.5 + 1) / 4)


def test_classes_without_images_are_left_out() -> None:
    logits, labels = torch.tensor([[2.0, 1, 9], [1, 2, -9], [0, 3, 0]]), torch.tensor([0, 1, 1])
    figures = classified(logits, labels)
    assert (figures["accuracy"], figures["balanced_accuracy"]) == pytest.approx((2 / 3, 1 / 2))
    assert figures["auroc"] == pytest.approx((0 + 1) / 2)
    assert "auroc" not in classified(logits, torch.tensor([1, 1, 1]))


def test_answers_that_are_not_finite_are_the_worst_there_are() -> None:
    logits, labels = torch.tensor([[4.0, 0], [0, 4], [4, 0], [0, torch.nan]]), torch.tensor([0, 1, 0, 1])
    figures = classified(logits, labels)
    assert (figures["accuracy"], figures["balanced_accuracy"], figures["auroc"]) == pytest.approx((3 / 4, 3 / 4, 1 / 2))
    sure = torch.tensor([4.0, 0]).softmax(0)[0].item()
    assert figures["ece"] == pytest.approx((1 - 3 * (1 - sure)) / 4)


def test_confidence_that_is_earned_has_no_error() -> None:
    logits = torch.tensor([[0.75, 0.25]] * 4).log()
    assert calibration_error(logits, torch.tensor([0, 0, 0, 1])) == pytest.approx(0, abs=1e-7)
    assert calibration_error(logits, torch.tensor([1, 1, 1, 1])) == pytest.approx(0.75)
