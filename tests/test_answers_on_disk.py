"""Caches of answers on disk: shared, told apart, bounded, interrupted, damaged, and used by several processes."""

import errno
import multiprocessing
import os
import shutil
import time
from itertools import islice
from pathlib import Path

import pytest
import torch
from answering import CPU, Negative, cache, task
from PIL import Image
from safetensors.torch import load_file, save_file

from kdgen.data.augment import dihedral, inverse
from kdgen.recipe import CacheSpec
from kdgen.training.teacher import Teacher
from kdgen.training.teacher_cache import TeacherCache
from kdgen.types import UserError


def test_answers_are_asked_once_and_shared(tmp_path: Path) -> None:
    first, second = Negative(), Negative()
    list(cache(tmp_path, first).fill())
    made = cache(tmp_path, second)
    assert made.complete
    list(made.fill())
    assert second.calls == 0


def test_another_teacher_seed_or_task_is_another_pool(tmp_path: Path) -> None:
    teacher = Teacher(Negative(), next(task().batches(batch_size=2, seed=0)), device=CPU, bfloat16=False)
    spec = CacheSpec(dir=str(tmp_path), inputs=16)
    folders = {
        TeacherCache(task(), spec, teacher=teacher, identity="a").folder,
        TeacherCache(task(), spec, teacher=teacher, identity="b").folder,
        TeacherCache(task(), spec, teacher=None).folder,
        TeacherCache(task(sigma=30), spec, teacher=teacher, identity="a").folder,
        TeacherCache(task(), spec.model_copy(update={"seed": 1}), teacher=teacher, identity="a").folder,
        TeacherCache(task(), spec, teacher=teacher, identity="a", paths=["twice"]).folder,
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


def test_an_interrupted_pool_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kdgen.training.teacher_cache.FLUSH_EVERY", 0.0)
    whole = cache(tmp_path / "whole", Negative())
    list(whole.fill())
    broken = cache(tmp_path / "broken", Negative())
    filling = broken._compute()
    broken.folder.parent.mkdir(parents=True)
    assert next(filling) == 16
    again = Negative()
    resumed = cache(tmp_path / "broken", again)
    assert not resumed.complete
    list(resumed.fill())
    index = torch.arange(40)
    assert torch.equal(whole[index][0].x, resumed[index][0].x)


def test_a_pool_over_its_bound_is_refused_with_what_would_fit(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"\d+ inputs would fit"):
        list(cache(tmp_path, Negative(), max_gib=1e-5).fill())


def test_pools_used_longest_ago_make_room(tmp_path: Path) -> None:
    size = 40 * 16 * 16 * 3 * 2 + 80 + 4 * 128
    old, recent = cache(tmp_path, Negative(), seed=1), cache(tmp_path, Negative(), seed=2)
    for each, age in ((old, 100), (recent, 50)):
        list(each.fill())
        os.utime(each.folder, (time.time() - age, time.time() - age))
        each.close()
    list(cache(tmp_path, Negative(), seed=3, max_gib=2.5 * size / 2**30).fill())
    assert not old.complete
    assert recent.complete


def _crowd_out(folder: Path) -> None:
    torch.set_num_threads(1)
    list(cache(folder, Negative(), seed=9, max_gib=1e-4).fill())


def test_pools_in_use_and_being_written_stay_whatever_room_another_process_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kdgen.training.teacher_cache.FLUSH_EVERY", 0.0)
    in_use, unused = cache(tmp_path, Negative(), seed=1), cache(tmp_path, Negative(), seed=2)
    for each in (in_use, unused):
        list(each.fill())
    unused.close()
    written = cache(tmp_path, Negative(), seed=3)
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
    monkeypatch.setattr("kdgen.training.teacher_cache.FLUSH_EVERY", 0.0)
    made = cache(tmp_path, Negative())
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
    list(cache(folder, Negative(), inputs=64).fill())


def test_two_processes_fill_one_pool(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_fill, args=(tmp_path,)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0]
    made = cache(tmp_path, Negative(), inputs=64)
    assert made.complete
    batch, answer = made[torch.arange(64)]
    assert answer is not None
    torch.testing.assert_close(answer.output, -batch.x, atol=2e-3, rtol=0)


@pytest.mark.parametrize("way", ["flipped", "cut", "emptied", "no header", "counted wrong"])
def test_damaged_answers_are_made_anew(way: str, tmp_path: Path) -> None:
    whole = cache(tmp_path, Negative())
    list(whole.fill())
    expected = whole[torch.arange(40)][1]
    (file,) = whole.folder.iterdir()
    data = bytearray(file.read_bytes())
    if way == "flipped":
        data[-100] ^= 64
    if way == "no header":
        data[12:20] = b"\n(((\n\n\n\n"
    file.write_bytes({"cut": data[:-300], "emptied": b""}.get(way, bytes(data)))
    if way == "counted wrong":
        save_file(load_file(file), file, metadata={"checksum": "0"})
    again = cache(tmp_path, Negative())
    assert not again.complete
    assert list(again.fill())[-1] == 40
    answer = again[torch.arange(40)][1]
    assert answer is not None
    assert expected is not None
    assert torch.equal(answer.output, expected.output)
    assert cache(tmp_path, Negative()).complete


def test_a_damaged_shard_is_asked_anew_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kdgen.training.teacher_cache.FLUSH_EVERY", 0.0)
    made = cache(tmp_path, Negative(), inputs=72)
    assert list(made.fill()) == [16, 32, 48, 64, 72]
    expected = made[torch.arange(72)][1]
    shards = sorted(made.folder.iterdir())
    assert [shard.stem for shard in shards][1:3] == ["00000016-00000032", "00000032-00000048"]
    for shard in (shards[1], shards[4]):
        shard.write_bytes(shard.read_bytes()[:-300])
    undamaged = {shard: shard.stat().st_ino for shard in (shards[0], *shards[2:4])}
    again, asked = cache(tmp_path, Negative(), inputs=72), []
    again.equivariance, ask = made.equivariance, Teacher.answer
    monkeypatch.setattr(Teacher, "answer", lambda self, batch, *rest: asked.append(batch) or ask(self, batch, *rest))
    assert not again.complete
    assert list(again.fill()) == [64, 72]
    assert len(asked) == 2
    assert {shard: shard.stat().st_ino for shard in undamaged} == undamaged
    answer = again[torch.arange(72)][1]
    assert answer is not None
    assert expected is not None
    assert torch.equal(answer.output, expected.output)


def test_a_disk_that_fills_is_said_in_a_line_and_loses_no_shard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kdgen.training.teacher_cache.FLUSH_EVERY", 0.0)
    made, write, room = cache(tmp_path, Negative()), Path.write_bytes, [1]

    def small(path: Path, data: bytes) -> int:
        room[0] -= 1
        if room[0] < 0:
            write(path, data[:1000])
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(path, data)

    monkeypatch.setattr(Path, "write_bytes", small)
    filling = made.fill()
    assert next(filling) == 16
    with pytest.raises(UserError, match=r"has no room for the cache: .*--set cache\.inputs=N"):
        next(filling)
    assert [path.name for path in made.folder.iterdir()] == ["00000000-00000016.safetensors"]
    assert not list(made.folder.parent.glob("*.partial"))
    room[0] = 10
    assert list(cache(tmp_path, Negative()).fill()) == [32, 40]


def test_a_shard_is_of_some_size_however_long_it_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kdgen.training.teacher_cache.FLUSH_EVERY", 1e9)
    monkeypatch.setattr("kdgen.training.teacher_cache.SHARD_BYTES", 30 * 16 * 16 * 2 * 3)
    made = cache(tmp_path, Negative(), inputs=72)
    assert list(made.fill()) == [32, 64, 72]
    whole = cache(tmp_path / "whole", Negative(), inputs=72)
    list(whole.fill())
    index = torch.tensor([71, 0, 32, 31, 5, 64, 63])
    assert torch.equal(made[index][0].x, whole[index][0].x)


def test_a_pool_of_fewer_inputs_than_there_could_be_is_filled_to_those_and_grows_later(tmp_path: Path) -> None:
    made = cache(tmp_path, Negative())
    assert list(made.fill(until=0.0)) == [16]
    assert not made.complete
    made.size = made.filled
    assert made.complete
    stored = made[torch.arange(16)][0].x.flatten(1)
    for batch, _ in islice(made.batches(batch_size=8, seed=0, truth=False), 6):
        upright = [dihedral(batch.x, inverse(k)).flatten(1) for k in range(8)]
        assert all(any((row == stored).all(1).any() for row in rows) for rows in zip(*upright, strict=True))
    assert list(cache(tmp_path, Negative()).fill())[-1] == 40
