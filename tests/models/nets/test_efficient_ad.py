"""The student with an autoencoder: what of an image each of its parts sees."""

import pytest
import torch
from torch import Tensor

from kdgen.models.fault_maps import Autoencoded
from kdgen.models.nets.efficient_ad import EfficientAD, efficient_ad
from kdgen.models.nets.patch_features import patch_features


def net() -> EfficientAD:
    torch.manual_seed(0)
    return efficient_ad(channels=1, features=5, width=8, depth=0, stride=4, latents=3).eval()


@torch.no_grad()
def parts(made: EfficientAD, x: Tensor) -> tuple[Tensor, ...]:
    return made.get_submodule(made.together)(x).chunk(3, dim=1)


@pytest.mark.parametrize(("size", "places"), [((64, 64), (16, 16)), ((8, 8), (2, 2)), ((33, 21), (9, 6))])
def test_its_answer_is_the_first_of_three_of_its_shape(size: tuple[int, int], places: tuple[int, int]) -> None:
    made, x = net(), torch.rand(2, 1, *size, generator=torch.Generator().manual_seed(0))
    assert isinstance(made, Autoencoded)
    assert not isinstance(patch_features(), Autoencoded)
    local, predicted, encoded = parts(made, x)
    assert local.shape == predicted.shape == encoded.shape == (2, 5, *places)
    torch.testing.assert_close(made(x), local)


def test_the_student_sees_a_patch_and_the_autoencoder_all_of_an_image() -> None:
    made, x = net(), torch.rand(1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    changed = x.clone()
    changed[..., :4, :4] *= -1
    moved = [(a != b).any(1)[0] for a, b in zip(parts(made, x), parts(made, changed), strict=True)]
    assert [bool(each[0, 0]) for each in moved] == [True] * 3
    assert [bool(each[8:, 8:].any()) for each in moved] == [False, False, True]


def test_all_that_the_autoencoder_knows_of_an_image_passes_its_bottleneck() -> None:
    made = net()
    autoencoder = made.parts.autoencoder
    x = torch.rand(2, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        said = autoencoder(x)
        torch.nn.init.zeros_(autoencoder.squeeze.weight)
        silenced = autoencoder(x)
    assert autoencoder.squeeze.out_channels == 3
    assert not torch.equal(said[0], said[1])
    assert torch.equal(silenced[0], silenced[1])
