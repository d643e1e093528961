"""The standard shifts: five of a kind each, and each worse than the one before."""

import pytest
import torch

from kdgen.data import Photographs, generator
from kdgen.data.damages import make_damages
from kdgen.data.damages.shifts import SHIFTS


@pytest.fixture(scope="module")
def image():
    _, image = next(iter(Photographs().images(3)))
    return image[..., :64, :64]


@pytest.mark.parametrize("shift", SHIFTS, ids=lambda shift: shift[0].name)
def test_severities_are_five_of_a_kind_and_grow(shift, image):
    assert len({spec.name for spec in shift}) == 1
    shifted = [make_damages([spec])(image, generator(0))[0] for spec in shift]
    errors = [float((x - image).square().mean()) for x in shifted]
    assert len(errors) == 5
    assert errors == sorted(errors)
    assert errors[0] > 0


def test_contrast_keeps_means_and_draws_values_towards_them(image):
    x, cond = make_damages([{"name": "contrast", "args": {"factor": 0.25}}])(image, generator(0))
    torch.testing.assert_close(x.mean((2, 3)), image.mean((2, 3)))
    torch.testing.assert_close(x.std((2, 3)), 0.25 * image.std((2, 3)))
    assert not cond
