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
from support import call, drain

from kdgen import registry
from kdgen.cli.arguments import register_all
from kdgen.data import read_idx
from kdgen.metrics import cost, psnr
from kdgen.models.loading import is_teacher_file
from kdgen.models.model import load
from kdgen.recipe import Recipe, override, read
from kdgen.report.compare import Report
from kdgen.training import run

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
DECLARED = [path for path in sorted(EXAMPLES.glob("*.json")) if is_teacher_file(path)]
RECIPES = [path for path in sorted(EXAMPLES.glob("*.json")) if path not in DECLARED]
SAVED = {"mnist_gan": 8, "mnist_vae": 8, "faces": 8, "mnist_ddpm": 5, "taef2_decoder": 4, "stylize": 9, "mnist_flow": 1}
"""How many times fewer multiply-accumulates each student has at least."""
PHOTOGRAPH = Path("sr-sets/Set5/HR/butterfly.png")
"""The smallest of its folder, and here the only one: what is measured on whole photographs takes long."""

UPSCALERS = {"imdn": (893_936, 32.247), "rlfn": (317_218, 32.097), "span": (150_688, 31.739),
             "safmnpp": (211_572, 32.018)}  # fmt: skip
"""Their parameters, and the PSNR in dB of luma on Set5 x4 that the code of their authors gives."""

RESTORERS = {"waifu2x_vgg7": (290_467, 31.48), "waifu2x_resnet10": (409_731, 31.56), "zero_dce": (79_416, 17.64),
             "zero_dce_neuro": (79_416, 17.23), "iat": (91_154, 23.69)}  # fmt: skip
"""Their parameters, and the PSNR in dB to Set5 of what they make of it after the damage that they are declared for."""

SEGMENTERS = {"espnet": (364_569, 20), "espnet_c": (187_529, 20), "sinet": (86_910, 2), "lwnet": (68_482, 2)}
"""Their parameters and classes."""

CLASSIFIERS = {"cifar_resnet20": (269_722, 0.915), "cifar_resnet_uva": (272_378, 0.906)}
"""Their parameters, and the accuracy on the first 1,000 test images of CIFAR-10 that the code of their authors gives."""


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
    settings = ["steps=2", "batch_size=4", "device=cpu", *(["cache.inputs=16"] if recipe.cache.inputs else [])]
    few: dict[str, Any] = {"num_images": 4, "num_steps": 2}
    settings += [f"task.args.{key}={value}" for key, value in few.items()
                 if registry.accepts("task", recipe.task.name, key)]  # fmt: skip
    if recipe.task.name in ("diffuse", "few_steps"):
        settings += [f"task.args.images.args.{key}={value}" for key, value in few.items()]
    return override(recipe, settings)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_runs_from_published_weights(path: Path, weights: Path, tmp_path: Path) -> None:
    here, there = tmp_path, weights
    for part in PHOTOGRAPH.parent.parts:
        for beside in there.iterdir():
            if beside.name != part:
                (here / beside.name).symlink_to(beside)
        here, there = here / part, there / part
        here.mkdir()
    (tmp_path / PHOTOGRAPH).symlink_to(weights / PHOTOGRAPH)
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
    assert {path.stem for path in DECLARED} == {*UPSCALERS, *RESTORERS, *SEGMENTERS, *CLASSIFIERS, "edm2"}
    for path in RECIPES:
        assert f"examples/{path.stem}.json" in page
    for path in DECLARED:
        assert f"| `{path.stem}.json` |" in page
    pictures = {path.stem for path in EXAMPLES.glob("*.png")}
    assert len(pictures) >= 4
    for name in pictures:
        assert f"({name}.png)" in page
        assert f"| `{name}.json` |" in page
        assert (EXAMPLES / f"{name}.png").stat().st_size < 400_000


@pytest.fixture
def beside(weights: Path, tmp_path: Path) -> Path:
    """The declarations, with the weights beside them."""
    for path in [*weights.iterdir(), *DECLARED]:
        (tmp_path / path.name).symlink_to(path)
    return tmp_path


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_declared_classifier_is_as_good_as_its_authors_say(
    name: str, beside: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(EXAMPLES.parent)
    from benchmarks.perception_data import cifar10

    data = cifar10(beside / "cifar10-subset", tmp_path)
    assert call("evaluate", str(beside / f"{name}.json"), "--data", str(data), "--json") == 0
    num_params, accuracy = CLASSIFIERS[name]
    assert json.loads(capsys.readouterr().out)["metrics"]["accuracy"] == pytest.approx(accuracy, abs=1e-6)
    assert cost.num_params(load(str(beside / f"{name}.json")).net) == num_params


@pytest.mark.parametrize("name", UPSCALERS)
def test_a_declared_upscaler_is_as_good_as_its_authors_say(
    name: str, beside: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs = beside / "sr-sets" / "Set5"
    assert call("evaluate", str(beside / f"{name}.json"), "--data", str(pairs / "LR_bicubic" / "X4"),
                "--clean", str(pairs / "HR"), "--num-images", "5", "--json") == 0  # fmt: skip
    num_params, psnr_y = UPSCALERS[name]
    assert json.loads(capsys.readouterr().out)["metrics"]["psnr_y"] == pytest.approx(psnr_y, abs=0.02)
    assert cost.num_params(load(beside / f"{name}.json").net) == num_params


@pytest.mark.parametrize("name", RESTORERS)
def test_a_declared_restorer_undoes_its_damage_and_restores_files(
    name: str, beside: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images, model = beside / "sr-sets" / "Set5" / "HR", str(beside / f"{name}.json")
    assert call("evaluate", model, "--data", str(images), "--json") == 0
    num_params, expected = RESTORERS[name]
    assert json.loads(capsys.readouterr().out)["metrics"]["psnr"] == pytest.approx(expected, abs=0.05)
    assert cost.num_params(load(model).net) == num_params
    assert call("restore", model, str(images / "butterfly.png"), str(beside / "out.png")) == 0
    with Image.open(beside / "out.png") as restored, Image.open(images / "butterfly.png") as given:
        assert restored.size == given.size


@pytest.mark.parametrize("name", SEGMENTERS)
def test_a_declared_segmenter_is_loaded_with_its_classes(name: str, beside: Path) -> None:
    model = load(beside / f"{name}.json")
    assert (cost.num_params(model.net), model.task["num_classes"]) == SEGMENTERS[name]
    assert len(model.task["names"]) == SEGMENTERS[name][1]


@pytest.mark.parametrize("name", ["rlfn", "zero_dce_neuro", "iat", "sinet"])
def test_a_recipe_is_inferred_from_a_declaration_and_runs(name: str, beside: Path) -> None:
    few = ["--steps", "2", "--cheaper", "10", "--set", "cache.inputs=8", "--set", "batch_size=4", "--no-controls",
           "--set", "precision=float32"]  # fmt: skip
    scale, least = (4, 32) if name in UPSCALERS else (1, 40)
    pixels = np.random.default_rng(0).integers(0, 255, (scale * least, scale * least, 3), np.uint8)
    (beside / "few").mkdir()
    Image.fromarray(pixels).save(beside / "few" / "small.png")
    images = json.dumps({"name": "folder", "args": {"path": str(beside / "few"), "whole": True}})
    assert call("distill", str(beside / f"{name}.json"), *few, "--set", f"task.args.evaluate={images}", "--out",
                str(beside / "run"), "--quiet") == 0  # fmt: skip
    report = Report.read(beside / "run")
    teacher, student = report.find("teacher"), report.find("student")
    assert teacher is not None
    assert student is not None
    assert teacher.macs >= 10 * student.macs > 0


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
def test_the_flow_says_digits_and_which(weights: Path) -> None:
    """Of half noise it says the digit, better told which it is than told another or none."""
    net: Any = declared("mnist_flow", "teacher")
    assert cost.num_params(net) == 208_705
    digits = torch.from_numpy(read_idx(weights / "mnist" / "t10k-images-idx3-ubyte.gz", 3)[:64].copy())
    label = torch.from_numpy(read_idx(weights / "mnist" / "t10k-labels-idx1-ubyte.gz", 1)[:64].copy()).long()
    y, sigma = digits[:, None] / 127.5 - 1, torch.full((64,), 2.0)
    x = y + 2.0 * torch.randn(y.shape, generator=torch.Generator().manual_seed(0))
    told, other, untold = (psnr(net(x, sigma=sigma, label=each), y).mean()
                           for each in (label, (label + 3) % 10, torch.full_like(label, 10)))  # fmt: skip
    assert told > 13
    assert told > untold + 0.3 > other + 0.6


@torch.inference_mode()
def test_the_dcgan_draws_faces_that_differ(weights: Path) -> None:
    net = declared("faces", "teacher")
    assert cost.num_params(net) == 3_576_704
    faces = net(torch.randn(16, 100, generator=torch.Generator().manual_seed(0)))
    assert faces.shape == (16, 3, 64, 64)
    assert faces.abs().max() <= 1
    assert (faces - faces.mean(0)).std() > 0.3
