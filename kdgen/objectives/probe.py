"""What a student makes of a batch, before training."""

import torch
from torch import Tensor
from torch.func import functional_call

from kdgen.types import ROLE_WORDS, Batch, Net, UserError, text
from kdgen.utils.conditions import read_of
from kdgen.utils.hooks import capture_outputs, no_tensor


def probe(objective: str, student: Net, batch: Batch) -> Tensor:
    """The student's images for the first two of a batch, ``(B, C, H, W)``.

    Its buffers and the global random state stay as they are.

    Raises:
        UserError: where its output is no image.
    """
    out = _run(student, batch)
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
        _run(student, batch)
    if layer not in features:
        raise UserError(no_tensor(objective, layer, ROLE_WORDS["student"]))
    return features[layer]


def _run(student: Net, batch: Batch) -> Tensor:
    buffers = {name: buffer.clone() for name, buffer in student.named_buffers()}
    cond = {key: value[:2] for key, value in read_of(student, batch.cond).items()}
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        out: Tensor = functional_call(student, buffers, (batch.x[:2],), cond)
    return out
