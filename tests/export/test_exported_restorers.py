"""Upscalers and denoisers in the formats of the programs that run them: odd sizes, and the range of these."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import untrained

from kdgen.export import export_model
from kdgen.models.model import Model
from kdgen.registry import Spec
from kdgen.types import UserError

DENOISE: dict[str, object] = {"name": "denoise", "sigma": [15, 50]}
UPSCALE: dict[str, object] = {"name": "restore", "damages": [{"name": "shrink", "args": {"scale": 2}}], "scale": 2}


@pytest.fixture
def upscaler() -> Model:
    return untrained(Spec(name="compact", args={"width": 32, "depth": 2, "scale": 2}), UPSCALE, channels=3)


@pytest.mark.parametrize(("format", "near"), [("onnx", 1e-4), ("onnx-fp16", 2e-2)])
def test_an_upscaler_in_onnx_takes_odd_sizes(upscaler: Model, format: str, near: float, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    done = export_model(upscaler, tmp_path / "x.onnx", format=format)
    assert done.parity.inputs == {"x": ["batch", 3, "height", "width"]}
    import onnxruntime

    session = onnxruntime.InferenceSession(str(done.path), providers=["CPUExecutionProvider"])
    for shape in ((1, 3, 7, 13), (2, 3, 32, 21)):
        x = torch.rand(shape) * 2 - 1
        (out,) = session.run(None, {"x": x.numpy()})
        torch.testing.assert_close(torch.from_numpy(out), upscaler.net(x).detach(), atol=near, rtol=0)
    assert (done.path.stat().st_size < 0.8 * done.parity.bytes[0]) == (format == "onnx-fp16")


@pytest.mark.parametrize("net", ["compact", "half_res"])
def test_a_restorer_in_ncnn_gives_the_same_in_the_range_of_programs(net: str, upscaler: Model, tmp_path: Path) -> None:
    ncnn: Any = pytest.importorskip("ncnn")
    pytest.importorskip("pnnx")
    model, multiple = upscaler, 1
    if net == "half_res":
        model, multiple = untrained(Spec(name="half_res", args={"width": 8, "blocks": 1}), DENOISE), 2
    done = export_model(model, tmp_path / "out", format="ncnn")
    free = ["height", "width"] if multiple == 1 else ["2*height", "2*width"]
    assert done.parity.inputs == {"x": [1, model.channels, *free]}
    assert done.parity.max_abs_error < 1e-4
    assert done.parity.bytes[1] > 1000
    assert sorted(os.listdir(done.path)) == [f"{model.name}.bin", f"{model.name}.param"]
    opened = ncnn.Net()
    opened.opt.use_fp16_packed = opened.opt.use_fp16_storage = opened.opt.use_fp16_arithmetic = False
    opened.load_param(str(done.path / f"{model.name}.param"))
    opened.load_model(str(done.path / f"{model.name}.bin"))
    x = torch.rand(1, model.channels, 17 * multiple, 23 * multiple)
    extractor = opened.create_extractor()
    extractor.input("data", ncnn.Mat(x[0].numpy()).clone())
    failed, out = extractor.extract("output")
    assert not failed
    torch.testing.assert_close(torch.from_numpy(np.array(out)), (model.net(2 * x - 1)[0].detach() + 1) / 2,
                               atol=1e-4, rtol=0)  # fmt: skip


def test_what_ncnn_cannot_do_is_said_in_a_line_and_nothing_is_written(tmp_path: Path) -> None:
    pytest.importorskip("ncnn")
    pytest.importorskip("pnnx")
    denoiser = untrained(Spec(name="half_res", args={"width": 8, "blocks": 1, "sigma_map": True}), DENOISE)
    with pytest.raises(UserError, match=r"makes an image of an image and is told nothing else: export it as onnx"):
        export_model(denoiser, tmp_path / "out", format="ncnn")
    assert not os.listdir(tmp_path)


def test_ncnn_says_what_to_install(upscaler: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ncnn", None)
    with pytest.raises(UserError, match=r"needs ncnn: pip install 'kdgen\[ncnn\]'"):
        export_model(upscaler, tmp_path / "out", format="ncnn")
