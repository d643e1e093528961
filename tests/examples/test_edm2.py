"""A net of EDM2's layout: opened from its file, preconditioned as the paper has it, distilled in few steps."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from support import drain, taught_by
from torch import Tensor, nn

from kdgen import load, registry
from kdgen.cli.arguments import register_all
from kdgen.models.config import read_config
from kdgen.recipe import parse
from kdgen.training import run

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
TINY: dict[str, Any] = {"size": 8, "channels": 1, "num_classes": 3, "width": 8, "multiples": [1, 2], "depth": 1,
                        "attend": [4]}  # fmt: skip


@pytest.fixture(autouse=True, scope="module")
def nets() -> Iterator[None]:
    before = dict(registry._registered["net"])
    register_all([EXAMPLES / "edm2.py"])
    yield
    registry._registered["net"] = before


def made(**more: Any) -> Any:
    torch.manual_seed(0)
    net: Any = registry.build("net", registry.Spec(name="edm2", args={**TINY, **more}))
    for parameter in net.parameters():
        if parameter.ndim == 0:
            nn.init.constant_(parameter, 0.7)
    return net.eval()


@pytest.fixture
def declared(tmp_path: Path) -> dict[str, Any]:
    """The declaration of the example for a tiny net, beside a file that holds what such files hold."""
    weights = {**made().state_dict(), "logvar_fourier.freqs": torch.ones(4), "logvar_linear.weight": torch.ones(1, 4)}
    save_file(weights, tmp_path / "tiny.safetensors")
    told = {key: TINY[key] for key in ("size", "channels", "num_classes")}
    spec = json.loads((EXAMPLES / "edm2.json").read_text())
    return {**spec, "file": str(tmp_path / "tiny.safetensors"), "net": {"name": "edm2", "args": TINY},
            "task": {**spec["task"], **told}}  # fmt: skip


@torch.no_grad()
def test_it_is_preconditioned_as_the_paper_has_it(declared: dict[str, Any]) -> None:
    net, own = load(declared).net, made()
    sigma, label = torch.tensor([0.05, 1.0, 60.0]), torch.tensor([0, 2, 3])
    x = torch.randn(3, 1, 8, 8) * (1 + sigma.view(-1, 1, 1, 1))
    s, d = sigma.view(-1, 1, 1, 1), 0.5
    answer: Tensor = own.unet(x / (s**2 + d**2).sqrt(), sigma.log() / 4, label)
    assert answer.std() > 0.1
    denoised = d**2 / (s**2 + d**2) * x + s * d / (s**2 + d**2).sqrt() * answer
    torch.testing.assert_close(net(x, sigma=sigma, label=label), denoised, atol=1e-5, rtol=1e-5)
    untold = net(x, sigma=sigma, label=torch.full((3,), 3))
    assert [torch.equal(a, b) for a, b in zip(untold, denoised, strict=True)][:2] == [False, False]
    torch.testing.assert_close(untold[2], denoised[2], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_what_comes_in_at_magnitude_1_stays_there() -> None:
    net, x = made(width=32), torch.randn(16, 2, 8, 8)
    blocks = [net.unet.enc["8x8_block0"], net.unet.dec["4x4_in1"]]
    for block in blocks:
        out = block(torch.randn(16, block.conv_res1.weight.shape[1], 8, 8), torch.randn(16, 64))
        assert out.square().mean().sqrt() == pytest.approx(1, abs=0.35)
    mixed = net.unet.enc["8x8_conv"](x)
    assert mixed.square().mean().sqrt() == pytest.approx(1, abs=0.2)


@pytest.mark.slow
def test_a_narrower_student_of_few_steps_learns_and_draws(
    declared: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KDGEN_CACHE", str(tmp_path / "cache"))
    student = {"name": "edm2", "args": {**TINY, "width": 4}}
    guidance = {"scale": 2.0, "null": TINY["num_classes"]}
    data = taught_by(declared, student, {"name": "consistency"}, "few_steps", table="karras", steps=[2], channels=1,
                     num_classes=3, guidance=guidance)  # type: ignore[arg-type]  # fmt: skip
    drain(run.distill(parse({**data, "init": "random"}), tmp_path / "run"))
    assert read_config(tmp_path / "run" / "student").task["table"] == "karras"
    drawn = load(tmp_path / "run").draw(3, num_steps=2)
    assert drawn.shape == (3, 1, 8, 8)
    assert drawn.isfinite().all()
