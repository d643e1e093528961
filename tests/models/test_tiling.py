import pytest
import torch
from torch import Tensor, nn

from kdgen.models import tiling
from kdgen.models.model import build_net, load
from kdgen.registry import Spec
from kdgen.utils.conditions import call


def noise(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 2 - 1


class Global(nn.Module):
    """Sees all of an image: subtracts what a convolution gives times the mean of the image."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, x: Tensor, **cond: Tensor) -> Tensor:
        return x - self.conv(x) * x.mean((-2, -1), keepdim=True)


class Double(nn.Module):
    def forward(self, x: Tensor, **cond: Tensor) -> Tensor:
        return x.repeat_interleave(2, -1).repeat_interleave(2, -2)


@pytest.mark.parametrize(
    "use",
    [
        Spec(name="dncnn", args={"depth": 5, "width": 8}),
        Spec(name="half_res", args={"width": 8, "blocks": 2, "sigma_map": True}),
        Spec(name="ffdnet", args={"depth": 4, "width": 8}),
        Spec(name="unet", args={"widths": [8, 8, 16], "blocks": 1, "channels": 1}),
        Spec(name="patch_mlp", args={"width": 16}),
    ],
    ids=lambda use: use.name,
)
@torch.inference_mode()
def test_tiles_give_what_the_whole_gives(use: Spec) -> None:
    torch.manual_seed(0)
    net = build_net(use, channels=1)[0].eval()
    x, sigma = noise(2, 1, 203, 157), torch.tensor([0.2, 0.1])
    tiled = tiling.apply(net, x, sigma, limit=1, tile=48)
    laid = tiling._known[net]
    assert laid is not None
    assert laid.exact
    assert laid.margin < 100
    torch.testing.assert_close(tiled, call(net, x, {"sigma": sigma}), atol=1e-5, rtol=0)


@torch.inference_mode()
def test_too_small_a_margin_is_seen() -> None:
    net = build_net(Spec(name="dncnn", args={"depth": 8, "width": 8}), channels=1)[0].eval()
    x, sigma = torch.zeros(1, 1, 1, 1), torch.tensor([0.2])
    assert tiling._field(net, x, {"sigma": sigma}) == (9, 1)
    assert tiling._agrees(net, x, {"sigma": sigma}, tiling.Overlap(8, 1, exact=True))
    assert not tiling._agrees(net, x, {"sigma": sigma}, tiling.Overlap(3, 1, exact=True))


@torch.inference_mode()
def test_a_net_that_sees_everything_is_blended_without_seams() -> None:
    torch.manual_seed(0)
    net, sigma = Global(), torch.tensor([0.2])
    x = noise(1, 1, 300, 260)
    tiled = tiling.apply(net, x, sigma, limit=1, tile=100)
    laid = tiling._known[net]
    assert laid is not None
    assert not laid.exact
    assert (tiled - net(x)).abs().max() < 0.05
    flat = torch.full((1, 1, 300, 260), 0.25)
    apart = tiling.apply(net, flat, sigma, limit=1, tile=100) - net(flat)
    assert apart.abs().max() < 1e-3


def test_a_net_that_enlarges_is_shown_the_whole() -> None:
    x = noise(1, 1, 40, 30)
    assert tiling.apply(Double(), x, torch.tensor([0.2]), limit=1).shape == (1, 1, 80, 60)


def test_a_large_picture_goes_through_the_bundled_denoiser_in_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = load("denoiser"), noise(1, 3, 70, 90)
    whole = model.restore(x, sigma=25)
    monkeypatch.setattr(tiling, "TILE", 32)
    monkeypatch.setattr(tiling.apply, "__kwdefaults__", {"limit": 1000, "tile": 32})
    shown: list[int] = []
    model.net.register_forward_pre_hook(lambda net, given: shown.append(given[0].shape[-1]))
    tiling._known[model.net] = tiling.Overlap(60, 4, exact=True)
    torch.testing.assert_close(model.restore(x, sigma=25), whole, atol=1e-5, rtol=0)
    assert len(shown) == 9
