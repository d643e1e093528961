import pytest
import torch
from torch import Tensor, nn

from kdgen.models import tiling
from kdgen.models.input_shape import input_shape
from kdgen.models.model import build_net, load
from kdgen.registry import Spec
from kdgen.utils.conditions import call

BOUND = 3e-5
"""Largest difference of tiles to the whole of images in [-1, 1]; 1/255 of their range is 8e-3."""


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
        Spec(name="unet", args={"widths": [8, 8, 16], "blocks": 1, "channels": 1, "blind": True, "mask": True}),
    ],
    ids=lambda use: use.name + "-mask" * use.args.get("mask", False),
)
@torch.inference_mode()
def test_tiles_give_what_the_whole_gives(use: Spec) -> None:
    torch.manual_seed(0)
    net = build_net(use, channels=1)[0].eval()
    x, holes = noise(2, 1, 203, 157), (noise(2, 1, 203, 157) > 0.8).float()
    cond = {"sigma": torch.tensor([0.2, 0.1]), "mask": holes}
    tiled = tiling.apply(net, x, cond, limit=1, tile=128)
    torch.testing.assert_close(tiled, call(net, x, cond), atol=BOUND, rtol=0)


@torch.inference_mode()
def test_maps_are_continued_as_images_are_for_nets_that_take_some_sizes_alone() -> None:
    class Holes(nn.Module):
        """Takes multiples of 8, and gives the mask."""

        def forward(self, x: Tensor, mask: Tensor) -> Tensor:
            if x.shape[-1] % 8 or x.shape[-2] % 8:
                raise ValueError(x.shape)
            return x * 0 + mask

    x, holes = noise(1, 1, 203, 157), (noise(1, 1, 203, 157) > 0.5).float()
    assert torch.equal(tiling.apply(Holes(), x, {"mask": holes}), holes)


@torch.inference_mode()
def test_a_net_that_sees_everything_is_blended_without_seams() -> None:
    torch.manual_seed(0)
    net, sigma = Global(), torch.tensor([0.2])
    x = noise(1, 1, 300, 260)
    tiled = tiling.apply(net, x, {"sigma": sigma}, limit=1, tile=164)
    assert (tiled - net(x)).abs().max() < 0.05
    flat = torch.full((1, 1, 300, 260), 0.25)
    error = tiling.apply(net, flat, {"sigma": sigma}, limit=1, tile=164) - net(flat)
    assert error.abs().max() < 1e-3


@torch.inference_mode()
def test_a_net_that_enlarges_is_shown_tiles_and_one_that_shrinks_the_whole() -> None:
    x, sigma = noise(1, 1, 290, 230), torch.tensor([0.2])
    for net, shape, largest in ((Double(), (1, 1, 580, 460), 160), (nn.AvgPool2d(2), (1, 1, 145, 115), 290)):
        sizes: list[int] = []
        net.register_forward_pre_hook(lambda net, inputs, sizes=sizes: sizes.append(max(inputs[0].shape[-2:])))
        input_shape(net, x, {"sigma": sigma})
        sizes.clear()
        outputs = tiling.apply(net, x, {"sigma": sigma}, limit=1, tile=160)
        assert outputs.shape == shape
        assert max(sizes) == largest
        torch.testing.assert_close(outputs, net(x))


def test_a_large_picture_goes_through_the_bundled_denoiser_in_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = load("denoiser"), noise(1, 3, 200, 260)
    whole = model.restore(x, sigma=25)
    monkeypatch.setattr(tiling.apply, "__kwdefaults__", {"limit": 1000, "tile": 160})
    widths: list[int] = []
    model.net.register_forward_pre_hook(lambda net, inputs: widths.append(inputs[0].shape[-1]))
    torch.testing.assert_close(model.restore(x, sigma=25), whole, atol=1e-5, rtol=0)
    assert len(widths) == 6
