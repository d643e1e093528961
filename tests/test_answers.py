"""The teacher made cheap, and its cached answers."""

import multiprocessing
import os
import shutil
import time
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from kdgen.answers import AnswerPool
from kdgen.data.augment import dihedral, inverse
from kdgen.recipe import Pool
from kdgen.registry import Use, build
from kdgen.tasks import Denoise
from kdgen.teacher import Teacher
from kdgen.types import UserError

CPU = torch.device("cpu")


class Negative(nn.Module):
    """A teacher that commutes with flips and rotations, and whose tap is twice its input."""

    def __init__(self) -> None:
        super().__init__()
        self.twice = nn.Conv2d(1, 1, 1, bias=False)
        nn.init.constant_(self.twice.weight, 2.0)
        self.calls = 0

    def forward(self, x: Tensor, **cond: Tensor) -> Tensor:
        self.calls += 1
        return -self.twice(x) / 2


class Lopsided(nn.Module):
    """A teacher as training leaves them: its filters have directions, and its borders are not its middle."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 1, 3, padding=1)
        generator = torch.Generator().manual_seed(5)
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.5, generator=generator)

    def forward(self, x: Tensor, **cond: Tensor) -> Tensor:
        out: Tensor = self.last(self.first(x).relu())
        return out


def task(**args: object) -> Denoise:
    made: Denoise = build("task", Use(name="denoise", args={"sigma": 25, "patch": 16, **args}))  # type: ignore[dict-item]
    return made


def pool(folder: Path, net: nn.Module, *, paths: tuple[str, ...] = (), **spec: object) -> AnswerPool:
    probe = next(task().batches(batch_size=2, seed=0))
    teacher = Teacher(net, probe, device=CPU, bfloat16=False)
    return AnswerPool(task(), Pool(dir=str(folder), **{"patches": 40, **spec}), teacher=teacher, paths=paths)  # type: ignore[arg-type]


@pytest.mark.parametrize("paths", [(), ("first",)])
@pytest.mark.parametrize("crop", [None, 8])
def test_an_answer_is_what_the_teacher_says_to_the_input_as_it_is_given(
    paths: tuple[str, ...], crop: int | None, tmp_path: Path
) -> None:
    net = Lopsided()
    made = pool(tmp_path, net, paths=paths, crop=crop)
    list(made.fill())
    for batch, answer in islice(made.batches(batch_size=8, seed=3), 8):
        assert answer is not None
        assert batch.x.shape == (8, 1, crop or 16, crop or 16)
        with torch.no_grad():
            torch.testing.assert_close(answer.output, net(batch.x), atol=8e-3, rtol=2e-3)
            for path in paths:
                torch.testing.assert_close(answer.taps[path].float(), net.first(batch.x), atol=8e-3, rtol=2e-3)


def test_features_stay_as_they_are_even_where_the_output_would_follow(tmp_path: Path) -> None:
    class Half(Negative):
        def __init__(self) -> None:
            super().__init__()
            self.edge = nn.Conv2d(1, 1, (1, 2), bias=False)

        def forward(self, x: Tensor, **cond: Tensor) -> Tensor:
            self.edge(x)
            return super().forward(x)

    net = Half()
    made = pool(tmp_path, net, paths=("edge",), crop=8)
    list(made.fill())
    assert "features do not follow" in made.equivariance.notes[0]
    for batch, answer in islice(made.batches(batch_size=8, seed=3), 6):
        assert answer is not None
        torch.testing.assert_close(answer.taps["edge"].float(), net.edge(batch.x).detach(), atol=2e-3, rtol=0)


def test_answers_that_follow_are_turned_and_cropped_anew_at_every_epoch(tmp_path: Path) -> None:
    made = pool(tmp_path, Negative(), crop=8)
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
    turned, plain = pool(tmp_path, Lopsided()), pool(tmp_path, Lopsided(), augment=False)
    for each in (turned, plain):
        list(each.fill())
    assert turned.folder != plain.folder
    index = torch.arange(40)
    pairs = zip(turned[index][0].x, plain[index][0].x, strict=True)
    orientations = [[torch.equal(dihedral(b[None], k)[0], a) for k in range(8)].index(True) for a, b in pairs]
    assert set(orientations) == set(range(8))


def test_the_truth_alone_is_turned_and_cropped_whatever_the_teacher_does(tmp_path: Path) -> None:
    made = pool(tmp_path, Lopsided(), patches=8)
    list(made.fill())
    seen = {tuple(y.flatten().tolist()) for batch, answer in islice(made.batches(batch_size=8, seed=0, truth=True), 12)
            for y in (batch.y if batch.y is not None else ())}  # fmt: skip
    assert len(seen) > 40


def test_what_was_found_before_is_not_measured_again(tmp_path: Path) -> None:
    net = Lopsided()
    teacher = Teacher(net, next(task().batches(batch_size=2, seed=0)), device=CPU)
    spec = Pool(dir=str(tmp_path), patches=16)
    found = AnswerPool(task(), spec, teacher=teacher).equivariance
    assert not found.turns
    told = AnswerPool(task(), spec, teacher=teacher, equivariance=replace(found, turns=True))
    assert told.folder != AnswerPool(task(), spec, teacher=teacher).folder


def test_a_batch_depends_on_seed_and_number_alone(tmp_path: Path) -> None:
    made = pool(tmp_path, Negative())
    list(made.fill())
    stream = made.batches(batch_size=8, seed=3)
    seventh = [next(stream) for _ in range(8)][7][0]
    again, _ = next(made.batches(batch_size=8, seed=3, start=7))
    assert torch.equal(seventh.x, again.x)
    assert not torch.equal(next(made.batches(batch_size=8, seed=4, start=7))[0].x, again.x)


def test_without_augmentation_an_epoch_holds_every_input_once(tmp_path: Path) -> None:
    made = pool(tmp_path, Negative(), augment=False)
    list(made.fill())
    stream = made.batches(batch_size=8, seed=0)
    seen = torch.cat([next(stream)[0].x for _ in range(5)]).flatten(1)
    stored, _ = made[torch.arange(40)]
    assert {tuple(row.tolist()) for row in seen} == {tuple(row.tolist()) for row in stored.x.flatten(1)}


def test_truth_alone_gets_fresh_noise_each_time(tmp_path: Path) -> None:
    made = pool(tmp_path, Negative(), augment=False, patches=8)
    list(made.fill())
    stream = made.batches(batch_size=8, seed=0, truth=True)
    (first, answer), (second, _) = next(stream), next(stream)
    assert answer is None
    assert first.y is not None
    assert second.y is not None
    order = [int(torch.stack([(y - z).abs().max() for z in second.y]).argmin()) for y in first.y]
    assert torch.equal(first.y, second.y[order])
    assert not torch.equal(first.x, second.x[order])


def test_answers_are_asked_once_and_shared(tmp_path: Path) -> None:
    first, second = Negative(), Negative()
    list(pool(tmp_path, first).fill())
    made = pool(tmp_path, second)
    assert made.complete
    list(made.fill())
    assert second.calls == 0


def test_another_teacher_seed_or_task_is_another_pool(tmp_path: Path) -> None:
    teacher = Teacher(Negative(), next(task().batches(batch_size=2, seed=0)), device=CPU, bfloat16=False)
    spec = Pool(dir=str(tmp_path), patches=16)
    folders = {
        AnswerPool(task(), spec, teacher=teacher, identity="a").folder,
        AnswerPool(task(), spec, teacher=teacher, identity="b").folder,
        AnswerPool(task(), spec, teacher=None).folder,
        AnswerPool(task(sigma=30), spec, teacher=teacher, identity="a").folder,
        AnswerPool(task(), spec.model_copy(update={"seed": 1}), teacher=teacher, identity="a").folder,
        AnswerPool(task(), spec, teacher=teacher, identity="a", paths=["twice"]).folder,
    }
    assert len(folders) == 6


def test_a_changed_file_is_another_task(tmp_path: Path) -> None:
    for number in range(3):
        Image.new("L", (20, 20), 10 * number).save(tmp_path / f"{number}.png")
    images = {"name": "folder", "args": {"path": str(tmp_path)}}
    before = task(images=images).fingerprint()
    assert task(images=images).fingerprint() == before
    Image.new("L", (20, 20), 255).save(tmp_path / "2.png")
    os.utime(tmp_path / "2.png", (1, 1))
    after = task(images=images).fingerprint()
    mixed = {"name": "mixture", "args": {"sources": [images, {"name": "dead_leaves"}]}}
    assert len({before, after, task(images=mixed).fingerprint(), task().fingerprint()}) == 4


def test_an_interrupted_pool_goes_on_where_it_was(tmp_path: Path) -> None:
    whole = pool(tmp_path / "whole", Negative())
    list(whole.fill())
    broken = pool(tmp_path / "broken", Negative())
    filling = broken._compute()
    broken.folder.parent.mkdir(parents=True)
    next(filling)
    (broken.folder / "filled").write_text("16")
    again = Negative()
    resumed = pool(tmp_path / "broken", again)
    assert not resumed.complete
    list(resumed.fill())
    index = torch.arange(40)
    assert torch.equal(whole[index][0].x, resumed[index][0].x)


def test_a_pool_over_its_bound_is_refused_with_what_would_fit(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"\d+ patches would fit"):
        list(pool(tmp_path, Negative(), max_gib=1e-5).fill())


def test_pools_used_longest_ago_make_room(tmp_path: Path) -> None:
    size = 40 * 16 * 16 * 3 * 2 + 80 + 4 * 128
    old, recent = pool(tmp_path, Negative(), seed=1), pool(tmp_path, Negative(), seed=2)
    for each, age in ((old, 100), (recent, 50)):
        list(each.fill())
        os.utime(each.folder, (time.time() - age, time.time() - age))
        each.close()
    list(pool(tmp_path, Negative(), seed=3, max_gib=2.5 * size / 2**30).fill())
    assert not old.complete
    assert recent.complete


def test_a_teacher_whose_answer_is_not_finite_is_named(tmp_path: Path) -> None:
    net = Negative()
    net.twice.weight.data.fill_(float("nan"))
    with pytest.raises(UserError, match="output is not finite"):
        list(pool(tmp_path, net).fill())


def test_an_answer_beyond_16_bits_is_refused_and_not_kept_as_infinite(tmp_path: Path) -> None:
    net = Negative()
    net.twice.weight.data.fill_(1e6)
    with pytest.raises(UserError, match=r"output is too large for 16 bits: .* pool\.patches=0"):
        list(pool(tmp_path, net).fill())


def _crowd_out(folder: Path) -> None:
    torch.set_num_threads(1)
    list(pool(folder, Negative(), seed=9, max_gib=1e-4).fill())


def test_pools_in_use_and_being_written_stay_whatever_room_another_process_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kdgen.answers.FLUSH_EVERY", 0.0)
    in_use, unused = pool(tmp_path, Negative(), seed=1), pool(tmp_path, Negative(), seed=2)
    for each in (in_use, unused):
        list(each.fill())
    unused.close()
    written = pool(tmp_path, Negative(), seed=3)
    filling = written.fill()
    assert next(filling) == 16
    process = multiprocessing.get_context("spawn").Process(target=_crowd_out, args=(tmp_path,))
    process.start()
    process.join(240)
    assert process.exitcode == 0
    assert not unused.folder.exists()
    assert list(filling)[-1] == 40
    for each in (in_use, written):
        batch, answer = each[torch.arange(40)]
        assert answer is not None
        torch.testing.assert_close(answer.output, -batch.x, atol=2e-3, rtol=0)


def test_a_pool_whose_folder_somebody_removed_is_said_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kdgen.answers.FLUSH_EVERY", 0.0)
    made = pool(tmp_path, Negative())
    filling = made.fill()
    next(filling)
    shutil.rmtree(made.folder)
    with pytest.raises(UserError, match=r"answers in .* vanished while they were written: .*kdgen resume"):
        next(filling)
    list(made.fill())
    shutil.rmtree(made.folder)
    with pytest.raises(UserError, match="vanished"):
        next(made.batches(batch_size=8, seed=0))


def _fill(folder: Path) -> None:
    torch.set_num_threads(1)
    list(pool(folder, Negative(), patches=64).fill())


def test_two_processes_fill_one_pool(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_fill, args=(tmp_path,)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0]
    made = pool(tmp_path, Negative(), patches=64)
    assert made.complete
    batch, answer = made[torch.arange(64)]
    assert answer is not None
    torch.testing.assert_close(answer.output, -batch.x, atol=2e-3, rtol=0)


@pytest.mark.parametrize("way", ["flipped", "cut", "emptied", "no header", "counted wrong"])
def test_damaged_answers_are_made_anew(way: str, tmp_path: Path) -> None:
    whole = pool(tmp_path, Negative())
    list(whole.fill())
    expected = whole[torch.arange(40)][1]
    file = whole.folder / "output.npy"
    data = bytearray(file.read_bytes())
    if way == "flipped":
        data[-100] ^= 64
    if way == "no header":
        data[12:20] = b"\n(((\n\n\n\n"
    file.write_bytes({"cut": data[:-300], "emptied": b""}.get(way, bytes(data)))
    if way == "counted wrong":
        (whole.folder / "sums.json").unlink()
    again = pool(tmp_path, Negative())
    assert not again.complete
    assert list(again.fill())[-1] == 40
    answer = again[torch.arange(40)][1]
    assert answer is not None
    assert expected is not None
    assert torch.equal(answer.output, expected.output)
    assert pool(tmp_path, Negative()).complete


def test_a_pool_of_fewer_inputs_than_there_could_be_is_filled_to_those_and_grows_later(tmp_path: Path) -> None:
    made = pool(tmp_path, Negative())
    assert list(made.fill(until=0.0)) == [16]
    assert not made.complete
    made.size = made.filled
    assert made.complete
    stored = made[torch.arange(16)][0].x.flatten(1)
    for batch, _ in islice(made.batches(batch_size=8, seed=0, truth=False), 6):
        upright = [dihedral(batch.x, inverse(k)).flatten(1) for k in range(8)]
        assert all(any((row == stored).all(1).any() for row in rows) for rows in zip(*upright, strict=True))
    assert list(pool(tmp_path, Negative()).fill())[-1] == 40
