"""Cached answers to what is no picture: latents, labels, weights, views of the teacher's own."""

import math
import os
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdgen.recipe import CacheSpec
from kdgen.training.teacher import Teacher
from kdgen.training.teacher_cache import TeacherCache, live
from kdgen.types import Batch, Task, UserError

CPU = torch.device("cpu")
MANY = 24


class Any(Task):
    """A task whose batches are told by a function of their number."""

    def __init__(self, made: object, *, equivariant: bool = False) -> None:
        self.made, self.equivariant = made, equivariant

    def batches(self, *, batch_size: int, seed: int, start: int = 0) -> Iterator[Batch]:
        number = start
        while True:
            yield self.made(batch_size, torch.Generator().manual_seed(1000 * seed + number))  # type: ignore[operator]
            number += 1

    def resample_noise(self, batch: Batch, *, seed: int) -> Batch:
        noise = torch.randn(batch.x.shape, generator=torch.Generator().manual_seed(seed % 2**32))
        return replace(batch, x=batch.x + noise)

    def fingerprint(self) -> str:
        return "any"


class Labelled(nn.Module):
    """Answers with the input in the units of its label."""

    def forward(self, x: Tensor, *, label: Tensor | None = None, **cond: Tensor) -> Tensor:
        return -x if label is None else x * label.view(-1, *[1] * (x.ndim - 1))


def filled(folder: Path, task: Any, net: nn.Module | None = None, **spec: object) -> TeacherCache:
    probe = next(task.batches(batch_size=2, seed=0))
    teacher = Teacher(net or Labelled(), probe, device=CPU, bfloat16=False)
    cache = TeacherCache(task, CacheSpec(dir=str(folder), inputs=MANY, **spec), teacher=teacher)  # type: ignore[arg-type]
    list(cache.fill())
    return cache


def test_latents_are_kept_as_they_are(tmp_path: Path) -> None:
    for shape in ((5,), (3, 4, 4)):
        task = Any(lambda size, random, shape=shape: Batch(x=torch.randn((size, *shape), generator=random)))
        cache = filled(tmp_path / str(len(shape)), task)
        stored, _ = cache[torch.arange(MANY)]
        known = {tuple(row.tolist()) for row in stored.x.flatten(1)}
        for batch, answer in islice(cache.batches(batch_size=6, seed=1), 8):
            assert answer is not None
            assert {tuple(row.tolist()) for row in batch.x.flatten(1)} <= known
            torch.testing.assert_close(answer.output, -batch.x, atol=2e-3, rtol=0)


def test_integers_survive_and_conditions_reach_the_teacher(tmp_path: Path) -> None:
    def made(size: int, random: torch.Generator) -> Batch:
        label = torch.randint(0, 2**40, (size,), generator=random)
        return Batch(x=torch.ones(size, 1, 4, 4), y=label, cond={"label": label % 7, "level": label * 1e-9})

    cache = filled(tmp_path, Any(made, equivariant=True))
    batch, answer = next(cache.batches(batch_size=8, seed=0))
    assert batch.y is not None
    assert batch.y.dtype == batch.cond["label"].dtype == torch.int64
    assert batch.y.max() > 2**33
    assert torch.equal(batch.cond["label"], batch.y % 7)
    assert torch.equal(batch.cond["level"], batch.y * 1e-9)
    assert answer is not None
    assert torch.equal(answer.output[:, 0, 0, 0], batch.cond["label"].float())


def test_weights_and_conditions_are_kept_in_full_precision(tmp_path: Path) -> None:
    def made(size: int, random: torch.Generator) -> Batch:
        weight = 1e6 * torch.rand(size, generator=random)
        return Batch(x=torch.zeros(size, 1, 4, 4), weight=weight, cond={"sigma": weight / 3})

    batch, _ = next(filled(tmp_path, Any(made)).batches(batch_size=8, seed=0))
    fresh = torch.cat([next(live(Any(made), batch_size=16, seed=0, start=i))[0].weight for i in range(2)])  # type: ignore[list-item]
    assert batch.weight is not None
    assert set(batch.weight.tolist()) <= set(fresh.tolist())
    assert torch.equal(batch.cond["sigma"], batch.weight / 3)


def test_every_view_of_an_image_is_turned_and_cropped_alike(tmp_path: Path) -> None:
    def made(size: int, random: torch.Generator) -> Batch:
        x = torch.randn((size, 1, 16, 16), generator=random)
        larger = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
        return Batch(x=x, teacher_x=larger, y=x + 1, real=x, cond={"mask": x - 1})

    cache = filled(tmp_path, Any(made, equivariant=True), crop=8)
    for batch, answer in islice(cache.batches(batch_size=8, seed=2), 6):
        assert batch.teacher_x is not None
        assert batch.real is not None
        assert answer is not None
        assert batch.x.shape[-2:] == (8, 8)
        torch.testing.assert_close(batch.teacher_x[..., ::2, ::2], batch.x)
        torch.testing.assert_close(batch.cond["mask"], batch.x - 1, atol=2e-3, rtol=0)
        torch.testing.assert_close(batch.y, batch.x + 1, atol=2e-3, rtol=0)
        torch.testing.assert_close(answer.output, -batch.teacher_x, atol=2e-3, rtol=0)
        assert batch.real.shape[-2:] == (16, 16)


def test_features_larger_than_the_image_are_cropped_with_it(tmp_path: Path) -> None:
    class Larger(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up = nn.Upsample(scale_factor=2)

        def forward(self, x: Tensor, **cond: Tensor) -> Tensor:
            return self.up(x)[..., ::2, ::2]

    task = Any(lambda size, random: Batch(x=torch.randn((size, 1, 16, 16), generator=random)), equivariant=True)
    teacher = Teacher(Larger(), next(task.batches(batch_size=2, seed=0)), device=CPU, bfloat16=False)
    cache = TeacherCache(task, CacheSpec(dir=str(tmp_path), inputs=MANY, crop=8), teacher=teacher, paths=["up"])  # type: ignore[arg-type]
    list(cache.fill())
    for batch, answer in islice(cache.batches(batch_size=8, seed=2), 6):
        assert answer is not None
        assert answer.features["up"].shape[-2:] == (16, 16)
        torch.testing.assert_close(answer.features["up"][..., ::2, ::2].float(), batch.x)


def test_without_a_teacher_a_pool_holds_inputs_alone(tmp_path: Path) -> None:
    task = Any(lambda size, random: Batch(x=torch.randn((size, 3), generator=random)))
    cache = TeacherCache(task, CacheSpec(dir=str(tmp_path), inputs=MANY), teacher=None)  # type: ignore[arg-type]
    assert list(cache.fill())[-1] == MANY
    (first, answer), (again, _) = (next(cache.batches(batch_size=MANY, seed=1, truth=t)) for t in (False, True))
    assert answer is None
    assert (first.x - again.x).std().item() == pytest.approx(1, abs=0.3)


def test_a_pool_in_use_is_the_last_to_make_room(tmp_path: Path) -> None:
    task = Any(lambda size, random: Batch(x=torch.randn((size, 3), generator=random)))
    cache = filled(tmp_path, task)
    os.utime(cache.folder, (1, 1))
    assert list(filled(tmp_path, task).fill()) == []
    assert cache.folder.stat().st_mtime > 1


@pytest.mark.parametrize("labelled", [False, True])
def test_labels_of_each_pixel_and_truths_of_any_size_stay_in_step(tmp_path: Path, labelled: bool) -> None:
    def made(size: int, random: torch.Generator) -> Batch:
        small = torch.randint(50, (size, 1, 8, 8), generator=random).float()
        x, y = F.interpolate(small, scale_factor=3), F.interpolate(small, scale_factor=2)
        cond = {"classes": x[:, 0].long(), "tokens": small[:, 0]}
        return Batch(x=x, y=y[:, 0].long() if labelled else y, cond=cond)

    cache, cut = filled(tmp_path, Any(made, equivariant=True), crop=12), set()
    for batch, _ in islice(cache.batches(batch_size=8, seed=2), 6):
        assert batch.y is not None
        assert (batch.x.shape[-2:], batch.y.shape[-2:]) == ((12, 12), (8, 8))
        assert torch.equal(batch.x[:, 0, ::3, ::3], (batch.y if labelled else batch.y[:, 0])[..., ::2, ::2].float())
        assert torch.equal(batch.cond["classes"], batch.x[:, 0].long())
        assert batch.cond["tokens"].shape == (8, 8, 8)
        cut.add(batch.x[0].sum().item())
    assert len(cut) > 1


@pytest.mark.parametrize(("shape", "ways"), [((1, 8, 12), 4), ((2, 3, 8, 8), 8)])
def test_patches_that_are_not_square_are_flipped_and_videos_turned(
    tmp_path: Path, shape: tuple[int, ...], ways: int
) -> None:
    def made(size: int, random: torch.Generator) -> Batch:
        x = torch.arange(math.prod(shape)).float().view(shape).expand(size, *shape)
        return Batch(x=x, y=x + 1)

    seen = set()
    for batch, answer in islice(filled(tmp_path, Any(made, equivariant=True)).batches(batch_size=8, seed=2), 12):
        assert batch.x.shape[1:] == shape
        assert batch.y is not None
        assert answer is not None
        assert torch.equal(batch.y, batch.x + 1)
        assert torch.equal(answer.output, -batch.x)
        seen |= {tuple(each) for each in batch.x.flatten(1).tolist()}
    assert len(seen) == ways
    cropped = filled(tmp_path, Any(made, equivariant=True), crop=8)
    assert next(cropped.batches(batch_size=8, seed=0))[0].x.shape[-2:] == (8, 8)


def test_a_crop_that_cannot_be_is_refused_and_says_what_can(tmp_path: Path) -> None:
    def made(size: int, random: torch.Generator) -> Batch:
        x = torch.rand((size, 1, 12, 20), generator=random)
        return Batch(x=x, y=x[..., ::4, ::4])

    with pytest.raises(UserError, match=r"cache\.crop is 8, and parts of this task's inputs .* set it to null"):
        filled(tmp_path, Any(made), crop=8)
    for crop in (16, 10):
        with pytest.raises(UserError, match=f"cache.crop is {crop}, .* at most 12, a multiple of 4, or to null"):
            filled(tmp_path, Any(made, equivariant=True), crop=crop)
