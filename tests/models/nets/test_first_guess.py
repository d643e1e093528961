"""What a net does with what it is told before it learns: light multiplied, holes filled from around."""

from pathlib import Path
from typing import Any

import pytest
import torch
from support import untrained

from kdgen import registry
from kdgen.export import export_model
from kdgen.metrics import psnr
from kdgen.models import tiling
from kdgen.models.model import build_net
from kdgen.models.nets.inputs import filled, lit
from kdgen.registry import Spec
from kdgen.types import Task, UserError
from kdgen.utils.conditions import call

TOLD: dict[str, Any] = {"widths": [4, 6], "blocks": 1, "blind": True, "first_guess": True}


def restoring(damage: str) -> Task:
    task: Task = registry.build("task", Spec(name="restore", args={"damages": [damage]}))
    return task


@pytest.mark.parametrize("size", [(37, 53), (1, 9), (64, 64), (200, 130)])
def test_holes_are_filled_from_around_and_what_is_there_stays(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    even = torch.full((2, 3, *size), 0.3)
    mask = (torch.rand(2, 1, *size) < 0.6).float()
    torch.testing.assert_close(filled(even * (1 - mask), mask), even)
    x = torch.rand(2, 3, *size) * 2 - 1
    out = filled(x, mask)
    torch.testing.assert_close(out * (1 - mask), x * (1 - mask))
    assert out.min() >= x.min() - 1e-5
    assert out.max() <= x.max() + 1e-5


def test_holes_of_any_size_get_what_is_around_and_without_anything_they_are_grey() -> None:
    x, mask = torch.full((1, 1, 300, 300), -0.5), torch.zeros(1, 1, 300, 300)
    mask[..., 20:280, 20:280] = 1
    torch.testing.assert_close(filled(x * (1 - mask), mask), x)
    assert filled(torch.zeros(1, 1, 16, 16), torch.ones(1, 1, 16, 16)).abs().max() == 0


def test_light_is_doubled_by_each_stop() -> None:
    dark = torch.tensor([-0.75, -0.5]).view(2, 1, 1, 1)
    torch.testing.assert_close(lit(dark, torch.tensor([2.0, 1.0])), torch.zeros(2, 1, 1, 1))


@pytest.mark.parametrize(("damage", "gain"), [("mask", 5), ("dark", 9)])
def test_a_net_begins_with_its_guess(damage: str, gain: float) -> None:
    torch.manual_seed(0)
    told = {"mask": damage == "mask", "stops": damage == "dark"}
    net, _ = build_net(Spec(name="unet", args={**TOLD, **told}), 3)
    plain, _ = build_net(Spec(name="unet", args={**TOLD, **told, "first_guess": False}), 3)
    for each in (net, plain):
        torch.nn.init.zeros_(each.get_parameter("tail.weight"))
    _, batch = next(iter(restoring(damage).evaluation_images()))
    with torch.inference_mode():
        guessed, shown = (psnr(call(each, batch.x, batch.cond), batch.y).item() for each in (net, plain))
        if damage == "mask":
            torch.testing.assert_close(net(batch.x), net(batch.x, mask=torch.zeros_like(batch.x[:, :1])))
    assert guessed > shown + gain


@torch.inference_mode()
def test_tiles_give_what_the_whole_gives() -> None:
    torch.manual_seed(0)
    net = build_net(Spec(name="unet", args={**TOLD, "mask": True}), 3)[0].eval()
    x, mask = torch.rand(1, 3, 203, 157) * 2 - 1, (torch.rand(1, 1, 203, 157) > 0.7).float()
    tiled = tiling.apply(net, x, {"mask": mask}, limit=1, tile=160)
    torch.testing.assert_close(tiled, net(x, mask=mask), atol=2e-3, rtol=0)


def test_it_is_exported_with_its_guess(tmp_path: Path) -> None:
    onnxruntime: Any = pytest.importorskip("onnxruntime")
    model = untrained(Spec(name="unet", args={**TOLD, "mask": True}), {"name": "restore", "damages": ["mask"]})
    try:
        done = export_model(model, tmp_path / "x.onnx")
    except UserError as error:
        pytest.fail(str(error))
    session = onnxruntime.InferenceSession(str(done.path), providers=["CPUExecutionProvider"])
    for height, width in ((19, 33), (70, 45)):
        x, mask = torch.rand(1, model.channels, height, width) * 2 - 1, (torch.rand(1, 1, height, width) > 0.6).float()
        (out,) = session.run(None, {"x": x.numpy(), "mask": mask.numpy()})
        torch.testing.assert_close(torch.from_numpy(out), model.net(x, mask=mask).detach(), atol=1e-4, rtol=0)
