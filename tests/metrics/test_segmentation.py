"""Overlap and boundaries of maps of labels, against values worked out by hand."""

import math

import pytest
import torch

from kdgen.metrics.columns import column_of
from kdgen.metrics.segmentation import IGNORE, boundary_f, boundary_scores, confusion, overlap

TRUTH = torch.tensor([[0, 0, 1, 1], [0, 0, 1, IGNORE]])
ANSWER = torch.tensor([[0, 1, 1, 1], [0, 0, 3, 0]])


def test_a_confusion_matrix_counts_places_and_leaves_out_what_is_ignored() -> None:
    counts = confusion(ANSWER, TRUTH, 4)
    assert counts.shape == (4, 5)
    assert counts[:2].tolist() == [[3, 1, 0, 0, 0], [0, 2, 0, 1, 0]]
    assert counts.sum() == 7
    assert confusion(torch.full_like(TRUTH, -1), TRUTH, 4)[:, 4].tolist() == [4, 3, 0, 0]


def test_figures_come_from_all_images_and_classes_in_neither_are_left_out() -> None:
    figures = overlap(confusion(ANSWER, TRUTH, 4))
    # class 0: 3 of 4 true and 3 said; class 1: 2 of 3 and 3; class 3: nothing of 0 and 1; class 2 is in neither
    assert figures["miou"] == pytest.approx((3 / 4 + 2 / 4 + 0) / 3)
    assert figures["dice"] == pytest.approx((6 / 7 + 4 / 6 + 0) / 3)
    assert figures["pixel_accuracy"] == pytest.approx(5 / 7)
    other = torch.zeros(2, 4, dtype=torch.int64)
    together = overlap(confusion(ANSWER, TRUTH, 4) + confusion(other, other, 4))
    assert together["miou"] == pytest.approx((11 / 12 + 2 / 4 + 0) / 3), "one matrix, not a mean over images"


def test_what_is_of_no_class_is_wrong_and_nothing_counted_is_no_figure() -> None:
    truth = torch.zeros(2, 2, dtype=torch.int64)
    answer = torch.tensor([[0, -1], [0, 0]])
    assert overlap(confusion(answer, truth, 2)) == {"miou": 0.75, "dice": 6 / 7, "pixel_accuracy": 0.75}
    assert all(map(math.isnan, overlap(confusion(truth, truth + IGNORE, 2)).values()))


def halves(at: int) -> torch.Tensor:
    return (torch.arange(100) >= at).long().expand(100, 100)


def test_boundaries_within_the_tolerance_are_right() -> None:
    """The diagonal is 141.4 places, of which 0.75 % is 1.06: a boundary one place off is right, one three off is not.

    Both classes' boundaries move along: of three places apart neither lies within reach.
    """
    assert boundary_scores(halves(50), halves(50)) == {0: 1.0, 1: 1.0}
    assert boundary_scores(halves(51), halves(50)) == {0: 1.0, 1: 1.0}
    assert boundary_scores(halves(53), halves(50)) == {0: 0.0, 1: 0.0}
    assert boundary_scores(halves(53), halves(50), tolerance=0.03) == {0: 1.0, 1: 1.0}


def test_precision_and_recall_of_a_boundary() -> None:
    """Truth has one line, the answer that one and another: half of the answer's boundary is right, all of the truth's.

    Class 0 has the two sides of class 1's outer edges: one in truth, both of a strip's in the answer's.
    """
    answer = ((torch.arange(100) >= 20) & (torch.arange(100) < 80)).long().expand(100, 100)
    scores = boundary_scores(answer, halves(20))
    assert scores == {0: pytest.approx(2 / 3), 1: pytest.approx(2 / 3)}


def test_there_is_no_boundary_with_what_is_ignored() -> None:
    truth = halves(50).clone()
    truth[:, 48:52] = IGNORE
    assert boundary_scores(halves(50), truth) == {}
    truth[:, 48:52] = halves(50)[:, 48:52]
    truth[:50] = IGNORE
    assert boundary_scores(halves(50), truth) == {0: 1.0, 1: 1.0}


def test_boundaries_are_averaged_by_class_over_the_images_that_have_them() -> None:
    assert boundary_f([{0: 1.0, 1: 0.5}, {1: 0.0}]) == pytest.approx((1 + 0.25) / 2)
    assert math.isnan(boundary_f([{}, {}]))


def test_each_figure_says_its_column() -> None:
    assert str(column_of("miou@teacher").title) == "mIoU"
    assert column_of("dice").shown.format(0.5) == "50.00%"
    assert not column_of("boundary_f").lower
