"""Weights of a larger net of diffusers as the start of a smaller one of its kind, block by block."""

import re

import torch
from torch import Tensor, nn

from kdgen.types import UserError, text

PART = re.compile(
    r"(?P<path>(?:.*\.)?(?:down|up)_blocks)\.(?P<block>\d+)\.(?:(?P<kind>resnets|attentions)\.(?P<i>\d+)\.)?"
)


@torch.no_grad()
def inherit_blocks(student: nn.Module, teacher: nn.Module) -> None:
    """Write weights of a teacher into a student of fewer levels, layers or channels, in place.

    Blocks are removed as in BK-SDM (Kim et al. 2024, "BK-SDM: A Lightweight, Fast, and Cheap Version of Stable
    Diffusion", section 3.1): on the way down the first layers of a block stay; on the way up the first and the last,
    which reads the skip connection from the level above. Levels are counted from the image. What has the same shape is
    copied exactly; narrower tensors take evenly spaced channels, so that groups stay groups (weight selection, Xu et
    al. 2024, "Initializing Models with Larger Ones", section 3). Such matrices and kernels are scaled to the root mean
    square that they had in the student: trained weights have grown, and steps of the size that suits first weights
    would change them too slowly. What the teacher lacks stays as it is.

    Raises:
        UserError: for a student wider than its teacher, or one that has nothing in common with it.
    """
    weights, teacher_weights = student.state_dict(), teacher.state_dict()
    counts = _counts(weights), _counts(teacher_weights)
    common = 0
    for key, value in weights.items():
        source = teacher_weights.get(_source(key, *counts))
        if source is None or source.dim() != value.dim():
            continue
        if any(size > limit for size, limit in zip(value.shape, source.shape, strict=True)):
            raise UserError(text("student_too_wide", "make the student no wider than the teacher it starts from: "
                                 "{key} is {student} in it and {teacher} in the teacher", key=key,
                                 student=str(tuple(value.shape)), teacher=str(tuple(source.shape))))  # fmt: skip
        value.copy_(source if source.shape == value.shape else _selected(source, value))
        common += 1
    if not common:
        raise UserError(text("no_weights_in_common", "a {student} has no weights in common with a {teacher}",
                             student=type(student).__name__, teacher=type(teacher).__name__))  # fmt: skip


def _counts(keys: dict[str, Tensor]) -> dict[str, int]:
    """How many blocks a path holds, and how many layers of a kind a block holds."""
    counts: dict[str, int] = {}
    for match in filter(None, map(PART.match, keys)):
        path, block, kind, i = match.group("path", "block", "kind", "i")
        counts[path] = max(counts.get(path, 0), int(block) + 1)
        if kind:
            layers = f"{path}.{block}.{kind}"
            counts[layers] = max(counts.get(layers, 0), int(i) + 1)
    return counts


def _source(key: str, counts: dict[str, int], teacher_counts: dict[str, int]) -> str:
    """The teacher's key for a key of the student."""
    match = PART.match(key)
    if match is None or match["path"] not in teacher_counts:
        return key
    path, block, kind, up = match["path"], int(match["block"]), match["kind"], match["path"].endswith("up_blocks")
    teacher_block = block + (teacher_counts[path] - counts[path] if up else 0)
    place = f"{path}.{teacher_block}."
    if kind:
        i = int(match["i"])
        last = up and i == counts[f"{path}.{block}.{kind}"] - 1
        place += f"{kind}.{teacher_counts.get(f'{path}.{teacher_block}.{kind}', 0) - 1 if last else i}."
    return place + key[match.end() :]


def _selected(source: Tensor, like: Tensor) -> Tensor:
    """Evenly spaced entries of ``source``; of matrices and kernels with the root mean square of ``like``."""
    chosen = evenly(source, like)
    if chosen.dim() < 2:
        return chosen
    return chosen * (like.square().mean() / chosen.square().mean().clamp_min(1e-12)).sqrt()


def evenly(source: Tensor, like: Tensor) -> Tensor:
    """Evenly spaced entries of ``source`` along each dimension, as many as ``like`` has."""
    for dim, (count, of) in enumerate(zip(like.shape, source.shape, strict=True)):
        if count < of:
            source = source.index_select(dim, torch.arange(count, device=source.device) * of // count)
    return source
