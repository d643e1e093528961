"""The denoising task: reproducible batches, honest noise, and evaluation that agrees with published figures."""

from itertools import islice

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from kdgen.data import Arrays
from kdgen.registry import Spec, build
from kdgen.tasks import Denoise
from kdgen.types import Batch, UserError

FAST = {"images": {"name": "photographs"}, "patch": 48}


def take(task, count, start=0, batch_size=4, seed=0):
    return list(islice(task.batches(batch_size=batch_size, seed=seed, start=start), count))


def same(a: Batch, b: Batch) -> bool:
    return torch.equal(a.x, b.x) and torch.equal(a.y, b.y) and torch.equal(a.cond["sigma"], b.cond["sigma"])


@pytest.mark.parametrize("args", [FAST, {**FAST, "channels": "both", "sigma": [0, 55]}, {"patch": 256}])
def test_a_batch_depends_on_seed_and_number_alone(args, monkeypatch):
    monkeypatch.setattr("kdgen.tasks.restoration.BLOCK_PIXELS", 2**18)
    task = build("task", Spec(name="denoise", args=args))
    state = torch.get_rng_state()
    first = take(task, 8)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(same(a, b) for a, b in zip(first, take(Denoise(**args), 8), strict=True))
    assert all(same(a, b) for a, b in zip(first[5:], take(task, 3, start=5), strict=True))
    assert not any(torch.equal(first[0].x, other.x) for other in [*first[2:], *take(task, 1, seed=1)])


def test_blocks_join_without_a_seam(monkeypatch):
    monkeypatch.setattr("kdgen.tasks.restoration.BLOCK_PIXELS", 3 * 4 * 48**2)
    task = Denoise(**FAST)
    ten = take(task, 10)
    assert all(same(ten[i], take(task, 1, start=i)[0]) for i in range(10))
    assert len({batch.x.sum().item() for batch in ten}) == 10


def test_noise_has_the_declared_strength_and_is_not_clipped():
    white = Arrays([np.full((64, 64), 255, np.uint8)])
    (batch,) = take(Denoise(sigma=25, images=white), 1, batch_size=16)
    noise = batch.x - batch.y
    assert noise.std().item() == pytest.approx(50 / 255, rel=0.01)
    assert abs(noise.mean().item()) < 0.003
    assert batch.x.max() > 1.3
    assert torch.allclose(batch.cond["sigma"], torch.full((16,), 50 / 255))


def test_a_range_of_noise_is_uniform_for_each_image():
    (batch,) = take(Denoise(sigma=[0, 55], **FAST), 1, batch_size=512)
    sigma8 = batch.cond["sigma"] * 255 / 2
    measured = (batch.x - batch.y).std((1, 2, 3)) * 255 / 2
    assert torch.allclose(measured, sigma8, rtol=0.25, atol=0.01)
    assert sigma8.min() < 2
    assert 53 < sigma8.max() < 55
    assert sigma8.mean().item() == pytest.approx(27.5, abs=2.5)


def test_no_noise_leaves_the_image():
    (batch,) = take(Denoise(sigma=0, **FAST), 1)
    assert torch.equal(batch.x, batch.y)
    assert Denoise(sigma=0, **FAST).evaluate_input(limit=1)["psnr"] == 100


def test_both_alternates_grey_and_colour():
    task = Denoise(channels="both", **FAST)
    assert [batch.x.shape[1] for batch in take(task, 5)] == [1, 3, 1, 3, 1]
    assert task.channels == 3
    assert task.describe() == {"name": "denoise", "sigma": 25.0, "channels": "both"}


def test_without_clean_images_the_input_is_what_lies_there(tmp_path):
    noisy = (128 + 80 * np.random.default_rng(0).standard_normal((32, 32))).astype(np.float32)
    Image.fromarray(noisy).save(tmp_path / "noisy.tif")
    images = {"name": "folder", "args": {"path": str(tmp_path)}}
    task = Denoise(sigma=25, clean=False, images=images, patch=32)
    (batch,) = take(task, 1)
    assert batch.y is None
    assert task.loss(batch.x, batch) is None
    values = torch.from_numpy(noisy / 127.5 - 1).flatten().sort().values
    assert all(torch.allclose(x.flatten().sort().values, values, atol=1e-5) for x in batch.x)
    assert torch.allclose(batch.cond["sigma"], torch.full((4,), 50 / 255))
    (batch,) = take(Denoise(sigma=[0, 55], clean=False, images=images, patch=32), 1)
    assert "sigma" not in batch.cond
    with pytest.raises(UserError, match="noisy images"):
        Denoise(clean=False)


def test_losses_are_per_image():
    y = torch.zeros(3, 1, 4, 4)
    out = torch.tensor([0.0, 0.1, -2.0])[:, None, None, None].expand(3, 1, 4, 4)
    batch = Batch(x=y, y=y)
    expected = {"l1": [0, 0.1, 2], "l2": [0, 0.01, 4], "charbonnier": [1e-3, (0.01 + 1e-6) ** 0.5, (4 + 1e-6) ** 0.5]}
    for name, values in expected.items():
        assert torch.allclose(Denoise(loss=name, **FAST).loss(out, batch), torch.tensor(values))


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ({"sigma": -1}, "sigma is"),
        ({"sigma": 101}, "sigma is"),
        ({"sigma": [30, 20]}, "sigma is"),
        ({"sigma": [1, 2, 3]}, "sigma is"),
        ({"sigma": "25"}, "sigma is"),
        ({"sigma": float("nan")}, "sigma is"),
        ({"channels": 0}, "channels is"),
        ({"patch": 0}, "patch is"),
        ({"loss": "charbonier"}, "charbonnier"),
        ({"images": {"name": "foldr"}}, "folder"),
        ({"evaluate": {"name": "dead_leaves"}}, "whole images"),
        ({"evaluate_sigmas": []}, "at least one"),
        ({"evaluate_sigmas": [300]}, "evaluate_sigmas is"),
    ],
)
def test_unfit_arguments_are_refused_in_one_line(args, words):
    with pytest.raises(UserError, match=words) as error:
        Denoise(**args)
    assert "\n" not in str(error.value)


class Shrink(nn.Module):
    """Blind, stateful and with a part that stays in evaluation mode."""

    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(0.9))
        self.norm = nn.BatchNorm2d(3).eval()
        self.seen = []

    def forward(self, x, **cond):
        assert not self.training
        assert torch.is_inference_mode_enabled()
        self.seen.append((tuple(x.shape), cond["sigma"].item()))
        return x * self.gain


def test_evaluation_measures_each_image_and_leaves_the_net_alone():
    task, net = Denoise(sigma=[0, 55], channels=3, **FAST), Shrink()
    figures = task.evaluate(net, limit=2)
    assert net.training
    assert not net.norm.training
    assert task.evaluate_sigmas == (15, 25, 50)
    assert len(net.seen) == 6
    assert [sigma for _, sigma in net.seen] == pytest.approx(np.repeat([30, 50, 100], 2) / 255)
    assert set(figures) == {n + s for n in ("psnr", "ssim", "sharpness") for s in ("", "@15", "@25", "@50")}
    assert figures["psnr"] == pytest.approx(np.mean([figures[f"psnr@{s}"] for s in (15, 25, 50)]))
    assert figures == task.evaluate(net, limit=2)
    assert figures != task.evaluate(net, limit=2, seed=1)
    assert Denoise(sigma=[1, 9], **FAST).evaluate_sigmas == (9,)


def test_the_noisy_input_has_the_figures_that_theory_says():
    """Before clamping PSNR is 20 log10(255 / sigma) = 20.17 dB; clamping takes a little noise away."""
    task = Denoise(sigma=25, **FAST)
    figures = task.evaluate_input()
    assert set(figures) == {"psnr", "ssim", "sharpness"}
    assert 20.1 < figures["psnr"] < 21.0
    assert figures["sharpness"] > 1
    (name, batch), *_ = task.evaluation_images(limit=1)
    assert name == "astronaut"
    assert (batch.x - batch.y).std().item() == pytest.approx(50 / 255, rel=0.01)


def test_odd_and_narrow_images_are_evaluated(tmp_path):
    for i, shape in enumerate([(1, 37), (29, 1), (17, 23, 3), (1, 1)]):
        Image.fromarray(np.full(shape, 99, np.uint8)).save(tmp_path / f"{i}.png")
    task = Denoise(evaluate={"name": "folder", "args": {"path": str(tmp_path)}}, **FAST)
    assert all(np.isfinite(value) for value in task.evaluate_input().values())


class PublishedDnCNN(nn.Module):
    """DnCNN-S: 17 layers that give the noise of an image in [0, 1]; Zhang et al., IEEE TIP 26(7), 2017."""

    def __init__(self, weights):
        super().__init__()
        layers = [nn.Conv2d(1, 64, 3, padding=1, bias=False), nn.ReLU()]
        for _ in range(15):
            layers += [nn.Conv2d(64, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Conv2d(64, 1, 3, padding=1, bias=False))
        self.layers.load_state_dict({k.removeprefix("module.dncnn."): v for k, v in weights.items()})

    def forward(self, x, **cond):
        x = (x + 1) / 2
        return 2 * (x - self.layers(x)) - 1


REFERENCE = 31.31
"""PSNR of DnCNN-S-25 on images 01 to 03 of Set12, noise and errors computed in NumPy in 8-bit units; mean of 8 seeds."""


def test_published_weights_get_their_published_figure(shared_data, tmp_path):
    weights = torch.load(shared_data / "dncnn-saoyan" / "DnCNN-S-25" / "net.pth", weights_only=True, map_location="cpu")
    for name in ("01.png", "02.png", "03.png"):
        (tmp_path / name).symlink_to(shared_data / "denoise-sets" / "Set12" / name)
    task = Denoise(sigma=25, evaluate={"name": "folder", "args": {"path": str(tmp_path)}}, **FAST)
    assert task.evaluate(PublishedDnCNN(weights))["psnr"] == pytest.approx(REFERENCE, abs=0.05)
