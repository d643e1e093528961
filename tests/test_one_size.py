"""A net that takes one size alone, found or declared, is trained, measured, planned, used and exported."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from support import call, drain
from torch import Tensor, nn

import kdgen
from kdgen import registry
from kdgen.export import export_model
from kdgen.metrics import cost
from kdgen.models.adapters import from_module
from kdgen.models.input_shape import InputShape, input_shape
from kdgen.models.model import Model, load
from kdgen.recipe import Recipe
from kdgen.report.compare import Report
from kdgen.tasks import Denoise
from kdgen.training.estimate import plan
from kdgen.types import UserError

Make = Callable[..., Recipe]


class OneSize(nn.Module):
    """A residual convolution that takes one height and width, or any where that is 0."""

    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        self.conv, self.size = nn.Conv2d(1, 1, 3, padding=1), (height, width)

    def forward(self, x: Tensor) -> Tensor:
        if all(self.size) and tuple(x.shape[-2:]) != self.size:
            raise AssertionError("input size does not match the model")
        return x + 0.1 * self.conv(x)


@pytest.fixture(autouse=True)
def one_size() -> Iterator[None]:
    """Nets of one size by name, as a file of a user's own registers them: for restoring, and for latents."""

    def one_size(channels: int = 1, height: int = 16, width: int = 16) -> OneSize:
        return OneSize(height, width)

    registry.register("net")(one_size)
    yield
    del registry._registered["net"]["one_size"]


def declared(folder: Path, size: Any, **changes: Any) -> dict[str, Any]:
    """A declaration whose net takes any size, and is said to take one."""
    torch.manual_seed(0)
    torch.save(OneSize(0, 0).state_dict(), folder / "net.pth")
    net = {"name": "one_size", "args": {"height": 0, "width": 0}}
    return {"file": str(folder / "net.pth"), "net": net, "size": size, **changes}


@pytest.mark.parametrize(("size", "fixed"), [(48, (48, 48)), ([32, 48], (32, 48))])
def test_a_declared_size_is_the_only_one(size: Any, fixed: tuple[int, int], tmp_path: Path) -> None:
    seen: list[tuple[int, ...]] = []
    model = load(declared(tmp_path, size))
    assert input_shape(model.net, torch.rand(1, 1, 8, 8)) == InputShape(fixed=fixed)
    model.net.net.register_forward_pre_hook(lambda net, given: seen.append(tuple(given[0].shape[-2:])))
    assert model(torch.rand(1, 70, 45)).shape == (1, 70, 45)
    assert Denoise(sigma=25, channels=1).evaluate(model.net, limit=1)["psnr"] > 10
    assert cost.macs(model.net, torch.zeros(1, 1, 96, 96)) >= 96 * 96 * 9
    assert set(seen) == {fixed}


def test_a_declared_size_stands_alone(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="leave multiple and min_size out"):
        load(declared(tmp_path, 48, multiple=16))
    with pytest.raises(UserError, match="size"):
        load(declared(tmp_path, 0))
    for size in (0, (32, 48, 3), 1.5):
        with pytest.raises(UserError, match="size is"):
            from_module(OneSize(32, 32), size=size)  # type: ignore[arg-type]


def test_a_declared_file_of_one_size_is_probed_at_it(tmp_path: Path) -> None:
    spec = declared(tmp_path, None, net={"name": "one_size", "args": {"height": 32, "width": 48}})
    assert input_shape(load({**spec, "size": [32, 48]}).net, torch.rand(1, 1, 8, 8)).fixed == (32, 48)
    spec["net"]["args"]["width"] = 32
    assert input_shape(load(spec).net, torch.rand(1, 1, 8, 8)).fixed == (32, 32)


def test_a_teacher_of_a_declared_size_is_shown_no_other(make: Make, tmp_path: Path) -> None:
    spec = declared(tmp_path, 32)
    with pytest.raises(UserError, match=r"the teacher net does not take .*32x32 alone: set task.args.patch to 32"):
        drain(kdgen.distill(make(f"teacher={json.dumps(spec)}"), tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_a_student_of_one_size_is_trained_measured_and_used(make: Make, tmp_path: Path) -> None:
    recipe = make('student={"name": "one_size"}', "controls=false", "steps=3")
    drain(kdgen.distill(recipe, tmp_path / "run"))
    student = Report.read(tmp_path / "run").find("student")
    assert student is not None
    assert student.metrics["psnr"] > 10
    assert student.macs is not None
    assert student.macs >= 9 * 256**2, "the cost is that of all tiles"
    Image.fromarray(np.zeros((19, 40), np.uint8)).save(tmp_path / "in.png")
    assert call("restore", str(tmp_path / "run"), str(tmp_path / "in.png"), str(tmp_path / "out.png")) == 0
    assert Image.open(tmp_path / "out.png").size == (40, 19)


def test_a_plan_says_which_sizes_are_taken(make: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = make('student={"name": "one_size"}', "controls=false")
    found = plan(recipe)
    assert [phase.net.sizes for phase in found.phases] == ["16x16 alone"]
    assert found.teacher is not None
    assert found.teacher.sizes is None
    (tmp_path / "mine.json").write_text(recipe.to_json())
    assert call("plan", str(tmp_path / "mine.json")) == 0
    shown = capsys.readouterr().out
    assert "student takes 16x16 alone" in shown
    assert "teacher takes" not in shown


@pytest.mark.parametrize("format", ["onnx", "torch-export", "int8"])
@pytest.mark.parametrize("kind", ["found", "declared"])
def test_a_net_of_one_size_is_exported_at_that(kind: str, format: str, tmp_path: Path) -> None:
    if format != "torch-export":
        pytest.importorskip("onnxruntime")
    net = from_module(OneSize(32, 32)) if kind == "found" else load(declared(tmp_path, 32)).net
    model = Model(net, name="own", channels=1, task={"name": "denoise", "sigma": 25})
    done = export_model(model, tmp_path / "out", format=format)
    assert done.parity.inputs == {"x": ["batch", 1, 32, 32]}
    assert {row.shape[-2:] for row in done.parity.agreement} == {(32, 32)}
    assert done.parity.latency_shape == (1, 1, 32, 32)
    assert done.parity.max_abs_error < (0.3 if format == "int8" else 1e-4)


def test_a_student_of_one_size_is_not_measured_on_whole_images(make: Make, tmp_path: Path) -> None:
    images = {"name": "folder", "args": {"path": str(tmp_path / "pictures")}}
    task = {
        "name": "autoencode",
        "args": {"patch": 16, "channels": 1, "whole": True, "multiple": 4, "evaluate": images},
    }
    recipe = make(f"task={json.dumps(task)}", "teacher=null", "stages=[{}]", "steps=2",
                  'student={"name": "mlp_vae", "args": {"size": 16, "hidden": 8, "latent": 4}}')  # fmt: skip
    with pytest.raises(UserError, match=r"the student .* takes 16x16 alone, and .*24x24: set task.args.whole to false"):
        drain(kdgen.distill(recipe, tmp_path / "run"))
    assert not (tmp_path / "run").exists()
