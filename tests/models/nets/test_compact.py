"""The compact upscaler: what it begins as, and its published layout."""

import pytest
import torch
import torch.nn.functional as F

from kdgen.models.nets.compact import compact


@pytest.mark.parametrize("scale", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("channels", [1, 3])
def test_it_begins_as_little_more_than_bilinear_enlargement(scale, channels):
    torch.manual_seed(0)
    x = 2 * torch.rand(1, channels, 24, 20) - 1
    with torch.no_grad():
        out = compact(channels, width=24, depth=8, scale=scale)(x)
    smooth = F.interpolate(x, scale_factor=scale, mode="bilinear", align_corners=False)
    inner = slice(scale, -scale)  # beyond the border lies nothing
    assert (out - smooth)[..., inner, inner].std() < 0.1 * smooth.std()


def test_all_its_weights_learn_from_the_first_step_on():
    torch.manual_seed(0)
    net = compact(width=8, depth=3, scale=2)
    net(torch.rand(2, 3, 12, 12) * 2 - 1).square().sum().backward()
    assert all(weights.grad is not None and weights.grad.abs().max() > 0 for weights in net.parameters())


def test_the_narrowest_has_room_for_nothing_but_random_weights():
    torch.manual_seed(0)
    assert compact(width=3, depth=1, scale=2)(torch.rand(1, 3, 8, 8)).shape == (1, 3, 16, 16)
