"""Latents to images: batches, the data beside them, and figures against the teacher and the data."""

from itertools import islice

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdgen.data import generator
from kdgen.registry import Spec, build
from kdgen.tasks import Generate
from kdgen.types import UserError

SIGNS = ["saturation", "contrast", "diversity_ratio"]
MADE = ["fd_features32", "kd_features32", "precision", "recall", "density", "coverage", "sharpness"]


class Drawer(nn.Module):
    """Latents of 16 numbers as 4x4 fields, enlarged to 16x16: blurred as many times as asked, times a gain."""

    def __init__(self, blurs: int = 0, gain: float = 0.7, scale: int = 4) -> None:
        super().__init__()
        self.blurs, self.scale = blurs, scale
        self.gain = nn.Parameter(torch.tensor(gain))

    def forward(self, x: Tensor, **cond: Tensor) -> Tensor:
        y = self.gain * x.view(-1, 1, 4, 4).sign().repeat_interleave(self.scale, 2).repeat_interleave(self.scale, 3)
        for _ in range(self.blurs):
            y = F.avg_pool2d(y, 3, stride=1, padding=1)
        return y


class Fields:
    """What a drawer draws, as data."""

    def patches(self, count: int, size: int, *, channels: int, seed: int) -> Tensor:
        drawn = Drawer(scale=size // 4)(torch.randn((count, 16), generator=generator(seed, "fields")))
        return drawn.detach().expand(-1, channels, -1, -1)

    def fingerprint(self) -> str:
        return "fields"


@pytest.fixture
def task() -> Generate:
    return Generate(latent=16, size=16, num_images=300)


def test_a_batch_depends_on_seed_and_number_alone() -> None:
    task = Generate(latent=[3, 4, 4], size=16, images=Fields())
    third = list(islice(task.batches(batch_size=5, seed=1), 4))[3]
    again = next(task.batches(batch_size=5, seed=1, start=3))
    assert third.x.shape == (5, 3, 4, 4)
    assert torch.equal(third.x, again.x)
    assert third.real is not None
    assert third.real.shape == (5, 1, 16, 16)
    assert torch.equal(third.real, again.real)  # type: ignore[arg-type]
    for other in (task.batches(batch_size=5, seed=2, start=3), task.batches(batch_size=5, seed=1, start=4)):
        batch = next(other)
        assert not torch.equal(third.x, batch.x)
        assert not torch.equal(third.real, batch.real)  # type: ignore[arg-type]


def test_latents_are_standard_normal(task: Generate) -> None:
    x = next(task.batches(batch_size=4000, seed=0)).x
    assert x.shape == (4000, 16)
    assert x.mean().item() == pytest.approx(0, abs=0.01)
    assert x.std().item() == pytest.approx(1, abs=0.01)


def test_there_is_no_truth_and_nothing_to_renew(task: Generate) -> None:
    batch = next(task.batches(batch_size=2, seed=0))
    assert task.loss(Drawer()(batch.x), batch) is None
    assert task.resample_noise(batch, seed=1) is batch
    assert (batch.y, batch.real) == (None, None)
    assert task.example().x.shape == (1, 16)


def test_described_and_told_apart(task: Generate) -> None:
    assert task.describe() == {"name": "generate", "latent": [16], "size": 16, "channels": 1}
    assert build("task", Spec(name="generate", args={"latent": 16, "size": 16})).fingerprint() == task.fingerprint()
    others = [Generate(latent=17, size=16), Generate(latent=16, size=8), Generate(latent=16, size=16, channels=3),
              Generate(latent=16, size=16, images=Fields())]  # fmt: skip
    assert len({each.fingerprint() for each in (task, *others)}) == 5
    assert task.primary_metric == "fd_features32"
    assert Generate(features="inception").primary_metric == "fid"


def test_the_teacher_is_near_itself_and_farther_the_more_it_is_blurred(task: Generate) -> None:
    teacher = Drawer().eval()
    itself = task.evaluate(teacher, reference=teacher)
    assert list(itself) == [*MADE, *SIGNS, "diversity", "vendi"]
    blurred = [task.evaluate(Drawer(blurs), reference=teacher) for blurs in (1, 3)]
    assert itself["fd_features32"] < blurred[0]["fd_features32"] < blurred[1]["fd_features32"]
    assert itself["fd_features32"] < 0.2 * blurred[1]["fd_features32"]
    assert itself["sharpness"] == pytest.approx(1, abs=0.05)
    assert blurred[1]["sharpness"] < blurred[0]["sharpness"]
    assert list(blurred[0])[:3] == ["psnr", "ssim", "perceptual"]
    assert blurred[0]["psnr"] > blurred[1]["psnr"]
    assert blurred[0]["perceptual"] < blurred[1]["perceptual"]


def test_a_student_like_its_teacher_agrees_and_one_that_draws_one_image_is_found_out(task: Generate) -> None:
    class Stuck(Drawer):
        def forward(self, x: Tensor, **cond: Tensor) -> Tensor:
            return super().forward(x[:1].expand(len(x), -1) * 0 + 1)

    teacher = Drawer().eval()
    same, stuck = (task.evaluate(net, reference=teacher) for net in (Drawer(), Stuck()))
    assert same["psnr"] > 90
    assert same["perceptual"] == pytest.approx(0, abs=1e-6)
    assert stuck["diversity"] == pytest.approx(0, abs=1e-6)
    assert stuck["vendi"] == pytest.approx(1, abs=0.01)
    assert same["diversity"] > 0.05
    assert same["vendi"] > 2
    assert stuck["recall"] == 0


def test_data_stand_beside_the_teacher_or_in_its_place() -> None:
    task = Generate(latent=16, size=16, num_images=220, images=Fields())
    teacher = Drawer(blurs=2).eval()
    both = task.evaluate(Drawer(), reference=teacher)
    assert [key for key in both if key.endswith("@data")] == [f"{key}@data" for key in MADE]
    assert both["fd_features32@data"] < both["fd_features32"]
    alone = task.evaluate(Drawer())
    assert list(alone) == [*MADE, *SIGNS, "diversity", "vendi"]
    assert {key: both[f"{key}@data"] for key in MADE} == pytest.approx({key: alone[key] for key in MADE})
    with pytest.raises(UserError, match="nothing to compare with"):
        Generate(latent=16, size=16, num_images=220).evaluate(Drawer())


def test_a_quick_look_measures_fewer_and_a_larger_teacher_is_resampled(task: Generate) -> None:
    figures = task.evaluate(Drawer(), reference=Drawer(scale=8).eval(), limit=40)
    assert list(figures) == ["psnr", "ssim", "perceptual", "sharpness", *SIGNS, "diversity", "vendi"]
    assert figures["psnr"] > 15


def test_drawn_by_seed_and_measured_with_its_provenance(task: Generate) -> None:
    teacher = Drawer().eval()
    assert torch.equal(task.draw(teacher, num_images=5, seed=1), task.draw(teacher, num_images=5, seed=1))
    assert not torch.equal(task.draw(teacher, num_images=5, seed=1), task.draw(teacher, num_images=5, seed=2))
    said = task.describe_evaluation(reference=teacher, seed=3)
    assert "300 images with seed 3" in said
    assert "features features32, statistics " in said
    assert (
        said
        == task.describe_evaluation(reference=teacher, seed=3)
        != task.describe_evaluation(reference=Drawer(1).eval(), seed=3)
    )


@pytest.mark.parametrize("args", [{"latent": 0}, {"latent": [4, 0]}, {"channels": 0}, {"size": 1.5}, {"num_images": 0}])
def test_unfit_arguments_are_refused_by_name(args: dict[str, object]) -> None:
    with pytest.raises(UserError, match=f"generate: {next(iter(args))} is a whole number"):
        Generate(**args)  # type: ignore[arg-type]


class DrawerByClass(Drawer):
    def forward(self, x: Tensor, *, label: Tensor, **cond: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(x) * (1 + label.view(-1, 1, 1, 1)) / 2


def test_a_class_conditional_generator_is_told_the_class_of_each_latent() -> None:
    task = Generate(latent=16, size=16, num_classes=2)
    batch = next(task.batches(batch_size=200, seed=0))
    assert 70 < batch.cond["label"].sum() < 130
    assert torch.equal(batch.cond["label"], next(task.batches(batch_size=200, seed=0)).cond["label"])
    loud = task.draw(DrawerByClass(), num_images=5).abs().amax((1, 2, 3))
    torch.testing.assert_close(loud, torch.tensor([0.35, 0.7, 0.35, 0.7, 0.35]))
    assert task.describe()["num_classes"] == 2
    assert task.example().cond["label"].tolist() == [0]
    with pytest.raises(UserError, match="num_classes"):
        Generate(num_classes=-1)
