"""Autoencoders of diffusers, exported and opened at other sizes than they say."""

from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL

from kdgen.export import export_model
from kdgen.models.model import load


@pytest.mark.parametrize(
    "part", ["", *(pytest.param(half, marks=pytest.mark.slow) for half in ("#decoder", "#encoder"))]
)
def test_an_autoencoder_in_onnx_takes_other_sizes_than_its_own(
    part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = pytest.importorskip("onnxruntime")
    torch.manual_seed(0)
    AutoencoderKL(
        block_out_channels=(8, 16, 16), down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3, norm_num_groups=2, sample_size=16,
    ).save_pretrained(tmp_path / "vae")  # fmt: skip
    # over the photographs of its parity, group norms of random weights round by more than a trained net's
    monkeypatch.setattr("kdgen.export.formats.TOLERANCE", 1e-3)
    model = load(f"{tmp_path / 'vae'}{part}")
    done = export_model(model, tmp_path / "vae.onnx")
    session = runtime.InferenceSession(str(done.path), providers=["CPUExecutionProvider"])
    channels = 4 if part == "#decoder" else 3
    shape = done.parity.inputs["x"]
    free = isinstance(shape[-1], str)
    assert free or part == "#encoder", "torch settles the size of this half alone, and the file says so"
    for size in ((16, 16), (32, 48), (8, 20)) if free else (tuple(map(int, shape[-2:])),):
        x = torch.randn(2, channels, *size, generator=torch.Generator().manual_seed(0))
        (out,) = session.run(None, {"x": x.numpy()})
        with torch.no_grad():
            torch.testing.assert_close(torch.from_numpy(out), model.net(x), atol=1e-4, rtol=0)
