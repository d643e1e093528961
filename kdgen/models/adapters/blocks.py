"""Weights of a larger net of diffusers as the start of a smaller one of its kind, block by block."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kdgen.types import UserError, text

LAYERS = ("transformer_blocks", "single_transformer_blocks")
"""Stacks of layers that are alike, of which evenly spaced ones stay."""


def evenly_kept(count: int, of: int) -> list[int]:
    """Which layers of a stack stay: evenly spaced, the first and the last among them; one alone is the last.

    A stack that is to have more than there are keeps all in their places.
    """
    if count > of:
        return list(range(count))
    return [round(i * (of - 1) / (count - 1)) for i in range(count)] if count > 1 else [of - 1] * count


class Origins:
    """Which part of a larger net of diffusers a part of a smaller one of its kind comes from, by their dotted paths.

    Blocks are removed as in BK-SDM (Kim et al. 2024, "BK-SDM: A Lightweight, Fast, and Cheap Version of Stable
    Diffusion", section 3.1): on the way down the first layers of a block stay; on the way up the first and the last,
    which reads the skip connection from the level above. Levels are counted from the image. Of transformers evenly
    spaced layers stay, see ``evenly_kept``.

    Args:
        student: names of the smaller net's weights.
        teacher: those of the larger one's.
    """

    def __init__(self, student: Iterable[str], teacher: Iterable[str]) -> None:
        self.student, self.teacher = _counts(student), _counts(teacher)

    def __call__(self, path: str) -> str:
        """The path in the larger net."""
        mine, yours = list[str](), list[str]()
        for part in path.split("."):
            mine_at, yours_at = ".".join(mine), ".".join(yours)
            own, of = self.student.get(mine_at, 0), self.teacher.get(yours_at, 0)
            yours.append(str(_kept(mine, int(part), own, of)) if own and of else part)
            mine.append(part)
        return ".".join(yours)


def _counts(names: Iterable[str]) -> dict[str, int]:
    """How many parts each numbered stack of a net holds, by its path."""
    counts: dict[str, int] = {}
    for name in names:
        parts = name.split(".")
        for i, part in enumerate(parts):
            if part.isdigit():
                path = ".".join(parts[:i])
                counts[path] = max(counts.get(path, 0), int(part) + 1)
    return counts


def _kept(stack: list[str], i: int, count: int, of: int) -> int:
    """Where in a stack of so many the i-th of a shorter one of the same name stands."""
    if stack[-1] in LAYERS:
        return evenly_kept(count, of)[i]
    if stack[-1] == "up_blocks":
        return i + of - count
    rises = "up_blocks" in stack and stack[-1] in ("resnets", "attentions")
    return of - 1 if rises and i == count - 1 else i


@dataclass(frozen=True, slots=True)
class Match:
    """A tensor of a student and the one of its teacher that it starts from, with its name in that."""

    student: Tensor
    teacher: Tensor
    name: str


def matched(student: nn.Module, teacher: nn.Module) -> dict[str, Match]:
    """The tensors of a student that come from a teacher, see ``Origins``, by their names; others are left out.

    Raises:
        UserError: for a student wider than its teacher, or one that has nothing in common with it.
    """
    weights, teacher_weights = student.state_dict(), teacher.state_dict()
    origin, found = Origins(weights, teacher_weights), dict[str, Match]()
    for key, value in weights.items():
        source = teacher_weights.get(name := origin(key))
        if source is None or source.dim() != value.dim():
            continue
        if any(size > limit for size, limit in zip(value.shape, source.shape, strict=True)):
            raise UserError(text("student_too_wide", "make the student no wider than the teacher it starts from: "
                                 "{key} is {student} in it and {teacher} in the teacher", key=key,
                                 student=str(tuple(value.shape)), teacher=str(tuple(source.shape))))  # fmt: skip
        found[key] = Match(value, source, name)
    if not found:
        raise UserError(text("no_weights_in_common", "a {student} has no weights in common with a {teacher}",
                             student=type(student).__name__, teacher=type(teacher).__name__))  # fmt: skip
    return found


@torch.no_grad()
def inherit_blocks(student: nn.Module, teacher: nn.Module) -> None:
    """Write weights of a teacher into a student of fewer levels, layers or channels, in place.

    Blocks are removed as ``Origins`` says. What has the same shape is copied exactly; narrower tensors take evenly
    spaced channels, so that groups stay groups (weight selection, Xu et al. 2024, "Initializing Models with Larger
    Ones", section 3). Such matrices and kernels are scaled to the root mean square that they had in the student:
    trained weights have grown, and steps of the size that suits first weights would change them too slowly. What the
    teacher lacks stays as it is.

    Raises:
        UserError: as ``matched`` does.
    """
    for match in matched(student, teacher).values():
        alike = match.teacher.shape == match.student.shape
        match.student.copy_(match.teacher if alike else _selected(match.teacher, match.student))


def _selected(source: Tensor, like: Tensor) -> Tensor:
    """Evenly spaced entries of ``source``; of matrices and kernels with the root mean square of ``like``."""
    chosen = evenly(source, like)
    if chosen.dim() < 2:
        return chosen
    return chosen * (like.square().mean() / chosen.square().mean().clamp_min(1e-12)).sqrt()


def evenly(source: Tensor, like: Tensor) -> Tensor:
    """Evenly spaced entries of ``source`` along each dimension, as many as ``like`` has."""
    for dim, count in enumerate(like.shape):
        if count < source.shape[dim]:
            source = source.index_select(dim, even_indices(count, source.shape[dim]).to(source.device))
    return source


def even_indices(count: int, of: int) -> Tensor:
    """``count`` of the numbers below ``of`` at even distances from 0."""
    return torch.arange(count) * of // count
