"""What a student makes of a batch before training, and of a term's own inputs during it."""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.func import functional_call

from kdgen.types import ROLE_WORDS, Batch, Net, UserError, text
from kdgen.utils.conditions import call, read_of
from kdgen.utils.devices import Autocast
from kdgen.utils.hooks import capture_outputs, hookable_layers, no_tensor


def probe(objective: str, student: Net, batch: Batch) -> Tensor:
    """The student's images for the first two of a batch, ``(B, C, H, W)``.

    Its buffers and the global random state stay as they are.

    Raises:
        UserError: where its output is no image.
    """
    out = probe_answer(student, batch)
    if out.dim() != 4:
        raise UserError(text("looks_at_images", "{name} looks at images (C, H, W), but the student gives {shape}: "
                             "leave it out", name=objective, shape=str(tuple(out.shape[1:]))))  # fmt: skip
    return out


def probe_layer(objective: str, student: Net, batch: Batch, layer: str) -> Tensor:
    """The output of one of the student's modules for the first two of a batch, ``(B, ...)``.

    Raises:
        UserError: for a path the student does not have, with the nearest ones, or a module that gives no tensor.
    """
    with capture_outputs(student, [layer]) as features:
        probe_answer(student, batch)
    if layer not in features:
        raise UserError(no_tensor(objective, layer, ROLE_WORDS["student"]))
    return features[layer]


def settled_layer(objective: str, student: Net, batch: Batch, layer: str | None, ranks: tuple[int, ...]) -> str:
    """The layer that a term reads: the one that is named, or the last whose output is of use.

    Args:
        objective: the term.
        student: the net.
        batch: to probe shapes on.
        layer: dotted path of one of its modules; None for a choice, which leaves out what is shaped like the answer.
        ranks: numbers of dimensions that are of use, those wanted most first.

    Raises:
        UserError: for a layer that is not there or gives nothing of use, and where none does.
    """
    with capture_outputs(student, hookable_layers(student) if layer is None else [layer]) as seen:
        answer = probe_answer(student, batch)
    if layer is not None and layer not in seen:
        raise UserError(no_tensor(objective, layer, ROLE_WORDS["student"]))
    fit = {path: out for path, out in seen.items() if len(out) == len(answer) and out.ndim in ranks}
    if layer is None:
        fit = {path: out for path, out in fit.items() if out.shape != answer.shape}
    for rank in ranks:
        if paths := [path for path, out in fit.items() if out.ndim == rank]:
            return paths[-1]
    wanted = [f"(B, {', '.join('DHW'[: rank - 1])})" for rank in ranks]
    raise UserError(text("no_layer_of_shape", "{name} reads a layer that gives {wanted: or }, and {what} does not: "
                         "name another as `layer`, or leave {name} out", name=objective, wanted=wanted,
                         what=repr(layer) if layer else type(student).__name__))  # fmt: skip


def features_of(student: Net, x: Tensor, cond: Mapping[str, Tensor], layer: str) -> Tensor:
    """What a layer of a student gives for inputs of a term's own, ``(B, ...)`` in float32, with gradients."""
    inner = student.net if isinstance(student, Autocast) else student
    with capture_outputs(inner, [layer]) as seen:
        call(student, x, cond)
    return seen[layer].float()


def pooled(features: Tensor) -> Tensor:
    """Features ``(B, D)``, or maps ``(B, D, ...)`` averaged over places."""
    return features.flatten(2).mean(2) if features.ndim > 2 else features


def probe_answer(student: Net, batch: Batch) -> Tensor:
    """What the student gives for the first two of a batch; its buffers and the global random state stay as they are."""
    buffers = {name: buffer.clone() for name, buffer in student.named_buffers()}
    cond = {key: value[:2] for key, value in read_of(student, batch.cond).items()}
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        out: Tensor = functional_call(student, buffers, (batch.x[:2],), cond)
    return out
