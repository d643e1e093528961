"""Modules of the user's own."""

import pytest
import torch
from torch import Tensor, nn

from kdgen.adapters.module import from_module
from kdgen.types import UserError
from kdgen.zoo.fold import folded

X = torch.rand(2, 1, 5, 4) * 2 - 1


class Halve(nn.Module):
    """A module that knows of no conditions."""

    def forward(self, image: Tensor) -> Tensor:
        return image / 2


class Add(nn.Module):
    """A module that is told the noise level."""

    def forward(self, image: Tensor, sigma: Tensor) -> Tensor:
        return image + sigma.view(-1, 1, 1, 1)


def test_range_prediction_and_conditions() -> None:
    level = torch.tensor([0.1, 0.2])
    unit = (X + 1) / 2
    assert torch.allclose(from_module(Halve())(X, sigma=level), unit / 2 * 2 - 1)
    assert torch.allclose(from_module(Halve(), predicts="residual")(X, sigma=level), unit / 2 * 2 - 1)
    assert torch.allclose(from_module(Halve(), range=(-1, 1))(X, label=level), X / 2)
    assert torch.allclose(from_module(Add())(X, sigma=level, label=level), X + level.view(2, 1, 1, 1), atol=1e-6)
    assert level.tolist() == pytest.approx([0.1, 0.2])


def test_a_plain_sequential_with_batch_norm_is_folded_inside() -> None:
    net = from_module(nn.Sequential(nn.Conv2d(1, 1, 3, padding=1), nn.BatchNorm2d(1)), range=(-1.0, 1.0))
    assert not net.training
    assert torch.allclose(folded(net)(X), net(X), atol=1e-6)
    assert net.taps() == ["net.0", "net.1"]


def test_unknown_ranges_and_predictions_are_refused() -> None:
    with pytest.raises(UserError, match="range"):
        from_module(Halve(), range=(0, 255))
    with pytest.raises(UserError, match="predicts"):
        from_module(Halve(), predicts="noise")
