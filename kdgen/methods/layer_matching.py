"""Choose which layer of the student learns from which layer of the teacher."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from kdgen.models.abilities import Descended
from kdgen.types import ROLE_WORDS, Batch, Method, Net, Text, UserError, text
from kdgen.utils.conditions import call
from kdgen.utils.hooks import Layered, capture_outputs, find, hookable_layers, no_tensor

LayerPairs = Annotated[
    Sequence[Annotated[Sequence[str], Field(min_length=2, max_length=2)]],
    Field(description='a list like [["student.path", "teacher.path"]]'),
]
"""Dotted paths of layers of the student, each with that of the layer of the teacher that it learns from."""

RANKS = {2: "(B, C)", 3: "(B, N, C)", 4: "(B, C, H, W)", 5: "(B, C, T, H, W)"}


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer of a net as seen in one forward pass.

    Attributes:
        path: its dotted path.
        shape: of its output, batch first.
        depth: where it stands among the layers that were run, from above 0 to 1 for the last.
    """

    path: str
    shape: tuple[int, ...]
    depth: float = 1.0


@dataclass(frozen=True, slots=True)
class Pair:
    """A layer of the student and the layer of the teacher that it learns from."""

    student: Layer
    teacher: Layer


@contextmanager
def _untouched(net: Net) -> Iterator[None]:
    """Run a net in the mode it is in, as training will, and leave its buffers and the random state as they were."""
    buffers = [(buffer, buffer.clone()) for buffer in net.buffers()]
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            yield
    finally:
        for buffer, saved in buffers:
            buffer.copy_(saved)


def probe(
    net: Net, x: Tensor, cond: Mapping[str, Tensor], paths: Iterable[str] = ()
) -> tuple[Tensor, dict[str, Tensor]]:
    """A net's output and the outputs of some of its modules, in the order they ran, for two images at most.

    Args:
        net: any net; its buffers and the global random state stay as they are.
        x: ``(B, C, H, W)``.
        cond: conditions by keyword, each ``(B, ...)``.
        paths: dotted paths of its modules. Those that do not run, or that give no tensor, are left out.

    Raises:
        UserError: for a path the net does not have, with the nearest ones.
    """
    with _untouched(net), capture_outputs(net, paths) as features:
        output = call(net, x[:2], {key: value[:2] for key, value in cond.items()})
        return output, {path: tensor for path, tensor in features.items() if isinstance(tensor, Tensor)}


def outputs(student: Net, teacher: Net, batch: Batch) -> tuple[Tensor, Tensor]:
    """The outputs of both nets for the first images of a batch, as ``probe`` gives them."""
    asked = batch.for_teacher()
    return probe(student, batch.x, batch.cond)[0], probe(teacher, asked.x, asked.cond)[0]


def layers(net: Net, x: Tensor, cond: Mapping[str, Tensor], ranks: Sequence[int]) -> list[Layer]:
    """The layers of a net in the order they run, one for each, the output of the net itself left out.

    Each of a net's own ``feature_layers()`` is a layer. In other nets a module with weights opens a layer, and so does
    one that changes the shape; what follows without either (normalisation, activation) belongs to it, and the layer is
    read at the last of these. Nothing learns before the first weights. A container whose output is that of its last
    child adds nothing. Layers shaped like the net's output are images, and left out where others are at hand.

    Args:
        net: any net.
        x: ``(B, C, H, W)``.
        cond: conditions by keyword, each ``(B, ...)``.
        ranks: numbers of dimensions that are of use.
    """
    output, features = probe(net, x, cond, hookable_layers(net))
    declared = isinstance(net, Layered) and callable(net.feature_layers)
    named_shapes: list[tuple[str, tuple[int, ...]]] = []
    visited: set[int] = set()
    for path, tensor in features.items():
        if id(tensor) in visited:
            continue
        visited.add(id(tensor))
        shape = tuple(tensor.shape)
        starts_layer = declared or any(parameter.dim() > 1 for parameter in find(net, path).parameters())
        if named_shapes and not starts_layer and shape == named_shapes[-1][1]:
            named_shapes[-1] = (path, shape)
        elif named_shapes or starts_layer:
            named_shapes.append((path, shape))
    all_layers = [Layer(path, shape, (i + 1) / len(named_shapes)) for i, (path, shape) in enumerate(named_shapes)]
    candidates = [layer for layer in all_layers if len(layer.shape) in ranks and layer.shape[0] == len(output)]
    return [layer for layer in candidates if layer.shape != tuple(output.shape)] or candidates


def choose(
    method: str,
    student: Net,
    teacher: Net,
    batch: Batch,
    pairs: LayerPairs | None,
    *,
    num_pairs: int = 3,
    ranks: Sequence[int] = (2, 4, 5),
    same_rank: bool = True,
) -> list[Pair]:
    """Pairs of layers, those that were asked for or else a choice of them.

    The choice takes layers of the student that stand evenly spaced in its depth (at 1/4, 1/2 and 3/4 for three), and
    for each the layer of the teacher that it comes from, where the student is a smaller one of its kind; else the one
    that is nearest in relative depth, a factor of two in size counting as much as the whole depth.

    Args:
        method: the method's name, for messages.
        student: any net.
        teacher: any net.
        batch: one batch to probe shapes with.
        pairs: ``[["student.path", "teacher.path"], ...]``; None or none for a choice.
        num_pairs: pairs to choose at most.
        ranks: numbers of dimensions of outputs that the method can use.
        same_rank: whether both of a pair must have the same number of dimensions.

    Raises:
        UserError: for a layer that a net does not have, that does not run, or that the method cannot use, and where
            no pair can be chosen.
    """
    asked = batch.for_teacher()
    required = _wanted(ranks, batch.x)
    if pairs:
        student_layers = _named(method, "student", student, batch.x, batch.cond, [pair[0] for pair in pairs], ranks)
        teacher_layers = _named(method, "teacher", teacher, asked.x, asked.cond, [pair[1] for pair in pairs], ranks)
        selected = [Pair(s, t) for s, t in zip(student_layers, teacher_layers, strict=True)]
        for pair in selected:
            student_rank, teacher_rank = RANKS[len(pair.student.shape)], RANKS[len(pair.teacher.shape)]
            if same_rank and student_rank != teacher_rank:
                raise UserError(text("layers_unlike", "{method}: {student!r} gives {student_rank}, {teacher!r} gives "
                                     "{teacher_rank}: pair layers of one kind", method=method,
                                     student=pair.student.path, student_rank=student_rank,
                                     teacher=pair.teacher.path, teacher_rank=teacher_rank))  # fmt: skip
        return selected
    student_layers = layers(student, batch.x, batch.cond, ranks)
    teacher_layers = layers(teacher, asked.x, asked.cond, ranks)
    for role, net, candidates in (("student", student, student_layers), ("teacher", teacher, teacher_layers)):
        if not candidates:
            raise UserError(text("no_layer_gives", "{method}: no layer of the {role} gives {required}; {inventory}",
                                 method=method, role=ROLE_WORDS[role], required=required,
                                 inventory=_inventory(net, batch, role)))  # fmt: skip
    selected = _evenly_spaced(student_layers, teacher_layers, num_pairs, same_rank, origins_of(student, teacher))
    if not selected:
        nets = (("student", student), ("teacher", teacher))
        raise UserError(text("no_layers_alike", "{method}: no layers of student and teacher are of one kind; "
                             "{inventories:; }", method=method,
                             inventories=[_inventory(net, batch, role) for role, net in nets]))  # fmt: skip
    return selected


def origins_of(student: Net, teacher: Net) -> Mapping[str, str]:
    """The layers of a teacher that those of a smaller net of its kind come from, by path; none of other nets."""
    return student.origins(teacher) if isinstance(student, Descended) and callable(student.origins) else {}


def settle(method: Method, pairs: Sequence[Pair]) -> None:
    """Note on a method the layers that its pairs need."""
    method.student_layers = tuple(dict.fromkeys(pair.student.path for pair in pairs))
    method.teacher_layers = tuple(dict.fromkeys(pair.teacher.path for pair in pairs))


def _evenly_spaced(
    student_layers: Sequence[Layer],
    teacher_layers: Sequence[Layer],
    num_pairs: int,
    same_rank: bool,
    origins: Mapping[str, str],
) -> list[Pair]:
    selected: dict[str, Pair] = {}
    for i in range(num_pairs):
        target = (i + 1) / (num_pairs + 1)
        unused = [layer for layer in student_layers if layer.path not in selected]
        candidates = [
            (abs(s.depth - target), _mismatch(s, t), j, Pair(s, t))
            for j, s in enumerate(unused)
            for t in teacher_layers
            if (not same_rank or len(s.shape) == len(t.shape)) and origins.get(s.path, t.path) == t.path
        ]
        if candidates:
            pair = min(candidates, key=lambda option: option[:3])[3]
            selected[pair.student.path] = pair
    return sorted(selected.values(), key=lambda pair: pair.student.depth)


def _mismatch(student: Layer, teacher: Layer) -> float:
    mismatch = abs(student.depth - teacher.depth)
    if len(student.shape) == len(teacher.shape) >= 4:
        mismatch += abs(math.log2(math.prod(student.shape[2:]) / math.prod(teacher.shape[2:]))) / 2
    return mismatch


def _named(
    method: str, role: str, net: Net, x: Tensor, cond: Mapping[str, Tensor], paths: Sequence[str], ranks: Sequence[int]
) -> list[Layer]:
    output, features = probe(net, x, cond, paths)
    required = _wanted(ranks, x)
    for path in paths:
        if path not in features:
            raise UserError(no_tensor(method, path, ROLE_WORDS[role]))
        shape = tuple(features[path].shape)
        if len(shape) not in ranks or shape[0] != len(output):
            raise UserError(text("layer_unfit", "{method}: layer {layer!r} of the {role} gives {shape} for {count} "
                                 "images, but {required} is needed: name another", method=method, layer=path,
                                 role=ROLE_WORDS[role], shape=str(shape), count=len(output),
                                 required=required))  # fmt: skip
    return [Layer(path, tuple(features[path].shape)) for path in paths]


def _wanted(ranks: Sequence[int], x: Tensor) -> Text:
    """What outputs are of use, in words; features of clips are named to nets of clips alone."""
    kinds = [RANKS[rank] for rank in sorted(ranks) if rank <= max(4, x.ndim)]
    return text("either", "{kinds: or }", kinds=kinds)


def _inventory(net: nn.Module, batch: Batch, role: str, limit: int = 8) -> Text:
    """What the layers of a net give, in one clause."""
    asked = batch.for_teacher() if role == "teacher" else batch
    features = probe(net, asked.x, asked.cond, hookable_layers(net))[1]
    if not features:
        return text("no_readable_layers", "{net} has no layers that can be read", net=type(net).__name__)
    descriptions = [f"{path} {tuple(tensor.shape[1:])}" for path, tensor in features.items()]
    shown = descriptions[:limit] + ["…"] * (len(descriptions) > limit)
    return text("layers_of", "{net} has {layers:, }", net=type(net).__name__, layers=shown)
