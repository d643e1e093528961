"""How long a phase is, and its stages and learning rates at a progress in [0, 1]: pure functions of progress."""

import math
from dataclasses import dataclass

from kdgen.recipe import Stage

LEAST = 1 / 3
"""The share of a run's seconds that training has, however long images and answers take."""


@dataclass(frozen=True, slots=True)
class Length:
    """How long a phase is: in steps, or in seconds of which some may be spent already, but a third is left at least."""

    steps: int | None
    seconds: float | None
    spent: float = 0.0

    def progress(self, step: int, elapsed: float) -> float:
        """The share that is done, in [0, 1]."""
        if self.steps is not None:
            return min(step / self.steps, 1.0)
        assert self.training is not None
        return min(elapsed / self.training, 1.0)

    def left(self, step: int, elapsed: float, since: tuple[int, float]) -> float | None:
        """Seconds that are left.

        Args:
            step: steps that are done.
            elapsed: seconds that are spent.
            since: the step and the seconds that the speed is counted from: the first steps say little of the others.

        Returns:
            of a length in seconds the rest; of one in steps an estimate, None before a step tells the speed.
        """
        if self.steps is None:
            return (1 - self.progress(step, elapsed)) * (self.training or 0.0)
        done, spent = step - since[0], elapsed - since[1]
        return (self.steps - step) * spent / done if done > 0 else None

    @property
    def training(self) -> float | None:
        """Seconds for training, None where the length is in steps."""
        return None if self.seconds is None else max(self.seconds - self.spent, LEAST * self.seconds)

    @property
    def overrun(self) -> bool:
        """Whether so much is spent that training takes more than what is left."""
        return self.seconds is not None and self.seconds - self.spent < LEAST * self.seconds


def asking(seconds: float | None, spent: float, share: float | None, answered: float = 0.0) -> float | None:
    """Seconds for the teacher's answers, None for no end.

    Args:
        seconds: of the phase; None for one in steps.
        spent: of these, on images.
        share: most of the phase that is for answers; they never have more than images and training leave, nor less
            than a third where ``share`` is None.
        answered: the share of the inputs whose answers lie on disk: the more do, the less are others asked for.
    """
    if seconds is None:
        return None
    rest = max((1 - LEAST) * seconds - spent, LEAST * seconds)
    return rest if share is None else min(rest, share * seconds * (1 - answered))


def learning_rate(stage: Stage, within: float) -> float:
    """The learning rate at a progress in [0, 1] within a stage: a linear warm-up, then the stage's decay."""
    if within < stage.warmup:
        return stage.lr * within / stage.warmup
    done = (within - stage.warmup) / (1 - stage.warmup)
    falling = {"cosine": (1 + math.cos(math.pi * done)) / 2, "linear": 1 - done, "none": 1.0}[stage.decay]
    return stage.lr * (stage.final + (1 - stage.final) * falling)


def stage_at(stages: tuple[Stage, ...], progress: float) -> tuple[int, float]:
    """Which stage a progress in [0, 1] falls into, and the progress within it."""
    total = sum(stage.share for stage in stages)
    start = 0.0
    for index, stage in enumerate(stages):
        end = start + stage.share / total
        if progress < end or index == len(stages) - 1:
            return index, min(max((progress - start) / (end - start), 0.0), 1.0)
        start = end
    raise AssertionError("a recipe has at least one stage")
