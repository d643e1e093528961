"""The teacher's answers as training sees them: what the teacher says to the input as it is given."""

from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch
from answering import CPU, Lopsided, Negative, cache, task
from torch import Tensor, nn

from kdgen.data.augment import dihedral
from kdgen.recipe import CacheSpec
from kdgen.training.teacher import Teacher
from kdgen.training.teacher_cache import TeacherCache
from kdgen.types import UserError


@pytest.mark.parametrize("paths", [(), ("first",)])
@pytest.mark.parametrize("crop", [None, 8])
def test_an_answer_is_what_the_teacher_says_to_the_input_as_it_is_given(
    paths: tuple[str, ...], crop: int | None, tmp_path: Path
) -> None:
    net = Lopsided()
    made = cache(tmp_path, net, paths=paths, crop=crop)
    list(made.fill())
    for batch, answer in islice(made.batches(batch_size=8, seed=3), 8):
        assert answer is not None
        assert batch.x.shape == (8, 1, crop or 16, crop or 16)
        with torch.no_grad():
            torch.testing.assert_close(answer.output, net(batch.x), atol=8e-3, rtol=2e-3)
            for path in paths:
                torch.testing.assert_close(answer.features[path].float(), net.first(batch.x), atol=8e-3, rtol=2e-3)


def test_features_stay_as_they_are_even_where_the_output_would_follow(tmp_path: Path) -> None:
    class Half(Negative):
        def __init__(self) -> None:
            super().__init__()
            self.edge = nn.Conv2d(1, 1, (1, 2), bias=False)

        def forward(self, x: Tensor, **cond: Tensor) -> Tensor:
            self.edge(x)
            return super().forward(x)

    net = Half()
    made = cache(tmp_path, net, paths=("edge",), crop=8)
    list(made.fill())
    assert "features do not follow" in made.equivariance.notes[0]
    for batch, answer in islice(made.batches(batch_size=8, seed=3), 6):
        assert answer is not None
        torch.testing.assert_close(answer.features["edge"].float(), net.edge(batch.x).detach(), atol=2e-3, rtol=0)


def test_answers_that_follow_are_turned_and_cropped_anew_at_every_epoch(tmp_path: Path) -> None:
    made = cache(tmp_path, Negative(), crop=8)
    assert list(made.fill())[-1] == 40
    seen = set()
    for batch, answer in islice(made.batches(batch_size=8, seed=3), 25):
        assert answer is not None
        assert batch.x.shape == (8, 1, 8, 8)
        torch.testing.assert_close(answer.output, -batch.x, atol=2e-3, rtol=0)
        assert batch.y is not None
        assert (batch.x - batch.y).std().item() == pytest.approx(2 * 25 / 255, rel=0.15)
        seen |= {tuple(image.flatten().tolist()) for image in batch.x}
    assert len(seen) > 40


def test_inputs_are_turned_before_a_teacher_whose_answers_do_not_follow(tmp_path: Path) -> None:
    turned, plain = cache(tmp_path, Lopsided()), cache(tmp_path, Lopsided(), augment=False)
    for each in (turned, plain):
        list(each.fill())
    assert turned.folder != plain.folder
    index = torch.arange(40)
    pairs = zip(turned[index][0].x, plain[index][0].x, strict=True)
    orientations = [[torch.equal(dihedral(b[None], k)[0], a) for k in range(8)].index(True) for a, b in pairs]
    assert set(orientations) == set(range(8))


def test_the_truth_alone_is_turned_and_cropped_whatever_the_teacher_does(tmp_path: Path) -> None:
    made = cache(tmp_path, Lopsided(), inputs=8)
    list(made.fill())
    seen = {tuple(y.flatten().tolist()) for batch, answer in islice(made.batches(batch_size=8, seed=0, truth=True), 12)
            for y in (batch.y if batch.y is not None else ())}  # fmt: skip
    assert len(seen) > 40


def test_what_was_found_before_is_not_measured_again(tmp_path: Path) -> None:
    net = Lopsided()
    teacher = Teacher(net, next(task().batches(batch_size=2, seed=0)), device=CPU)
    spec = CacheSpec(dir=str(tmp_path), inputs=16)
    found = TeacherCache(task(), spec, teacher=teacher).equivariance
    assert not found.turns
    told = TeacherCache(task(), spec, teacher=teacher, equivariance=replace(found, turns=True))
    assert told.folder != TeacherCache(task(), spec, teacher=teacher).folder


def test_a_batch_depends_on_seed_and_number_alone(tmp_path: Path) -> None:
    made = cache(tmp_path, Negative())
    list(made.fill())
    stream = made.batches(batch_size=8, seed=3)
    seventh = [next(stream) for _ in range(8)][7][0]
    again, _ = next(made.batches(batch_size=8, seed=3, start=7))
    assert torch.equal(seventh.x, again.x)
    assert not torch.equal(next(made.batches(batch_size=8, seed=4, start=7))[0].x, again.x)


def test_without_augmentation_an_epoch_holds_every_input_once(tmp_path: Path) -> None:
    made = cache(tmp_path, Negative(), augment=False)
    list(made.fill())
    stream = made.batches(batch_size=8, seed=0)
    seen = torch.cat([next(stream)[0].x for _ in range(5)]).flatten(1)
    stored, _ = made[torch.arange(40)]
    assert {tuple(row.tolist()) for row in seen} == {tuple(row.tolist()) for row in stored.x.flatten(1)}


def test_truth_alone_gets_fresh_noise_each_time(tmp_path: Path) -> None:
    made = cache(tmp_path, Negative(), augment=False, inputs=8)
    list(made.fill())
    stream = made.batches(batch_size=8, seed=0, truth=True)
    (first, answer), (second, _) = next(stream), next(stream)
    assert answer is None
    assert first.y is not None
    assert second.y is not None
    order = [int(torch.stack([(y - z).abs().max() for z in second.y]).argmin()) for y in first.y]
    assert torch.equal(first.y, second.y[order])
    assert not torch.equal(first.x, second.x[order])


def test_a_teacher_whose_answer_is_not_finite_is_named(tmp_path: Path) -> None:
    net = Negative()
    net.twice.weight.data.fill_(float("nan"))
    with pytest.raises(UserError, match="output is not finite"):
        list(cache(tmp_path, net).fill())


def test_an_answer_beyond_16_bits_is_refused_and_not_kept_as_infinite(tmp_path: Path) -> None:
    net = Negative()
    net.twice.weight.data.fill_(1e6)
    with pytest.raises(UserError, match=r"output is too large for 16 bits: .* cache\.inputs=0"):
        list(cache(tmp_path, net).fill())


def test_an_input_beyond_16_bits_is_told_from_one_that_is_not_finite(tmp_path: Path) -> None:
    made = cache(tmp_path, Negative())
    batches = made.task.batches
    made.task.batches = lambda **given: (replace(batch, x=batch.x * 1e6) for batch in batches(**given))  # type: ignore[method-assign]
    with pytest.raises(UserError, match=r"x is too large for 16 bits: .* cache\.inputs=0"):
        list(made.fill())
