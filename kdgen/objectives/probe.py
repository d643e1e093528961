"""What a student makes of a batch, before training."""

import torch
from torch import Tensor
from torch.func import functional_call

from kdgen.types import Batch, Net, UserError
from kdgen.utils.conditions import read_of
from kdgen.utils.hooks import capture_outputs


def probe(objective: str, student: Net, batch: Batch) -> Tensor:
    """The student's images for the first two of a batch, ``(B, C, H, W)``.

    Its buffers and the global random state stay as they are.

    Raises:
        UserError: where its output is no image.
    """
    out = _run(student, batch)
    if out.dim() != 4:
        raise UserError(f"{objective} looks at images (C, H, W), but the student gives {tuple(out.shape[1:])}: "
                        "leave it out")  # fmt: skip
    return out


def probe_layer(objective: str, student: Net, batch: Batch, layer: str) -> Tensor:
    """The output of one of the student's modules for the first two of a batch, ``(B, ...)``.

    Raises:
        UserError: for a path the student does not have, with the nearest ones, or a module that gives no tensor.
    """
    with capture_outputs(student, [layer]) as features:
        _run(student, batch)
    if layer not in features:
        raise UserError(
            f"{objective}: layer {layer!r} of the student gives no tensor of its own: name one of its parts"
        )
    return features[layer]


def _run(student: Net, batch: Batch) -> Tensor:
    buffers = {name: buffer.clone() for name, buffer in student.named_buffers()}
    cond = {key: value[:2] for key, value in read_of(student, batch.cond).items()}
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        out: Tensor = functional_call(student, buffers, (batch.x[:2],), cond)
    return out
