"""From a reference to a net: declarations as people write them, weights that nobody should use."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from support import call
from torch import Tensor

import kdgen.tasks  # noqa: F401 - registers what declarations name
from kdgen.models.adapters.module import from_module
from kdgen.models.model import Model, build_net, load
from kdgen.recipe import Checkpoint, read
from kdgen.registry import Spec, build
from kdgen.types import UserError

GENERATOR = {"name": "mlp_generator", "args": {"latent": 8, "size": 12, "channels": 1, "hidden": [4]}}
CHAIN = {"name": "dncnn", "args": {"depth": 3, "width": 4, "channels": 1}}


def declare(folder: Path, use: dict[str, Any], **more: Any) -> dict[str, Any]:
    torch.manual_seed(0)
    torch.save(build("net", Spec.model_validate(use)).state_dict(), folder / "net.pth")
    return {"file": str(folder / "net.pth"), "net": use, "range": [-1, 1], **more}


def said(reference: Any) -> str:
    with pytest.raises(UserError) as error:
        load(reference)
    assert "\n" not in str(error.value)
    return str(error.value)


def student(folder: Path) -> Path:
    torch.manual_seed(0)
    net, use = build_net(Spec(name="dncnn", args={"depth": 3, "width": 4, "norm": True}), channels=1)
    Model(net, name="small", channels=1, task={"name": "denoise", "sigma": 25}, use=use).save(folder)
    return folder / "model.safetensors"


def pipeline(folder: Path) -> Path:
    from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel

    net = UNet2DModel(sample_size=8, block_out_channels=(4, 8), layers_per_block=1, norm_num_groups=2,
                      down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2)  # fmt: skip
    DDPMPipeline(unet=net, scheduler=DDPMScheduler()).save_pretrained(folder)
    return folder / "unet" / "diffusion_pytorch_model.safetensors"


def change(file: Path, kind: str) -> None:
    weights: dict[str, Tensor] = load_file(file)
    name = next(key for key, value in weights.items() if value.is_floating_point())
    new = torch.full_like(weights[name], float(kind)) if kind in ("nan", "inf") else weights[name].to(torch.int8)
    save_file({**weights, name: new}, file, metadata={"format": "pt"})


@pytest.mark.parametrize("make", [student, pipeline])
@pytest.mark.parametrize(("kind", "told"), [("nan", "is not finite"), ("inf", "is not finite"), ("int8", "of int8")])
def test_weights_that_are_no_finite_floats_are_refused(tmp_path: Path, make: Any, kind: str, told: str) -> None:
    file = make(tmp_path / "model")
    load(tmp_path / "model")
    change(file, kind)
    assert told in said(tmp_path / "model")


def test_running_statistics_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    file = student(tmp_path / "model")
    weights = load_file(file)
    name = next((key for key in weights if key.endswith("running_mean")), "0.bias")
    save_file({**weights, name: torch.full_like(weights[name], float("nan"))}, file)
    assert f"{name} is not finite" in said(tmp_path / "model")


def test_a_module_at_hand_with_weights_that_are_not_finite_is_refused() -> None:
    net = torch.nn.Conv2d(1, 1, 1)
    torch.nn.init.constant_(net.weight, float("nan"))
    with pytest.raises(UserError, match="weight is not finite"):
        from_module(net)


@pytest.mark.parametrize("make", [student, pipeline])
def test_a_pointer_of_git_lfs_is_said_for_what_it_is(tmp_path: Path, make: Any) -> None:
    make(tmp_path / "model").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n")
    assert "a pointer of Git LFS" in said(tmp_path / "model")


def test_a_net_that_is_not_finite_restores_nothing(tmp_path: Path, capsys: Any) -> None:
    spec = declare(tmp_path, CHAIN)
    weights = torch.load(tmp_path / "net.pth")
    torch.save({**weights, "0.weight": torch.full_like(weights["0.weight"], float("nan"))}, tmp_path / "net.pth")
    (tmp_path / "net.json").write_text(json.dumps(spec))
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "p.png")
    assert call("restore", str(tmp_path / "net.json"), str(tmp_path / "p.png"), str(tmp_path / "r.png")) == 2
    assert "0.weight is not finite" in capsys.readouterr().err
    assert not (tmp_path / "r.png").exists()


@pytest.mark.parametrize(
    "task", [{"latent": 8}, {"latent": [8]}, {}, {"latent": 8, "size": 12, "channels": 1, "num_images": 4}]
)
def test_a_declared_generator_draws(tmp_path: Path, task: dict[str, Any]) -> None:
    model = load(declare(tmp_path, GENERATOR, task={"name": "generate", **task}))
    assert model.draw(2).shape == (2, 1, 12, 12)
    assert model.task["latent"] == [8]
    assert model.task["size"] == 12


@pytest.mark.parametrize(
    ("task", "told"),
    [
        ({"name": "generat"}, "no task is called 'generat'; the nearest: generate"),
        ({"name": "generate", "latnet": 8}, "no key 'latnet'; the nearest: latent"),
        ({"name": "generate", "latent": [100]}, "does not take (1, 100), which task.latent says"),
        ({"name": "generate", "latent": "big"}, "latent: Input should be a valid list"),
        ({"name": "generate", "latent": [0]}, "latent.0: Input should be greater than 0"),
        ({"name": "generate", "channels": 2}, "channels: Input should be 1, 3 or 'both'"),
        ({"name": "generate", "channels": 3}, "task.channels is 3, and mlp_generator"),
        ({"name": "generate", "num_classes": -1}, "num_classes: Input should be greater than or equal to 0"),
        ({"name": "diffuse"}, "does not take (1, 1, 12, 12), which task.size says"),
        ({"name": "denoise", "sigma": "loud"}, "sigma is a number from 0 to 100, or [low, high] of such, not 'loud'"),
    ],
)
def test_a_declared_task_that_does_not_fit_is_refused(tmp_path: Path, task: dict[str, Any], told: str) -> None:
    assert told in said(declare(tmp_path, GENERATOR, task=task))


def test_a_generator_of_unknown_latents_asks_for_them(tmp_path: Path) -> None:
    told = said(declare(tmp_path, CHAIN, task={"name": "generate"}))
    assert "latent is missing: say the shape of a latent, e.g. [100]" in told
    assert "size is missing" in said(declare(tmp_path, CHAIN, task={"name": "diffuse"}))


def test_the_channels_of_a_declared_task_count(tmp_path: Path) -> None:
    use = {"name": "ffdnet", "args": {"depth": 3, "width": 4, "channels": 3}}
    assert load(declare(tmp_path, use)).channels == 3
    told = said(declare(tmp_path, use, task={"name": "denoise", "channels": 1}))
    assert "does not take an image (1, 1, " in told


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_recipes_and_declarations_are_read_as_windows_writes_them(tmp_path: Path, encoding: str) -> None:
    spec = declare(tmp_path, GENERATOR, task={"name": "generate"}, name="café")
    (tmp_path / "net.json").write_text(json.dumps(spec, ensure_ascii=False), encoding=encoding)
    assert load(tmp_path / "net.json").name == "café"
    recipe = {"name": "café", "task": {"name": "denoise"}, "student": CHAIN, "steps": 1}
    (tmp_path / "recipe.json").write_text(json.dumps(recipe, ensure_ascii=False), encoding=encoding)
    assert read(tmp_path / "recipe.json").name == "café"


def test_another_encoding_is_refused_with_how_to_save(tmp_path: Path) -> None:
    for name in ("net.json", "recipe.json"):
        (tmp_path / name).write_text('{\n"name": "café"}', encoding="latin-1")
    for reading in (lambda: load(tmp_path / "net.json"), lambda: read(tmp_path / "recipe.json")):
        with pytest.raises(UserError, match=r"is not in UTF-8, see line 2: save it as UTF-8 \(in Notepad"):
            reading()


def test_a_student_edited_in_notepad_loads(tmp_path: Path) -> None:
    student(tmp_path / "model")
    config = tmp_path / "model" / "config.json"
    config.write_text(config.read_text(encoding="utf-8"), encoding="utf-8-sig")
    assert load(tmp_path / "model").name == "small"


def test_a_declaration_passes_as_it_is(tmp_path: Path) -> None:
    spec = declare(tmp_path, GENERATOR, task={"name": "generate", "latent": 8})
    assert torch.equal(load(spec).draw(1), load(Checkpoint.model_validate(spec)).draw(1))
