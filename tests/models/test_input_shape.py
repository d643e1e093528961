"""Which sizes nets take is found by trying, and pictures of any size go through them."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support import call, drain
from torch import Tensor, nn

import kdgen
from kdgen import registry
from kdgen.models import tiling
from kdgen.models.adapters import from_module
from kdgen.models.input_shape import InputShape, fitted, input_shape, mirrored
from kdgen.models.model import Model, load
from kdgen.recipe import Recipe
from kdgen.report.compare import Report
from kdgen.tasks import Denoise
from kdgen.types import UserError

Make = Callable[..., Recipe]


class Picky(nn.Module):
    """A convolution that fails where a U-Net of so many levels would."""

    def __init__(self, multiple: int = 1, least: int = 1, side: int | None = None) -> None:
        super().__init__()
        self.conv, self.multiple, self.least, self.side = nn.Conv2d(1, 1, 3, padding=1), multiple, least, side
        self.seen: list[tuple[int, int]] = []

    def forward(self, x: Tensor, **cond: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        self.seen.append((height, width))
        if height % self.multiple or width % self.multiple or min(height, width) < self.least:
            raise RuntimeError("Sizes of tensors must match except in dimension 1")
        if self.side is not None and (height, width) != (self.side, self.side):
            raise AssertionError("input size does not match the model")
        return x + self.conv(x) * 0.1


@pytest.fixture
def needs_16() -> Iterator[str]:
    """A net by name, as a file of a user's own registers it."""

    def needs_sixteen(channels: int = 1) -> Picky:
        return Picky(16)

    registry.register("net")(needs_sixteen)
    yield "needs_sixteen"
    del registry._registered["net"]["needs_sixteen"]


@pytest.mark.parametrize("size", [(280, 280), (64, 64), (321, 481)])
@pytest.mark.parametrize(
    ("net", "found"),
    [
        (Picky(), InputShape()),
        (Picky(3), InputShape(3, 3)),
        (Picky(7), InputShape(7, 7)),
        (Picky(12), InputShape(12, 12)),
        (Picky(32), InputShape(32, 32)),
        (Picky(8, 40), InputShape(8, 40)),
        (Picky(1, 11), InputShape(1, 11)),
        (Picky(side=32), InputShape(fixed=(32, 32))),
    ],
    ids=str,
)
def test_multiples_and_smallest_sizes_are_found(net: Picky, found: InputShape, size: tuple[int, int]) -> None:
    fresh = Picky(net.multiple, net.least, net.side)
    assert input_shape(fresh, torch.rand(1, 1, *size)) == found
    asked = len(fresh.seen)
    input_shape(fresh, torch.rand(1, 1, 10, 10))
    assert len(fresh.seen) == asked, "sizes are tried once"


def test_an_answer_of_another_size_is_no_answer() -> None:
    class Floor(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.interpolate(nn.functional.avg_pool2d(x, 8), scale_factor=8)

    assert input_shape(Floor(), torch.rand(1, 1, 45, 30)).multiple == 8
    assert fitted(Floor(), torch.rand(1, 1, 45, 30)).shape == (1, 1, 45, 30)


def test_images_are_continued_by_mirroring() -> None:
    row = torch.tensor([[[[0.0, 1.0, 2.0]]]])
    assert mirrored(row, 1, 8).flatten().tolist() == [0, 1, 2, 1, 0, 1, 2, 1]
    assert mirrored(row[..., :1], 2, 3).flatten().tolist() == [0] * 6


def test_what_is_declared_is_not_tried() -> None:
    inner = Picky(16)
    net = from_module(inner, range=(-1.0, 1.0), multiple=16, min_size=20)
    assert fitted(net, torch.rand(1, 1, 17, 40)).shape == (1, 1, 17, 40)
    assert inner.seen == [(32, 48)]
    with pytest.raises(UserError, match="multiple is a whole number of pixels, at least 1, not 0"):
        from_module(inner, multiple=0)


@pytest.mark.parametrize("size", [(280, 280), (31, 50), (5, 5)])
def test_a_picture_of_any_size_is_restored(size: tuple[int, int]) -> None:
    model = Model(from_module(Picky(32)), name="u", channels=1, task={"name": "denoise", "sigma": 25})
    out = model(torch.rand(1, *size))
    assert out.shape == (1, *size)


def test_tiles_of_a_net_with_multiples_give_what_the_whole_gives() -> None:
    net, x, sigma = from_module(Picky(16)), torch.rand(1, 1, 150, 90) * 2 - 1, torch.ones(1)
    whole = tiling.apply(net, x, {"sigma": sigma})
    torch.testing.assert_close(tiling.apply(net, x, {"sigma": sigma}, limit=100, tile=32), whole, atol=1e-5, rtol=0)


def test_a_picture_larger_than_the_only_size_goes_in_tiles() -> None:
    net, x = from_module(Picky(side=32)), torch.rand(1, 1, 70, 45) * 2 - 1
    out = tiling.apply(net, x, {"sigma": torch.ones(1)})
    free = from_module(net.net)
    net.net.side = None
    assert (out - free(x))[..., 4:-4, 4:-4].abs().max() < 0.1
    assert out.shape == x.shape


def test_a_student_with_multiples_is_trained_measured_and_used(make: Make, needs_16: str, tmp_path: Path) -> None:
    recipe = make(f"student={json.dumps({'name': needs_16})}", "controls=false", "steps=3")
    drain(kdgen.distill(recipe, tmp_path / "run"))
    student = Report.read(tmp_path / "run").find("student")
    assert student is not None
    assert student.metrics["psnr"] > 10
    Image.fromarray(np.zeros((19, 23), np.uint8)).save(tmp_path / "in.png")
    assert call("restore", str(tmp_path / "run"), str(tmp_path / "in.png"), str(tmp_path / "out.png")) == 0
    assert Image.open(tmp_path / "out.png").size == (23, 19)
    picture = torch.rand(1, 19, 23)
    assert load(tmp_path / "run")(picture).shape == picture.shape


def test_a_declaration_says_its_multiple(needs_16: str, tmp_path: Path) -> None:
    torch.save(Picky().state_dict(), tmp_path / "net.pth")
    spec = {"file": str(tmp_path / "net.pth"), "net": {"name": needs_16}, "multiple": 16, "min_size": 32}
    model = load(spec)
    assert input_shape(model.net, torch.rand(1, 1, 8, 8)) == InputShape(16, 32)
    assert Denoise(sigma=25, channels=1).evaluate(model.net, limit=1)["psnr"] > 10
