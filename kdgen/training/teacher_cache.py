"""The teacher's answers, cached on disk.

It is a fixed set of inputs with the teacher's outputs, and its features where asked for, computed once, kept in shards
that are memory-mapped, and shared by controls, seeds and later runs. What it gives is what the teacher says: an answer
is flipped, rotated or cropped with its input only where the teacher was measured to follow; else inputs are, before it
is asked.
"""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import chain, count
from pathlib import Path

import torch
from filelock import FileLock, Timeout
from torch import Tensor

from kdgen.data.augment import drawn
from kdgen.recipe import CacheSpec
from kdgen.training.equivariance import Equivariance, measured, of_features
from kdgen.training.shard_store import ShardStore
from kdgen.training.teacher import Teacher
from kdgen.types import Batch, Task, TeacherOutput, UserError, text
from kdgen.utils.cache import cache_folder, short_hash
from kdgen.utils.seed import derive, generator

FILL_BATCH = 16
FLUSH_EVERY = 2.0
"""Seconds after which what was answered is brought to the disk as a shard, at the next batch."""

SHARD_BYTES = 2**24
"""Bytes of answers from which on they are brought to the disk as a shard."""

TRUTH = "y"
"""The column that may hold NaN: readings that are missing."""

TOLD = ("cond.", "teacher_cond.")
"""How the columns of conditions are called: those of both nets, and those that the teacher alone is told."""

PROBED = 8
"""Inputs that are turned and cropped to see whether the teacher's answers follow."""

Stream = Iterator[tuple[Batch, TeacherOutput | None]]


def live(task: Task, *, batch_size: int, seed: int, start: int = 0) -> Stream:
    """Fresh batches without answers: the loop asks the teacher itself, if there is one."""
    return ((batch, None) for batch in task.batches(batch_size=batch_size, seed=seed, start=start))


class TeacherCache:
    """A fixed set of inputs on disk, with the answers of a teacher or, without one, with the truth alone.

    Args:
        task: where inputs come from.
        spec: size, place and augmentation.
        teacher: who answers; None keeps inputs and truth.
        identity: a hash of the teacher's architecture and weights.
        paths: layers of the teacher to keep.
        equivariance: what its answers follow, if that was found before; else it is measured when first needed.

    Attributes:
        size: how many of its inputs are used, the first ones; all of them unless it is set lower.

    Raises:
        UserError: for parts of the inputs of a task whose answers are no images of them.
    """

    def __init__(
        self,
        task: Task,
        spec: CacheSpec,
        *,
        teacher: Teacher | None,
        identity: str = "",
        paths: Sequence[str] = (),
        equivariance: Equivariance | None = None,
    ) -> None:
        if spec.crop and not task.equivariant:
            raise UserError(text("crop_of_parts", "cache.crop is {crop}, and parts of this task's inputs have not "
                                 "the same parts of the answers: set it to null", crop=spec.crop))  # fmt: skip
        self.task, self.spec, self.teacher, self.paths, self.identity = task, spec, teacher, tuple(paths), identity
        self._turn, self._crop = (spec.augment, spec.crop) if task.equivariant else (False, None)
        self.size = spec.inputs
        self._probed: Iterator[Batch] | None = None
        if equivariance is not None:
            self.equivariance = equivariance

    @cached_property
    def equivariance(self) -> Equivariance:
        """What the teacher's answers follow. Raises UserError for a crop that it does not take."""
        if self.teacher is None or not (self._turn or self._crop):
            return Equivariance()
        if self.paths:
            return of_features(turn=self._turn, crop=self._crop is not None)
        teacher, stream = self.teacher, self._inputs(0)
        first = next(stream)
        self._probed = chain([first], stream)
        probe = first.split(FILL_BATCH // PROBED)[0].to(teacher.device)
        return measured(lambda batch: teacher.answer(batch).output, probe, turn=self._turn, crop=self._crop)

    @cached_property
    def _before(self) -> tuple[bool, int | None]:
        """Whether inputs are turned, and to what they are cropped, before the teacher is asked."""
        follows = self.equivariance
        return self._turn and not follows.turns, None if follows.crops else self._crop

    @cached_property
    def folder(self) -> Path:
        """Where it lies, by all that its content depends on."""
        key = json.dumps([8, self.task.fingerprint(), self.spec.inputs, self.spec.seed, self.identity,
                          sorted(self.paths), self.teacher and self.teacher.precision, self._before])  # fmt: skip
        return cache_folder("answers", self.spec.dir) / short_hash(key)

    @cached_property
    def _store(self) -> ShardStore:
        return ShardStore(self.folder, self.spec.inputs, int(self.spec.max_gib * 2**30))

    @property
    def filled(self) -> int:
        """How many of the first inputs are answered on disk."""
        return self._store.filled

    @property
    def complete(self) -> bool:
        """Whether all that is used of the cache lies on disk as it was written."""
        return self.filled >= self.size and not self._store.damaged

    def fill(self, until: float | None = None) -> Iterator[int]:
        """Compute what is missing or damaged, yielding the number of answers on disk as it grows.

        A second process that wants the same cache waits here and then finds it filled. From here on no other cache's
        need of room removes it.

        Args:
            until: when to stop asking, in seconds of ``time.monotonic``; one batch is asked at least.

        Raises:
            UserError: for a cache larger than its bound, a full disk, files that vanish, or a teacher whose answer is
                not finite.
        """
        store = self._store
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(f"{self.folder}.lock")
        while True:
            try:
                lock.acquire(timeout=1)
                break
            except Timeout:
                yield self.filled
                if until is not None and time.monotonic() >= until and self.filled:
                    return
        try:
            store.hold()
            store.remove_damaged()
            if self.filled >= self.size:
                store.touch()
            else:
                yield from self._compute(until)
        finally:
            lock.release()

    def close(self) -> None:
        """Let other caches make room of this one, once it is not used any more."""
        self._store.close()

    def _inputs(self, start: int) -> Iterator[Batch]:
        """What the teacher is asked, from batch number ``start`` on; what it was measured on is not drawn again."""
        stream, self._probed = self._probed, None
        if stream is not None and not start:
            return stream
        return self.task.batches(batch_size=FILL_BATCH, seed=self.spec.seed, start=start)

    def _compute(self, until: float | None = None) -> Iterator[int]:
        self.folder.mkdir(exist_ok=True)
        for gap in self._store.missing:
            stream, end = self._inputs(gap.start // FILL_BATCH), min(gap.stop, self.size)
            start, flushed, batches = gap.start, time.monotonic(), list[dict[str, Tensor]]()
            for index in range(start, end, FILL_BATCH):
                batches.append(self._rows(self._variant(next(stream), index), index))
                stop, now = min(index + FILL_BATCH, self.spec.inputs), time.monotonic()
                num_bytes = sum(column.nbytes for rows in batches for column in rows.values())
                late = until is not None and now >= until
                if stop >= end or late or num_bytes >= SHARD_BYTES or now - flushed > FLUSH_EVERY:
                    columns = {name: torch.cat([rows[name] for rows in batches])[: stop - start] for name in batches[0]}
                    self._store.write(start, columns)
                    start, flushed, batches = stop, now, []
                    yield self.filled
                if late:
                    return

    def _variant(self, batch: Batch, index: int) -> Batch:
        """A batch as the teacher is asked: turned and cropped, where its answers would not follow."""
        turn, crop = self._before
        if not (turn or crop):
            return batch
        return drawn(batch, crop=crop, turn=turn, random=generator(self.spec.seed, "variant", index)).batch(batch)

    def _rows(self, batch: Batch, index: int) -> dict[str, Tensor]:
        """One batch by column, as it is kept. The teacher answers the input as it is kept, rounding and all."""
        rows = batch.columns()
        if self.teacher is not None:
            asked = _batch({name: value.to(_kept(name, value)) for name, value in rows.items()})
            answer = self.teacher.answer(asked.to(self.teacher.device), self.paths)
            rows |= {"output": answer.output, **{f"feature.{k}": v for k, v in answer.features.items()}}
        kept = {name: value.to(_kept(name, value)) for name, value in rows.items()}
        for name, value in kept.items():
            if name != TRUTH and not value.isfinite().all():
                where = text("cached_inputs", "inputs {first} to {last} of the cache: {name}", first=index,
                             last=index + len(value), name=name)  # fmt: skip
                if rows[name].isfinite().all():
                    raise UserError(text("cached_too_large", "{where} is too large for 16 bits: ask the teacher at "
                                         "every step, with --set cache.inputs=0", where=where))  # fmt: skip
                raise UserError(text("cached_not_finite", "{where} is not finite; look for NaN in the images or the "
                                     "teacher's weights", where=where))  # fmt: skip
        return {name: value.cpu() for name, value in kept.items()}

    def __getitem__(self, index: Tensor) -> tuple[Batch, TeacherOutput | None]:
        """The inputs at ``index`` ``(B,)`` and their answers, in float32 on the CPU, features in float16."""
        rows = self._store.read(index)
        features = {k.removeprefix("feature."): v for k, v in rows.items() if k.startswith("feature.")}
        answer = TeacherOutput(output=rows["output"].float(), features=features) if "output" in rows else None
        return _batch(rows), answer

    def batches(self, *, batch_size: int, seed: int, start: int = 0, truth: bool = False) -> Stream:
        """Endless shuffled batches; if the task is equivariant, flipped, rotated and cropped as far as answers follow.

        What the student alone is shown, and the answers do not hang on, is drawn anew at every batch.

        Args:
            batch_size: at most the size of the cache.
            seed: of order and augmentation. Batch ``i`` depends on ``seed`` and ``i`` alone.
            start: number of the first batch.
            truth: leave the answers out and draw the task's randomness (its noise) anew at every batch.
        """
        per_epoch = max(self.size // batch_size, 1)
        epoch, order = -1, torch.empty(0)
        for number in count(start):
            if number // per_epoch != epoch:
                epoch = number // per_epoch
                order = torch.randperm(self.size, generator=generator(seed, "order", epoch))
            within = number % per_epoch * batch_size
            batch, answer = self[order[within : within + batch_size]]
            if truth:
                batch, answer = self.task.resample_noise(batch, seed=derive(seed, "renew", number)), None
            else:
                batch = self.task.resample_view(batch, seed=derive(seed, "view", number))
            follows = self.equivariance if answer is not None else Equivariance()
            turn, crop = self._turn and follows.turns, self._crop if follows.crops else None
            if turn or crop:
                random, others = generator(seed, "augment", number), [] if answer is None else [answer.output]
                variant = drawn(batch, crop=crop, turn=turn, random=random, others=others)
                batch = variant.batch(batch)
                answer = None if answer is None else replace(answer, output=variant.of(answer.output))
            yield batch, answer


def _kept(name: str, value: Tensor) -> torch.dtype:
    """The dtype a column is kept in: images and features in half precision, what scales them in full."""
    if not value.is_floating_point():
        return value.dtype
    return torch.float32 if name == "weight" or name.startswith(TOLD) else torch.float16


def _batch(rows: Mapping[str, Tensor]) -> Batch:
    """The batch in columns by name, its images in float32."""
    return Batch.of_columns({k: v.float() if v.is_floating_point() else v for k, v in rows.items()})
