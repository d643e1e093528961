"""Maps of a student that holds an autoencoder, beside values worked out apart."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from kdgen.models.fault_maps import StudentTeacher
from kdgen.utils.cache import fingerprint


class Parts(nn.Module):
    """Nothing of the teacher's, a prediction, and what was to be predicted, apart by the root of the input."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([torch.zeros_like(x), x, x + x.abs().sqrt()], dim=1)


class Autoencoded(nn.Module):
    together = "parts"

    def __init__(self) -> None:
        super().__init__()
        self.parts = Parts()

    def forward(self, x: Tensor) -> Tensor:
        return self.parts(x)[:, :1]


@pytest.fixture
def good() -> Tensor:
    return torch.rand(20, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def test_the_local_map_is_of_the_teacher_and_the_global_one_of_the_autoencoder() -> None:
    maps = StudentTeacher(Autoencoded(), nn.Identity())
    x = torch.tensor([0.5, -0.25]).view(1, 1, 1, 2)
    assert maps.distances(x).tolist() == [[[pytest.approx([0.25, 0.0625])], [pytest.approx([0.5, 0.25])]]]


def test_both_are_brought_to_the_quantiles_of_good_pictures_and_averaged(good: Tensor) -> None:
    maps = StudentTeacher(Autoencoded(), nn.Identity())
    maps.calibrate(good)
    x = 2 * torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(1)) - 1

    values, shown = good.double().numpy().ravel(), x.double().numpy()
    expected = np.zeros_like(shown)
    for distance in (np.square, np.abs):
        start, end = np.quantile(distance(values), [0.9, 0.995])
        expected += 0.5 * 0.1 * (distance(shown) - start) / (end - start)
    np.testing.assert_allclose(maps(x).numpy(), expected, atol=1e-4)


def test_a_kind_of_another_unit_counts_as_much(good: Tensor) -> None:
    class Louder(Parts):
        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([torch.zeros_like(x), 30 * x, 30 * x + 30 * x.abs().sqrt()], dim=1)

    plain, loud = Autoencoded(), Autoencoded()
    loud.parts = Louder()
    both = [StudentTeacher(student, nn.Identity()) for student in (plain, loud)]
    for maps in both:
        maps.calibrate(good)
    torch.testing.assert_close(both[0](good), both[1](good), atol=1e-4, rtol=1e-4)


def test_any_other_student_has_a_local_map_alone() -> None:
    class Off(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + 3

    maps = StudentTeacher(Off(), nn.Identity())
    assert maps.distances(torch.zeros(1, 2, 2, 2)).tolist() == [[[[9, 9], [9, 9]]]]
    assert maps.zero.shape == maps.span.shape == (1,)


def test_maps_on_a_scale_of_their_own_are_known_again(good: Tensor) -> None:
    class Off(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + 3

    maps = StudentTeacher(Off(), nn.Identity())
    before = fingerprint(maps)
    maps.calibrate(good.cos())
    assert fingerprint(maps) != before
