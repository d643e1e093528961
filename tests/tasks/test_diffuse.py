"""Denoising at every noise level: batches, their weights, the figures, and a net that learns."""

from itertools import islice

import pytest
import torch
from torch import Tensor

from kdgen.data import generator
from kdgen.diffusion import GaussianMixture
from kdgen.models.model import build_net
from kdgen.registry import Spec
from kdgen.tasks import Diffuse
from kdgen.types import UserError


def mixture(shift: float = 0.0) -> GaussianMixture:
    """Images of 8x8 near one of two: light above or light on the left."""
    ramp = torch.linspace(-0.7, 0.7, 8).view(1, 1, 8, 1).expand(1, 1, 8, 8)
    return GaussianMixture(torch.cat([-ramp, -ramp.mT]) + shift, std=0.1)


class Drawn:
    """The mixture's images as data."""

    def patches(self, count: int, size: int, *, channels: int, seed: int) -> Tensor:
        return mixture().draw(count, generator(seed, "mixture"))[0]

    def fingerprint(self) -> str:
        return "mixture"


@pytest.fixture
def task() -> Diffuse:
    return Diffuse(images=Drawn(), size=8, num_images=220, num_steps=8)


def test_a_batch_depends_on_seed_and_number_alone(task: Diffuse) -> None:
    third = list(islice(task.batches(batch_size=4, seed=1), 4))[3]
    again = next(task.batches(batch_size=4, seed=1, start=3))
    for key in ("x", "y", "weight"):
        assert torch.equal(getattr(third, key), getattr(again, key))
    assert torch.equal(third.cond["sigma"], again.cond["sigma"])
    for other in (task.batches(batch_size=4, seed=2, start=3), task.batches(batch_size=4, seed=1, start=4)):
        assert not torch.equal(third.x, next(other).x)


def test_noise_is_as_strong_as_it_is_said_to_be(task: Diffuse) -> None:
    batch = next(task.batches(batch_size=3000, seed=0))
    sigma = batch.cond["sigma"]
    assert sigma.log().mean().item() == pytest.approx(-1.2, abs=0.08)
    assert sigma.log().std().item() == pytest.approx(1.2, abs=0.06)
    noise = (batch.x - batch.y) / sigma.view(-1, 1, 1, 1)
    assert noise.std().item() == pytest.approx(1, abs=0.01)
    torch.testing.assert_close(batch.weight, (sigma**2 + 0.25) / (0.5 * sigma) ** 2)
    plain = Diffuse(images=Drawn(), size=8, weight="none")
    assert next(plain.batches(batch_size=2, seed=0)).weight is None


def test_renewed_images_are_under_other_noise(task: Diffuse) -> None:
    batch = next(task.batches(batch_size=4, seed=0))
    again = task.resample_noise(batch, seed=5)
    assert torch.equal(again.y, batch.y)  # type: ignore[arg-type]
    assert not torch.equal(again.x, batch.x)
    assert not torch.equal(again.cond["sigma"], batch.cond["sigma"])
    assert torch.equal(again.x, task.resample_noise(batch, seed=5).x)
    assert not torch.equal(again.weight, batch.weight)  # type: ignore[arg-type]


def test_loss_is_the_squared_error_of_each_image(task: Diffuse) -> None:
    batch = next(task.batches(batch_size=3, seed=0))
    assert batch.y is not None
    out = batch.y + torch.tensor([0.0, 1.0, 2.0]).view(-1, 1, 1, 1)
    torch.testing.assert_close(task.loss(out, batch), torch.tensor([0.0, 1.0, 4.0]))
    exact = task.loss(mixture()(batch.x, **batch.cond), batch)
    assert (exact < task.loss(batch.x, batch)).all()  # type: ignore[operator]


def test_described_and_told_apart(task: Diffuse) -> None:
    assert task.describe() == {"name": "diffuse", "size": 8, "channels": 1, "num_steps": 8}
    assert task.calls == 15
    others = [Diffuse(images=Drawn(), size=8, num_images=220, num_steps=8, **more)  # type: ignore[arg-type]
              for more in ({"mean": 0.0}, {"std": 1.0}, {"sigma_data": 1.0}, {"weight": "none"}, {"channels": 3})]  # fmt: skip
    assert len({each.fingerprint() for each in (task, *others, Diffuse(size=8, num_steps=8))}) == 7
    example = task.example()
    assert example.x.shape == (1, 1, 8, 8)
    assert example.cond["sigma"].tolist() == [1]


def test_the_teacher_is_near_itself_and_others_are_not(task: Diffuse) -> None:
    teacher, other = mixture().eval(), mixture(shift=0.25).eval()
    itself = task.evaluate(teacher, reference=teacher)
    figures = task.evaluate(other, reference=teacher)
    assert list(figures)[:4] == ["psnr", "ssim", "perceptual", "fd_features32"]
    assert set(figures) - set(itself) == {"psnr", "ssim", "perceptual"}
    assert itself["fd_features32"] < 0.3 * figures["fd_features32"]
    assert figures["psnr"] == pytest.approx(-20 * torch.tensor(0.25 / 2).log10().item(), abs=1.0)
    assert not any(key.endswith("@data") for key in figures)


def test_data_are_measured_against_where_asked_for() -> None:
    task = Diffuse(images=Drawn(), size=8, num_images=220, num_steps=18, data=True)
    teacher = mixture(shift=0.25).eval()
    figures = task.evaluate(mixture(), reference=teacher)
    assert figures["fd_features32@data"] < 0.3 * figures["fd_features32"]
    assert task.evaluate(mixture())["fd_features32"] == pytest.approx(figures["fd_features32@data"])
    assert "the data's" in task.describe_evaluation()


def test_samples_are_those_of_the_known_distribution() -> None:
    task = Diffuse(size=8, num_steps=18)
    drawn = task.draw(mixture(), num_images=200, seed=3)
    apart = (drawn[:, None] - mixture().means).square().mean((2, 3, 4)).sqrt()
    assert apart.amin(1).mean().item() == pytest.approx(0.1, abs=0.02)
    assert 60 < (apart.argmin(1) == 0).sum() < 140
    assert torch.equal(drawn, task.draw(mixture(), num_images=200, seed=3))


def test_a_small_net_learns(task: Diffuse) -> None:
    torch.manual_seed(0)
    args = {"size": 8, "block_out_channels": [8, 8], "norm_num_groups": 4, "attention_levels": 0}
    net, _ = build_net(Spec(name="unet2d", args=args), channels=1)  # type: ignore[arg-type]
    probe = next(task.batches(batch_size=64, seed=9))

    def error() -> float:
        with torch.no_grad():
            return (probe.weight * task.loss(net(probe.x, **probe.cond), probe)).mean().item()  # type: ignore[operator]

    before = error()
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3)
    for batch in islice(task.batches(batch_size=16, seed=0), 40):
        loss = (batch.weight * task.loss(net(batch.x, **batch.cond), batch)).mean()  # type: ignore[operator]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert error() < 0.5 * before


def test_without_images_it_can_measure_and_not_train() -> None:
    task = Diffuse(size=8, num_images=220, num_steps=4)
    assert task.evaluate(mixture(), reference=mixture().eval())["psnr"] > 90
    with pytest.raises(UserError, match="training needs images") as refused:
        next(task.batches(batch_size=2, seed=0))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("args", "words"),
    [({"std": 0}, "std is a number above 0"), ({"mean": float("nan")}, "mean is a number"), ({"weight": "min"}, "weight is"),
     ({"num_steps": 0}, "num_steps is a whole number")],
)  # fmt: skip
def test_unfit_arguments_are_refused(args: dict[str, object], words: str) -> None:
    with pytest.raises(UserError, match=words):
        Diffuse(**args)  # type: ignore[arg-type]


class DrawnByClass(Drawn):
    num_classes = 2
    num_labelled = None

    def labelled(self, count: int, size: int, *, channels: int, seed: int) -> tuple[Tensor, Tensor]:
        return mixture().draw(count, generator(seed, "mixture"))


def test_a_class_conditional_net_is_told_the_class_of_each_image() -> None:
    task = Diffuse(images=DrawnByClass(), size=8, num_images=220, num_steps=8, num_classes=2)
    batch = next(task.batches(batch_size=40, seed=0))
    assert batch.y is not None
    near = (batch.y[:, None] - mixture().means).square().mean((2, 3, 4)).argmin(1)
    assert torch.equal(batch.cond["label"], near)
    assert torch.equal(task.resample_noise(batch, seed=3).cond["label"], near)
    drawn = task.draw(mixture(), num_images=105, seed=0)
    assert (drawn[:, None] - mixture().means).square().mean((2, 3, 4)).argmin(1).tolist() == [0, 1] * 52 + [0]
    assert task.describe()["num_classes"] == 2
    assert task.example().cond["label"].tolist() == [0]
    for images, classes in ((Drawn(), 2), (DrawnByClass(), 1)):
        with pytest.raises(UserError, match="give images with labels below num_classes"):
            Diffuse(images=images, size=8, num_classes=classes)
