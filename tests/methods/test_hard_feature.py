import pytest
import torch
from views import inputs_of

from kdgen.methods.features.hard_feature import HardFeature
from kdgen.types import UserError


def test_the_largest_squared_differences_count_of_each_image() -> None:
    student = torch.zeros(2, 1, 2, 5)
    teacher = torch.tensor([[0.0, 1, 2, 3, 4, 5, 6, 7, 8, 9], [0.0] * 9 + [-1]]).view(2, 1, 2, 5)
    inputs = inputs_of(student, teacher)
    assert HardFeature(0.9).loss(inputs).tolist() == [81, 1]
    assert HardFeature(0.8).loss(inputs).tolist() == [(81 + 64) / 2, 0.5]
    assert HardFeature(0).loss(inputs).tolist() == pytest.approx([28.5, 0.1])
    assert HardFeature().loss(inputs).tolist() == [81, 1]


def test_the_easy_ones_have_no_gradient() -> None:
    student = torch.zeros(1, 1, 2, 2, requires_grad=True)
    HardFeature(0.75).loss(inputs_of(student, torch.tensor([[[[1.0, 2], [3, 4]]]]))).sum().backward()
    assert student.grad.tolist() == [[[[0, 0], [0, -8]]]]


def test_a_quantile_of_all_is_refused() -> None:
    with pytest.raises(UserError, match="p_hard"):
        HardFeature(1.0)
