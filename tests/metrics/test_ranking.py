import math

import torch

from kdgen.metrics.ranking import auroc


def of(scores: list[float], labels: list[int]) -> float:
    return auroc(torch.tensor(scores), torch.tensor(labels, dtype=torch.bool))


def test_it_is_the_share_of_pairs_in_the_right_order() -> None:
    assert of([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1]) == 3 / 4
    assert of([1, 2, 3], [0, 1, 1]) == 1
    assert of([3, 2, 1], [0, 1, 1]) == 0


def test_equal_scores_count_half() -> None:
    assert of([1, 1], [0, 1]) == 0.5
    assert of([1, 1, 2, 0], [0, 1, 1, 0]) == 3.5 / 4


def test_one_kind_alone_or_a_score_that_is_not_finite_has_none() -> None:
    assert math.isnan(of([1, 2], [1, 1]))
    assert math.isnan(of([1, math.nan], [0, 1]))
