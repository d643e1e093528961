"""The examples: their declarations fit the published files, which behave as published, and they train."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

import kdgen.adapters
import kdgen.methods
import kdgen.tasks  # noqa: F401 - registers its names
from kdgen import registry
from kdgen.arguments import register_all
from kdgen.data import read_idx
from kdgen.metrics import cost
from kdgen.model import Model, load
from kdgen.recipe import Recipe, override, read
from kdgen.run import distill
from kdgen.types import Batch, Task

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
NAMES = sorted(path.stem for path in EXAMPLES.glob("*.json"))
LIGHTER = {
    "generate": {"num_images": 16},
    "diffuse": {"num_images": 4, "num_steps": 2},
    "decode": {"num_images": 4, "whole": False, "patch": 32},
}
"""What makes a task quick to measure."""

ENOUGH = {"faces": 8, "mnist-ddpm": 5, "mnist-gan": 8, "mnist-vae": 8, "taef2-decoder": 5}
"""How many times cheaper each student is, at least."""


@pytest.fixture(scope="module", autouse=True)
def registered() -> None:
    known = set(registry.names("net"))
    if not {"dcgan", "taesd_decoder", "brianpulfer_ddpm"} <= known:
        register_all(sorted(EXAMPLES.glob("*.py")))


def recipe(name: str, data: Path, *more: str) -> Recipe:
    """The recipe of an example, with its files in a folder of data."""
    given = read(EXAMPLES / f"{name}.json")
    return override(given, [*located(json.loads(given.to_json()), data), *more])


def located(part: Any, data: Path, prefix: str = "") -> list[str]:
    """Settings that put every relative path of a recipe under a folder."""
    if not isinstance(part, dict):
        return [f"{prefix}={data / part}"] if isinstance(part, str) and (data / part).exists() and "/" in part else []
    return [line for key, value in part.items() for line in located(value, data, f"{prefix}.{key}".lstrip("."))]


def parts(name: str, data: Path) -> tuple[Recipe, Task, Model]:
    made = recipe(name, data)
    assert made.teacher is not None
    task: Task = registry.build("task", made.task)
    return made, task, load(made.teacher)


def test_examples_are_there_and_told_of() -> None:
    told = (EXAMPLES / "README.md").read_text()
    assert set(NAMES) == set(ENOUGH)
    for name in NAMES:
        assert f"examples/{name}.json" in told
        with Image.open(EXAMPLES / f"{name}.png") as picture:
            picture.verify()
        assert (EXAMPLES / f"{name}.png").stat().st_size < 150_000


@pytest.mark.parametrize("name", NAMES)
def test_students_are_as_much_cheaper_as_said(name: str, shared_data: Path) -> None:
    made, task, teacher = parts(name, shared_data)
    student, example = registry.build("net", made.student), task.example()
    macs = [cost.macs(net, example.x, example.cond) for net in (teacher.net, student)]
    assert macs[0] >= ENOUGH[name] * macs[1]
    assert cost.num_params(teacher.net) >= 3 * cost.num_params(student)


@pytest.mark.parametrize("name", NAMES)
def test_two_steps(name: str, shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KDGEN_CACHE", str(tmp_path / "cache"))
    plain = recipe(name, shared_data, "steps=2", "batch_size=2", "pool.patches=4", "controls=false")
    args = {**plain.task.args, **LIGHTER[plain.task.name]}
    light = plain.model_copy(update={"task": plain.task.model_copy(update={"args": args})})
    events = list(distill(light, tmp_path / "run"))
    assert events[-1].kind == "done"
    assert [event.step for event in events if event.kind == "leg"] == [2]
    assert all(weight.isfinite().all() for weight in load(tmp_path / "run").net.state_dict().values())


def lenet(data: Path, x: Tensor) -> Tensor:
    """Logits of the published LeNet-5 for digits ``(B, 1, 28, 28)`` in [-1, 1]."""
    found = torch.load(data / "gan-vae-csinva" / "lenet_epoch12_test_acc0.991.pth", weights_only=True)
    h = F.pad((x + 1) / 2, (2, 2, 2, 2))
    for name in ("c1", "c3"):
        h = F.max_pool2d(F.relu(F.conv2d(h, found[f"convnet.{name}.weight"], found[f"convnet.{name}.bias"])), 2)
    h = F.relu(F.conv2d(h, found["convnet.c5.weight"], found["convnet.c5.bias"])).flatten(1)
    h = F.relu(F.linear(h, found["fc.f6.weight"], found["fc.f6.bias"]))
    return F.linear(h, found["fc.f7.weight"], found["fc.f7.bias"])


def test_gan_draws_digits_in_the_proportions_it_is_known_for(shared_data: Path) -> None:
    """Measured by others on 10,000 images: the generator has partly collapsed."""
    _, _, teacher = parts("mnist-gan", shared_data)
    classes = lenet(shared_data, teacher.draw(4000)).argmax(1).bincount(minlength=10) / 4000
    known = torch.tensor([796, 3413, 202, 571, 683, 307, 439, 1716, 382, 1491]) / 10000
    assert (classes - known).abs().max() < 0.03


def test_vae_decoder_makes_of_latents_what_the_whole_vae_makes_of_digits(shared_data: Path) -> None:
    """The published test loss is 103.27 nats an image: that of the decoder's half, and the divergence of the latents."""
    _, _, teacher = parts("mnist-vae", shared_data)
    weights = torch.load(shared_data / "gan-vae-csinva" / "vae_epoch_25.pth", weights_only=True)
    digits = torch.from_numpy(read_idx(shared_data / "mnist" / "t10k-images-idx3-ubyte.gz", 3)[:4000].copy()) / 255
    h = F.relu(F.linear(digits.flatten(1), weights["fc1.weight"], weights["fc1.bias"]))
    mean, log_variance = (F.linear(h, weights[f"{key}.weight"], weights[f"{key}.bias"]) for key in ("fc21", "fc22"))
    noise = torch.randn(mean.shape, generator=torch.Generator().manual_seed(0))
    out = (teacher.net(mean + (log_variance / 2).exp() * noise).squeeze(1) + 1) / 2
    entropy = F.binary_cross_entropy(out.clamp(1e-7, 1 - 1e-7), digits, reduction="sum") / len(digits)
    divergence = -0.5 * (1 + log_variance - mean**2 - log_variance.exp()).sum(1).mean()
    assert (entropy + divergence).item() == pytest.approx(103.27, abs=2.0)


def test_dcgan_draws_faces_that_differ(shared_data: Path) -> None:
    _, _, teacher = parts("faces", shared_data)
    drawn = teacher.draw(200)
    assert drawn.shape == (200, 3, 64, 64)
    assert 0.35 < drawn.std().item() < 0.55
    assert drawn.std(0).mean().item() > 0.3
    smooth = (drawn.diff(dim=-1).square().mean() / drawn.var()).item()
    assert smooth < 0.1  # of noise it is 2
    mirrored = torch.corrcoef(torch.stack([drawn.mean((0, 1)).flatten(), drawn.mean((0, 1)).flip(-1).flatten()]))[0, 1]
    assert mirrored > 0.5  # faces are about symmetric on average


def test_taef2_gives_photographs_back(shared_data: Path) -> None:
    """Set5: 31.14 dB was measured on whole images; these are cut to multiples of 16."""
    _, task, teacher = parts("taef2-decoder", shared_data)
    assert task.evaluate(teacher.net)["psnr"] == pytest.approx(31.14, abs=0.15)


def test_ddpm_denoises_digits(shared_data: Path) -> None:
    """Its squared error is far under the variance of the digits, 0.38, wherever there is something to see."""
    _, task, teacher = parts("mnist-ddpm", shared_data)
    y = next(task.batches(batch_size=64, seed=0)).y
    assert y is not None
    noise = torch.randn(y.shape, generator=torch.Generator().manual_seed(0))
    for sigma, worst in ((0.1, 0.002), (0.5, 0.02), (1.0, 0.05), (2.0, 0.12)):
        batch = Batch(x=y + sigma * noise, cond={"sigma": torch.full((64,), sigma)})
        with torch.inference_mode():
            assert (teacher.net(batch.x, **batch.cond) - y).square().mean() < worst
