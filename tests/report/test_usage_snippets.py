"""The lines on a card that use a student without kdgen do what the student does."""

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from kdgen.models.model import Model, build_net
from kdgen.registry import Spec
from kdgen.report.usage_snippets import by_command, with_kdgen, without_kdgen
from kdgen.utils.conditions import call as called

DENOISE = {"name": "denoise", "sigma": 25}


@pytest.mark.parametrize(
    ("name", "args", "channels"),
    [
        ("half_res", {"width": 6, "blocks": 2}, 1),
        ("half_res", {"width": 6, "blocks": 1, "sigma_map": True}, 3),
        ("dncnn", {"depth": 4, "width": 5, "norm": True, "bias": False}, 1),
        ("dncnn", {"depth": 3, "width": 5, "predicts": "image"}, 3),
        ("ffdnet", {"depth": 4, "width": 5, "norm": True}, 1),
        ("mlp_generator", {"latent": 5, "size": 6, "hidden": [7, 9], "slope": 0.1}, 3),
        ("mlp_generator", {"latent": 5, "size": 6, "hidden": [7], "output": "sigmoid"}, 1),
        ("conv_generator", {"latent": 5, "size": 16, "width": 8}, 3),
    ],
)
def test_lines_of_plain_torch(
    name: str, args: dict[str, Any], channels: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    net, use = build_net(Spec(name=name, args=args), channels)
    for key, value in net.state_dict().items():
        if "running" in key:
            value.uniform_(0.5, 1.5)
    model = Model(net, name="tiny", channels=channels, task=DENOISE, use=use).eval()
    model.save(tmp_path)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda repo, file: str(tmp_path / file))
    from kdgen.models.config import read_config

    how, code = without_kdgen("acme/tiny", read_config(tmp_path).net, DENOISE)
    assert how == "in plain torch"
    assert "kdgen" not in code
    assert 'hf_hub_download("acme/tiny", "model.safetensors")' in code
    lines: dict[str, Any] = {}
    exec(code, lines)
    with torch.inference_mode():
        if "draw" in lines:
            z = torch.randn(3, 5)
            ours, theirs = net(z), lines["draw"](z)
        else:
            x, sigma = torch.randn(2, channels, 8, 12), 15.0
            told = {"sigma": sigma} if "sigma" in code else {}
            ours = called(net, x, {"sigma": torch.full((2,), 2 * sigma / 255)})
            theirs = lines["denoise"](x, **told)
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max() < 1e-5


@pytest.mark.parametrize("classes", [0, 3])
def test_lines_of_plain_diffusers(classes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    args = {"size": 8, "block_out_channels": [8, 8], "norm_num_groups": 4, "num_class_embeds": classes or None}
    net, use = build_net(Spec.model_validate({"name": "unet2d", "args": args}), 1)
    task = {"name": "diffuse", "size": 8, "channels": 1, "steps": [2], "num_classes": classes}
    Model(net, name="tiny", channels=1, task=task, use=use).eval().save(tmp_path / "tiny")
    how, code = without_kdgen("tiny", use, task)
    assert how == "by plain diffusers"
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    with Image.open("image.png") as drawn:
        assert drawn.size == (8, 8)


def test_other_nets_and_tasks() -> None:
    few = {"name": "diffuse", "steps": [4, 1]}
    _, code = without_kdgen("a/b", Spec(name="unet2d", args={"pipeline": "DDPMPipeline"}), few)
    assert 'DDPMPipeline.from_pretrained("a/b")' in code
    assert "pipeline(num_inference_steps=4)" in code
    _, code = without_kdgen("a/b", Spec(name="autoencoder_kl"), {})
    assert 'AutoencoderKL.from_pretrained("a/b", subfolder="vae")' in code
    how, code = without_kdgen("a/b", Spec(name="vae"), {})
    assert "kdgen/models/nets/vae.py" in how
    assert 'load_file(hf_hub_download("a/b", "model.safetensors"))' in code
    assert "kdgen/" not in without_kdgen("a/b", Spec(name="somebody_elses"), {})[0]
    assert "sigma=15)" in with_kdgen("a/b", "denoise", {"sigma": 15})
    assert "sigma=25)" in with_kdgen("a/b", "denoise", {"sigma": [0, 55]})
    assert "student.generate(" in with_kdgen("a/b", "generate", {})
    assert "student.net(x)" in with_kdgen("a/b", "decode", {})


@pytest.mark.parametrize(("kind", "net", "line"), [
    ("restore", {"name": "compact", "args": {"width": 4, "depth": 1, "scale": 2}}, ""),
    ("restore", {"name": "unet", "args": {"widths": [4, 6], "mask": True, "blind": True}}, " --mask missing.png"),
    ("restore", {"name": "unet", "args": {"widths": [4, 6], "mask": True, "stops": True}},
     " --mask missing.png --stops 2"),
    ("restore", {"name": "nobodys"}, ""),
    ("denoise", {"name": "half_res"}, " --sigma 15"),
    ("translate", {"name": "kuwahara"}, ""),
])  # fmt: skip
def test_a_restorer_is_run_by_one_line_with_what_its_net_is_told(kind: str, net: dict[str, Any], line: str) -> None:
    said = by_command("acme/tiny", kind, Spec.model_validate(net), {"sigma": 15})
    assert said.partition("```sh\n")[2] == f"kdgen restore acme/tiny in.png out.png{line}\n```"
    assert ("white where" in said) == ("--mask" in line)


def test_what_restores_no_pictures_has_no_such_line() -> None:
    assert by_command("acme/tiny", "generate", Spec(name="mlp_generator"), {}) == ""
