import json
import logging
import os
from pathlib import Path

import pytest
import torch
from support import call, untrained

from kdgen import registry
from kdgen.cli.arguments import register_all
from kdgen.export import export_model
from kdgen.export.graph import Signature, program, signature
from kdgen.export.inputs import at_sizes
from kdgen.models.input_shape import InputShape
from kdgen.models.model import Model, load
from kdgen.models.nets.fold import folded
from kdgen.registry import Spec
from kdgen.tasks.infer_task import task_of
from kdgen.types import Batch, UserError

DENOISE: dict[str, object] = {"name": "denoise", "sigma": [15, 50]}


@pytest.fixture
def denoiser() -> Model:
    use = Spec(name="half_res", args={"width": 8, "blocks": 1, "sigma_map": True})
    return untrained(use, DENOISE)


def test_a_restorer_in_onnx_takes_any_size_and_stays_itself(denoiser: Model, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    done = export_model(denoiser, tmp_path / "tiny.onnx")
    assert done.parity.inputs == {"x": ["batch", 1, "height", "width"], "sigma": ["batch"]}
    assert {side % 2 for row in done.parity.agreement for side in row.shape[-2:]} == {0, 1}
    assert {row.shape[0] for row in done.parity.agreement} == {1, 2}
    assert done.parity.max_abs_error < 1e-4
    assert json.loads(done.parity_file.read_text())["max_abs_error"] == done.parity.max_abs_error
    import onnxruntime

    session = onnxruntime.InferenceSession(str(done.path), providers=["CPUExecutionProvider"])
    x, sigma = torch.rand(3, 1, 7, 11), torch.tensor([0.1, 0.2, 0.3])
    (out,) = session.run(None, {"x": x.numpy(), "sigma": sigma.numpy()})
    torch.testing.assert_close(torch.from_numpy(out), denoiser.net(x, sigma=sigma).detach(), atol=1e-4, rtol=0)
    assert b"stack_trace" not in done.path.read_bytes()
    assert str(Path(__file__).parents[2]).encode() not in done.path.read_bytes()
    assert sorted(os.listdir(tmp_path)) == ["tiny.onnx", "tiny.onnx.parity.json"]


def test_int8_is_smaller_and_its_quality_stands_beside_the_students(denoiser: Model, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    use = Spec(name="half_res", args={"width": 32, "blocks": 2, "sigma_map": True})
    done = export_model(untrained(use, DENOISE), tmp_path / "small.onnx", format="int8")
    ours, theirs = done.parity.quality["psnr"]
    assert 15 < ours < 30
    assert 0 < abs(ours - theirs) < 0.5
    assert done.parity.bytes[1] < 0.6 * done.parity.bytes[0]
    assert done.parity.psnr is not None
    assert done.parity.psnr > 35
    assert done.parity.measured is not None
    assert "noise of sigma" in done.parity.measured
    assert sorted(os.listdir(tmp_path)) == ["small.onnx", "small.onnx.parity.json"]


def test_torch_export_runs_without_kdgen_at_any_size(denoiser: Model, tmp_path: Path) -> None:
    done = export_model(denoiser, tmp_path, format="torch-export")
    assert done.path == tmp_path / "tiny.pt2"
    opened = torch.export.load(done.path).module()
    for shape in ((1, 1, 64, 64), (2, 1, 33, 17), (3, 1, 1, 6)):
        x, sigma = torch.rand(shape), torch.full(shape[:1], 0.2)
        torch.testing.assert_close(opened(x, sigma), denoiser.net(x, sigma=sigma), atol=1e-5, rtol=0)


def test_half_precision_is_a_student_of_half_the_size(denoiser: Model, tmp_path: Path) -> None:
    done = export_model(denoiser, tmp_path / "half", format="safetensors-fp16")
    assert done.parity.bytes[1] < 0.65 * done.parity.bytes[0]
    x, sigma = torch.rand(1, 1, 16, 16), torch.tensor([0.2])
    again = load(tmp_path / "half").net
    torch.testing.assert_close(again(x, sigma=sigma), denoiser.net(x, sigma=sigma), atol=2e-3, rtol=0)
    with pytest.raises(UserError, match="half is there already"):
        export_model(denoiser, tmp_path / "half", format="safetensors-fp16")


def test_half_of_a_model_is_no_student_of_its_own(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="save the whole model, or export this as onnx"):
        export_model(load("vae#decoder"), tmp_path / "half", format="safetensors-fp16")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("use", "task", "inputs"),
    [
        (Spec(name="conv_generator", args={"latent": 8, "size": 16, "width": 4}),
         {"name": "generate", "latent": [8], "size": 16, "channels": 1}, {"x": ["batch", 8]}),
        (Spec(name="mlp_vae", args={"size": 32, "hidden": 16, "latent": 4}),
         {"name": "autoencode", "size": 32, "channels": 1}, {"x": ["batch", 1, 32, 32]}),
        (Spec(name="vae", args={"widths": [4, 4, 8], "channels": 1}),
         {"name": "autoencode", "size": 32, "channels": 1}, {"x": ["batch", 1, "height", "width"]}),
        (Spec(name="unet", args={"widths": [4, 8, 8], "blocks": 1, "channels": 1}),
         {"name": "denoise", "sigma": 25}, {"x": ["batch", 1, "height", "width"], "sigma": ["batch"]}),
    ],
    ids=lambda value: getattr(value, "name", None),
)  # fmt: skip
def test_programs_of_all_families_equal_their_nets(use: Spec, task: dict[str, object], inputs: object) -> None:
    model = untrained(use, task)
    built = task_of(model)
    net = folded(model.net).eval()
    called, example = signature(net, built.example())
    made, called = program(net, example, called)
    assert called.inputs == inputs
    opened = made.module()
    for batch in (_batch(called, size) for size in (5, 12)):
        given = (batch.x, *(batch.cond[name] for name in called.conditions))
        torch.testing.assert_close(opened(*given), net(batch.x, **batch.cond), atol=1e-5, rtol=0)


def _batch(called: Signature, size: int) -> Batch:
    shape = called.shape if not called.free else (called.shape[0], 3 * size, 2 * size + 1)
    return Batch(x=torch.rand(3, *shape), cond={name: torch.full((3,), 0.2) for name in called.conditions})


def test_sizes_are_odd_multiples() -> None:
    batch = Batch(x=torch.zeros(1, 1, 64, 50), cond={"sigma": torch.ones(1)})
    assert [tuple(each.x.shape) for each in at_sizes(batch, InputShape())] == [
        (1, 1, 64, 50),
        (2, 1, 63, 45),
        (2, 1, 11, 15),
    ]
    assert [tuple(each.x.shape) for each in at_sizes(batch, InputShape(4, 4))] == [
        (1, 1, 64, 48),
        (2, 1, 60, 28),
        (2, 1, 12, 12),
    ]
    assert [each.cond["sigma"].shape[0] for each in at_sizes(batch, InputShape(4, 4))] == [1, 2, 2]
    assert list(at_sizes(batch, None)) == [batch]


def test_an_export_that_comes_out_different_is_not_kept(
    denoiser: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kdgen.export.formats.TOLERANCE", -1.0)
    (tmp_path / "tiny.pt2").write_bytes(b"before")
    with pytest.raises(UserError, match="differs from itself"):
        export_model(denoiser, tmp_path / "tiny.pt2", format="torch-export")
    assert (tmp_path / "tiny.pt2").read_bytes() == b"before"
    assert os.listdir(tmp_path) == ["tiny.pt2"]


def test_a_missing_package_is_named_with_the_command(
    denoiser: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(UserError, match=r"needs onnxruntime: pip install 'kdgen\[export\]'"):
        export_model(denoiser, tmp_path / "tiny.onnx")
    assert not os.listdir(tmp_path)


def test_a_task_that_does_not_fit_is_told() -> None:
    generator = untrained(Spec(name="conv_generator", args={"latent": 8, "size": 16, "width": 4}))
    with pytest.raises(UserError, match=r"does not take the images of the task denoise.*--recipe"):
        export_model(generator, format="torch-export")
    with pytest.raises(UserError, match="no format is called 'onix'; the nearest: onnx"):
        export_model(generator, format="onix")


def test_the_command_prints_the_table(denoiser: Model, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    denoiser.save(tmp_path / "student")
    assert call("export", str(tmp_path / "student"), "--format", "safetensors-fp16", "--out", str(tmp_path / "f")) == 0
    shown = capsys.readouterr().out
    for words in ("kilobytes", "psnr", "largest difference", "safetensors-fp16"):
        assert words in shown


class Counting(torch.nn.Module):
    """A generator that asks how many latents it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.main = torch.nn.ConvTranspose2d(8, 1, 4)

    def forward(self, x: torch.Tensor, **cond: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.main(x.view(len(x), -1, 1, 1)))


class OneByOne(Counting):
    """One that makes its images in a loop."""

    def forward(self, x: torch.Tensor, **cond: torch.Tensor) -> torch.Tensor:
        return torch.cat([super(OneByOne, self).forward(each[None]) for each in x])


class AtMostTwo(torch.nn.Conv2d):
    """Any size of images, but two at once."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        torch._check(x.shape[0] <= 2)
        return super().forward(x)


def test_a_bound_on_the_batch_leaves_sizes_free() -> None:
    net, example = AtMostTwo(1, 1, 3, padding=1).eval(), Batch(x=torch.rand(1, 1, 16, 16))
    called, example = signature(net, example)
    _, made = program(net, example, called)
    assert (made.largest_batch, made.free) == (2, True)


class Least(torch.nn.Module):
    """A restorer that needs 20 pixels and multiples of 4."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, x: torch.Tensor, **cond: torch.Tensor) -> torch.Tensor:
        if min(x.shape[-2:]) < 20 or x.shape[-1] % 4 or x.shape[-2] % 4:
            raise ValueError("too small")
        return x - self.conv(x)


GENERATE: dict[str, object] = {"name": "generate", "latent": [8], "size": 4, "channels": 1}


@pytest.mark.parametrize("format", ["onnx", "torch-export", "int8"])
@pytest.mark.parametrize(
    ("net", "task", "inputs"),
    [
        (Counting(), GENERATE, {"x": ["batch", 8]}),
        (OneByOne(), GENERATE, {"x": [1, 8]}),
        (Least(), {"name": "denoise", "sigma": 25},
         {"x": ["batch", 1, "4*height, 20 or more", "4*width, 20 or more"]}),
    ],
    ids=["len", "loop", "least"],
)  # fmt: skip
def test_nets_that_ask_for_their_batch_or_a_size(
    net: torch.nn.Module, task: dict[str, object], inputs: object, format: str, tmp_path: Path
) -> None:
    if format != "torch-export":
        pytest.importorskip("onnxruntime")
    done = export_model(Model(net, name="own", channels=1, task=task), tmp_path / "out", format=format)
    assert done.parity.inputs == inputs
    assert done.parity.max_abs_error < (0.3 if format == "int8" else 1e-4)


def test_ways_that_torch_refuses_are_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    log = logging.getLogger("torch._guards")
    net = folded(registry.build("net", Spec(name="cifar_resnet", args={"width": 4, "depth": 1})).eval())
    net.to(memory_format=torch.channels_last)
    called, example = signature(net, Batch(x=torch.rand(1, 3, 32, 32)))
    log.addHandler(caplog.handler)
    try:
        _, made = program(net, example, called)
    finally:
        log.removeHandler(caplog.handler)
    assert not made.free
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_student_of_one_size_is_compared_at_that(tmp_path: Path) -> None:
    use = Spec(name="mlp_vae", args={"size": 32, "hidden": 16, "latent": 4})
    done = export_model(
        untrained(use, {"name": "autoencode", "size": 32, "channels": 1}), tmp_path / "o", format="torch-export"
    )
    assert done.parity.inputs == {"x": ["batch", 1, 32, 32]}
    assert {row.shape for row in done.parity.agreement} == {(1, 1, 32, 32)}


def test_the_dcgan_of_the_examples_is_exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry._registered, "net", dict(registry._registered["net"]))
    register_all([Path(__file__).parents[2] / "examples" / "dcgan.py"])
    task: dict[str, object] = {"name": "generate", "latent": [8], "size": 64, "channels": 1}
    model = untrained(Spec(name="dcgan", args={"latent": 8, "width": 4}), task)
    assert export_model(model, tmp_path / "d.pt2", format="torch-export").parity.inputs == {"x": ["batch", 8]}


def test_a_net_that_needs_what_it_is_told_is_found_to_read_it() -> None:
    class Scaled(torch.nn.Module):
        conditions = frozenset({"guidance"})

        def forward(self, x: torch.Tensor, **cond: torch.Tensor) -> torch.Tensor:
            return x * cond.pop("guidance").view(-1, 1, 1, 1)

    example = Batch(x=torch.ones(1, 1, 8, 8), cond={"guidance": torch.full((1,), 2.0)})
    assert signature(Scaled(), example)[0].conditions == ("guidance",)
