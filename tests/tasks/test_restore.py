"""The task of all damages: what is seen, what is measured, and how pairs of two sizes come."""

from itertools import islice

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from kdgen.data import Pairs
from kdgen.registry import Spec, build
from kdgen.tasks import Denoise, Restore
from kdgen.tasks.restore import luma
from kdgen.types import UserError

SHRINK = {"name": "shrink", "args": {"scale": 2}}
FAST = {"images": {"name": "photographs"}, "patch": 48}


class Nothing(nn.Module):
    def forward(self, x):
        return x


@pytest.mark.parametrize(
    "damages", [["jpeg"], ["blur", "noise"], [SHRINK], ["mask"], [SHRINK, {"name": "shrink", "args": {"scale": 2}}]]
)
def test_batches_are_a_function_of_seed_and_number(damages):
    task = build("task", Spec(name="restore", args={**FAST, "damages": damages}))
    first, second = islice(task.batches(batch_size=3, seed=5), 2)
    (again,) = islice(task.batches(batch_size=3, seed=5, start=1), 1)
    assert torch.equal(second.x, again.x)
    assert torch.equal(second.y, again.y)
    assert not torch.equal(first.x, second.x)
    assert first.y.shape == (3, 3, 48, 48)
    assert first.x.shape[-1] * task.scale == 48
    assert task.answer_shape(first) == (3, 48, 48)
    fresh = task.resample_noise(first, seed=1)
    assert torch.equal(fresh.y, first.y)
    assert torch.equal(fresh.x, first.x) == (damages[0] == SHRINK)


def test_of_noise_alone_it_measures_what_denoise_does():
    noisy = Restore(damages=[{"name": "noise", "args": {"sigma": 25}}], channels=1)
    plain = Denoise(sigma=25)
    net = Nothing()
    a, b = noisy.evaluate(net, limit=2), plain.evaluate(net, limit=2)
    assert a["psnr"] == pytest.approx(b["psnr"], abs=0.1)
    assert noisy.evaluate_input(limit=2) == a


def test_the_baseline_is_bicubic_and_luma_is_measured_as_papers_do():
    task = Restore(damages=[SHRINK], measure="y")
    figures = task.evaluate_input(limit=1)
    assert (
        set(figures) == {"psnr_y", "ssim_y"} == set(task.measure(torch.zeros(1, 3, 32, 32), torch.zeros(1, 3, 32, 32)))
    )
    ((_, batch),) = task.evaluation_images(limit=1)
    enlarged = nn.functional.interpolate(batch.x, scale_factor=2, mode="bicubic", antialias=True)
    octets = [((each.clamp(-1, 1) + 1) * 127.5).round().double() for each in (enlarged, batch.y)]
    weights = torch.tensor([65.481, 128.553, 24.966]).view(1, 3, 1, 1) / 255
    error = ((octets[0] - octets[1]) * weights).sum(1)[..., 2:-2, 2:-2]
    assert figures["psnr_y"] == pytest.approx(10 * torch.log10(255**2 / error.square().mean()).item(), abs=1e-3)


@pytest.mark.parametrize(("colour", "value"), [((255, 255, 255), 235), ((0, 0, 0), 16), ((255, 0, 0), 81.481)])
def test_luma_is_that_of_bt601(colour, value):
    image = torch.tensor(colour).view(1, 3, 1, 1).expand(1, 3, 4, 4) / 127.5 - 1
    torch.testing.assert_close((luma(image, 1) + 1) * 127.5, torch.full((1, 1, 2, 2), float(value)), atol=1e-3, rtol=0)


def test_several_levels_stand_by_themselves():
    figures = Restore(damages=["jpeg"], evaluate_at=[0.0, 1.0]).evaluate(Nothing(), limit=1)
    assert figures["psnr@0"] > figures["psnr@1"] + 2
    assert figures["psnr"] == pytest.approx((figures["psnr@0"] + figures["psnr@1"]) / 2)


@pytest.fixture
def scaled(tmp_path):
    """Pairs of which the clean ones are twice as large, one by a pixel more, named as benchmarks do."""
    dice = np.random.default_rng(0)
    for name, (height, width) in {"a": (40, 60), "b": (30, 33)}.items():
        small = dice.integers(0, 256, (height, width, 3), dtype=np.uint8)
        large = small.repeat(2, 0).repeat(2, 1)
        large = np.pad(large, ((0, name == "b"), (0, 0), (0, 0)))
        for folder, picture in ((f"small/{name}x2.png", small), (f"large/{name}.png", large)):
            (tmp_path / folder).parent.mkdir(exist_ok=True)
            Image.fromarray(picture).save(tmp_path / folder)
    return {"name": "pairs", "args": {"damaged": str(tmp_path / "small"), "clean": str(tmp_path / "large")}}


def test_pairs_of_two_sizes_are_cut_at_the_same_places(scaled):
    task = Restore(images=scaled, patch=24)
    assert task.scale == 2
    for batch in islice(task.batches(batch_size=4, seed=0), 3):
        assert batch.x.shape == (4, 3, 12, 12)
        assert torch.equal(batch.x.repeat_interleave(2, 2).repeat_interleave(2, 3), batch.y)
    for _, batch in task.evaluation_images():
        assert [2 * length for length in batch.x.shape[-2:]] == list(batch.y.shape[-2:])
    assert Pairs(**scaled["args"]).scale == 2
    assert task.example().x.shape == (1, 3, 128, 128)
    assert task.answer_shape(task.example()) == (3, 256, 256)
    assert task.describe() == {"name": "restore", "damage": "that of its training images", "scale": 2, "channels": 3}
    assert "images that it was trained on" in task.limits(task.describe())


@pytest.mark.parametrize(("args", "line"), [
    ({"damages": []}, "a list of damages"),
    ({"damages": ["fog"]}, "no damage is called 'fog'"),
    ({"damages": [SHRINK], "patch": 33}, "patch is 33, and images become 2 times smaller"),
    ({"evaluate_at": [2]}, "share in"),
    ({"measure": "lab"}, '"rgb" or "y"'),
])  # fmt: skip
def test_what_does_not_fit_is_refused(args, line):
    with pytest.raises(UserError, match=line):
        build("task", Spec(name="restore", args=args))


def test_pairs_of_another_scale_than_training_are_refused(scaled):
    with pytest.raises(UserError, match=r"1 times larger in training, and 2 times"):
        Restore(damages=["noise"], evaluate=scaled)
