"""The compact upscaler: what it begins as, and its published layout."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from kdgen.models.nets.compact import compact
from kdgen.models.nets.inherit import inherit
from kdgen.types import UserError


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


@pytest.mark.parametrize(("width", "depth"), [(6, 3), (6, 5), (9, 3), (9, 5)])
def test_it_becomes_a_smaller_one_and_learns_beyond_it(width, depth):
    torch.manual_seed(0)
    small, net = compact(width=6, depth=3, scale=2), compact(width=width, depth=depth, scale=2)
    x = torch.rand(1, 3, 12, 9)
    with torch.no_grad():
        for weights in small.parameters():
            weights.add_(0.1 * torch.randn_like(weights))
    net.inherit(small)
    out = net(x)
    torch.testing.assert_close(out, small(x), atol=2e-6, rtol=0)
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3)
    for _ in range(2):  # what counts for nothing yet learns once its reader does
        optimizer.zero_grad()
        net(x).square().sum().backward()
        optimizer.step()
    assert all((weights.grad != 0).any() for weights in net.parameters())


@pytest.mark.parametrize("other", [
    {"width": 8}, {"depth": 4}, {"scale": 3}, {"channels": 1},
])  # fmt: skip
def test_it_becomes_none_that_is_larger_or_of_other_images(other):
    with pytest.raises(UserError, match="no wider and no deeper"):
        compact(width=6, depth=3, scale=2).inherit(compact(**{"width": 6, "depth": 3, "scale": 2, **other}))


def test_it_becomes_none_of_another_kind():
    with pytest.raises(UserError, match="no wider and no deeper"):
        inherit(compact(width=6, depth=3, scale=2), nn.Conv2d(3, 3, 1))
