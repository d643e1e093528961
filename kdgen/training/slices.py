"""A student that lies in slices, one in each process: FSDP2, Zhao et al. 2023 (arXiv 2304.11277)."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import backward

from kdgen.models.nets.fold import copied
from kdgen.training.loss import Loss
from kdgen.types import Net, Text, UserError, text
from kdgen.utils.distributed import Sliced, Team, held


class Whole:
    """A net that is about to be sliced, put together again for as long as it is looked at.

    Args:
        net: as it is before it is sliced, in place; of its weights nothing is kept.
        team: the processes that will hold it.
    """

    def __init__(self, net: Net, team: Team) -> None:
        weights = {id(p): nn.Parameter(p.detach().to("meta"), p.requires_grad) for p in net.parameters()}
        self._empty, self.net, self.team = copy.deepcopy(net, dict[int, Any](weights)), net, team

    def gathered(self) -> Net:
        """The net as it is now, in the first process; in the others one without weights. All must ask at once."""
        state = {}
        for key, value in self.net.state_dict().items():
            full = value.full_tensor() if isinstance(value, Sliced) else value.clone()
            if self.team.is_main_process:
                state[key] = full
        whole = copy.deepcopy(self._empty)
        if self.team.is_main_process:
            whole.load_state_dict(state, assign=True)
        return whole


def held_state(net: Net) -> dict[str, Tensor]:
    """The state dict of a net, as this process holds it."""
    return {key: held(value) for key, value in net.state_dict().items()}


def load_held_state(net: Net, saved: Mapping[str, Tensor]) -> None:
    """Give a net what ``held_state`` gave, in as many processes."""
    own = net.state_dict()
    if not any(isinstance(value, Sliced) for value in own.values()):
        net.load_state_dict(saved)
        return
    for key, value in own.items():
        held(value).copy_(saved[key])


def check_sliceable(student: Net, losses: Sequence[Loss]) -> None:
    """Refuse what needs whole weights. Raises UserError with what to set."""
    if any(not p.requires_grad for p in student.parameters()):
        raise UserError(text("sharded_frozen", "shard_student is for a student all of whose weights learn: set it to "
                             "false"))  # fmt: skip
    if any(loss.ratio.adaptive for loss in losses):
        raise UserError(text("sharded_adaptive", "an adaptive alpha looks at whole weights of the student, and "
                             "shard_student cuts them: set shard_student to false, or take another alpha"))  # fmt: skip


def out_of_memory(images: int, device: torch.device) -> Text:
    """What to say then: no other process can go on, for each waits for this one's slices."""
    return text("sharded_memory", "{images} images do not fit into the memory of {device} beside a slice of the "
                "student: set batch_size lower, or launch more processes", images=images,
                device=str(device))  # fmt: skip


def sliced(student: Net, team: Team) -> Whole:
    """Cut a student in slices, in place, and a copy of it for its average; returns what puts that together again."""
    average = copied(student).requires_grad_(False)
    whole = Whole(average, team)
    team.sharded(student)
    team.sharded(average)
    return whole


def backward_past(others: Sequence[nn.Parameter], loss: Tensor) -> None:
    """Add the gradients of a loss to those of all that it depends on but these.

    A weight in slices is no leaf of the loss, and so what is to learn cannot be named in its place.
    """
    before = [p.grad for p in others]
    for p in others:
        p.grad = None
    backward(loss)
    for p, gradient in zip(others, before, strict=True):
        p.grad = gradient


__all__ = ["Whole", "backward_past", "check_sliceable", "held_state", "load_held_state", "out_of_memory", "sliced"]
