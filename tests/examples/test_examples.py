"""The examples: each recipe runs, on published weights where these are at hand, and the nets are what was published."""

import json
from collections.abc import Iterator
from pathlib import Path
from shutil import copyfile
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from support import drain

from kdgen import registry
from kdgen.cli.arguments import register_all
from kdgen.data import read_idx
from kdgen.metrics import cost, psnr
from kdgen.models.model import load
from kdgen.recipe import Recipe, override, read
from kdgen.report.compare import Report
from kdgen.training import run

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
RECIPES = sorted(EXAMPLES.glob("*.json"))
SAVED = {"mnist_gan": 8, "mnist_vae": 8, "faces": 8, "mnist_ddpm": 5, "taef2_decoder": 4, "stylize": 9}
"""How many times fewer multiply-accumulates each student has at least."""


@pytest.fixture(autouse=True, scope="module")
def nets() -> Iterator[None]:
    before = dict(registry._registered["net"])
    register_all(sorted(EXAMPLES.glob("*.py")))
    yield
    registry._registered["net"] = before


@pytest.fixture
def weights(shared_data: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.chdir(shared_data)
    monkeypatch.setenv("KDGEN_CACHE", str(tmp_path / "cache"))
    return shared_data


def short(recipe: Recipe) -> Recipe:
    """A recipe that takes a moment."""
    settings = ["steps=2", "batch_size=4", "cache.inputs=16", "device=cpu"]
    few: dict[str, Any] = {"num_images": 4, "num_steps": 2}
    settings += [f"task.args.{key}={value}" for key, value in few.items()
                 if registry.accepts("task", recipe.task.name, key)]  # fmt: skip
    if recipe.task.name == "diffuse":
        settings += [f"task.args.images.args.{key}={value}" for key, value in few.items()]
    return override(recipe, settings)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_runs_from_published_weights(path: Path, weights: Path, tmp_path: Path) -> None:
    for beside in weights.iterdir():
        (tmp_path / beside.name).symlink_to(beside)
    recipe = short(read(Path(copyfile(path, tmp_path / path.name))))
    drain(run.distill(recipe, tmp_path / "run"))
    report = Report.read(tmp_path / "run")
    teacher, student = report.find("teacher"), report.find("student")
    assert teacher is not None
    assert student is not None
    assert teacher.macs > SAVED[path.stem] * student.macs
    if path.stem == "taef2_decoder":
        assert teacher.num_params > 3 * student.num_params
        assert "psnr@teacher" in student.metrics
    assert (tmp_path / "run" / "samples.png").stat().st_size > 0


def test_the_page_names_every_recipe_and_shows_its_pictures() -> None:
    page = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert {path.stem for path in RECIPES} == SAVED.keys()
    for path in RECIPES:
        assert f"examples/{path.stem}.json" in page
    pictures = {path.stem for path in EXAMPLES.glob("*.png")}
    assert len(pictures) >= 4
    for name in pictures:
        assert f"({name}.png)" in page
        assert f"| `{name}.json` |" in page
        assert (EXAMPLES / f"{name}.png").stat().st_size < 400_000


def declared(name: str, *where: str) -> torch.nn.Module:
    found: Any = json.loads((EXAMPLES / f"{name}.json").read_text(encoding="utf-8"))
    for key in where:
        found = found[key]
    return load(found).net


@torch.inference_mode()
def test_taef2_gives_photographs_back_as_it_is_known_to(weights: Path) -> None:
    encoder = declared("taef2_decoder", "task", "args", "encoder")
    decoder = declared("taef2_decoder", "teacher")
    assert cost.num_params(decoder) == 1_338_499
    found = []
    for path in sorted((weights / "sr-sets" / "Set5" / "HR").glob("*.png")):
        pixels = torch.from_numpy(np.array(Image.open(path).convert("RGB"))).movedim(-1, 0)[None] / 127.5 - 1
        y = pixels[..., : pixels.shape[-2] // 8 * 8, : pixels.shape[-1] // 8 * 8]
        found.append(psnr(decoder(encoder(y)).clamp(-1, 1), y).item())
    assert sum(found) / len(found) == pytest.approx(31.14, abs=0.02)


@torch.inference_mode()
def test_the_ddpm_knows_the_noise_in_digits(weights: Path) -> None:
    """A net that knew nothing would have an error of 1, and the mean of the digits alone would leave much more."""
    net: Any = declared("mnist_ddpm", "teacher")
    digits = torch.from_numpy(read_idx(weights / "mnist" / "t10k-images-idx3-ubyte.gz", 3)[:64].copy())
    y, timestep = digits[:, None] / 127.5 - 1, torch.full((64,), 200)
    noise = torch.randn(y.shape, generator=torch.Generator().manual_seed(0))
    sigma = net.net.timesteps.sigma(timestep.float())
    x = y + sigma.view(-1, 1, 1, 1) * noise
    apart = net.net.noise(x / (1 + sigma**2).sqrt().view(-1, 1, 1, 1), timestep) - noise
    assert apart.square().mean().item() == pytest.approx(0.044, abs=0.01)
    assert psnr(net(x, sigma=sigma), y).mean() > 20


@torch.inference_mode()
def test_the_dcgan_draws_faces_that_differ(weights: Path) -> None:
    net = declared("faces", "teacher")
    assert cost.num_params(net) == 3_576_704
    faces = net(torch.randn(16, 100, generator=torch.Generator().manual_seed(0)))
    assert faces.shape == (16, 3, 64, 64)
    assert faces.abs().max() <= 1
    assert (faces - faces.mean(0)).std() > 0.3
