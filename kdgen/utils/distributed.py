"""The processes that train one student together, as ``accelerate launch`` or ``torchrun`` started them."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Protocol, TypeVar, runtime_checkable

import torch
import torch.distributed as dist
from accelerate import PartialState
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from kdgen.types import Net, Text, UserError, text

T = TypeVar("T")

UNIT = 1 / 16
"""The share of a net's parameters that a block of it has at least to be gathered on its own."""

PATIENCE = timedelta(hours=2)
"""How long a process waits for the others: longer than any measuring, drawing or saving by the first."""


@runtime_checkable
class Sliced(Protocol):
    """A tensor that lies in slices, one in each process: torch's ``DTensor``, whose import takes a second."""

    def to_local(self) -> Tensor:
        """The slice of this process, in the same memory."""

    def full_tensor(self) -> Tensor:
        """All of it, put together by all processes at once."""


def held(tensor: Tensor) -> Tensor:
    """What this process holds of a tensor, in the same memory: its slice, or all of it."""
    return tensor.to_local() if isinstance(tensor, Sliced) else tensor


def blocks(net: Net) -> list[tuple[nn.Module, list[nn.Parameter]]]:
    """What of a net in slices is gathered on its own: modules, inner ones first, with weights that no inner one has.

    Each is gathered as long as it is called; the last one is the net itself.
    """
    unit, taken = UNIT * sum(p.numel() for p in net.parameters()), set[int]()
    found = list[tuple[nn.Module, list[nn.Parameter]]]()
    for module in reversed(list(net.modules())):
        own = [p for p in module.parameters() if id(p) not in taken]
        called = type(module).forward is not nn.Module.forward
        if module is net or (called and sum(p.numel() for p in own) >= unit):
            found.append((module, own))
            taken |= {id(p) for p in own}
    return found


class Team:
    """All processes of a run, or the one where none were launched: then everything here is immediate.

    Every process holds the same weights, takes its slice of each batch, and averages its gradients with the others'
    in one exchange, as data-parallel training does (Li et al. 2020, arXiv 2006.15704). Nothing is wrapped around the
    student, so that methods may call it as often as they like. The first process alone writes and yields events.
    Weights that lie in slices have gradients in slices, which are means over all processes as they come.

    Args:
        device: the recipe's; ``cpu`` joins over gloo even where there are GPUs.

    Attributes:
        rank, size: number of this process, and how many there are.
    """

    def __init__(self, device: str = "auto") -> None:
        self.rank, self.size = 0, 1
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            on_cpu = device == "cpu" or not torch.accelerator.is_available()
            state = PartialState(cpu=on_cpu, timeout=PATIENCE)
            self.rank, self.size, self._device = state.process_index, state.num_processes, state.device

    @property
    def is_main_process(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def sharded(self, net: Net) -> Net:
        """The net with its weights in slices, one on the device of each process, changed in place.

        Weights are gathered block by block as a pass needs them, and dropped again (FSDP: Zhao et al. 2023,
        arXiv 2304.11277). From then on all processes must call it together.
        """
        if self.size == 1:
            return net
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        mesh = init_device_mesh(self._device.type, (self.size,))
        for module, _ in blocks(net):
            fully_shard(module, mesh=mesh, reshard_after_forward=True)
        return net

    def barrier(self) -> None:
        """Go on when all have come here."""
        if self.size > 1:
            dist.barrier()

    def broadcast(self, value: T) -> T:
        """What the first process says, to all."""
        if self.size == 1:
            return value
        words = [value]
        with together(self):
            dist.broadcast_object_list(words, device=self._device)
        return words[0]

    def mean(self, figures: Sequence[float]) -> list[float]:
        """The mean over the processes of each figure."""
        if self.size == 1:
            return list(figures)
        total = torch.tensor(figures, dtype=torch.float64).to(self._device)
        dist.all_reduce(total)
        return [float(figure) for figure in (total / self.size).tolist()]

    def any(self, flag: bool) -> bool:
        """Whether it holds in one of them."""
        return self.mean([float(flag)])[0] > 0

    def average_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Give each parameter the mean of its gradients; one that has none here counts as zero and keeps none."""
        parameters = [p for p in parameters if not isinstance(p, Sliced)]
        if self.size == 1 or not parameters:
            return
        flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).reshape(-1) for p in parameters])
        dist.all_reduce(flat)
        flat /= self.size
        for p, mean in zip(parameters, torch.split(flat, [p.numel() for p in parameters]), strict=True):
            if p.grad is not None:
                p.grad.copy_(mean.view(p.shape))

    def clip_gradients(self, parameters: Sequence[nn.Parameter], limit: float) -> None:
        """Scale the gradients of all parameters together to a norm of ``limit`` at most, over all slices."""
        if self.size == 1 or not any(isinstance(p, Sliced) for p in parameters):
            clip_grad_norm_(parameters, limit)
            return
        squares = torch.zeros(2, dtype=torch.float64).to(self._device)
        gradients = list[Tensor]()
        for p in parameters:
            if p.grad is not None:
                gradients.append(held(p.grad))
                squares[int(isinstance(p, Sliced))] += gradients[-1].double().square().sum()
        whole, slices = squares
        dist.all_reduce(slices)
        norm = (whole + slices).sqrt().float()
        torch._foreach_mul_(gradients, (limit / (norm + 1e-6)).clamp(max=1.0))


@contextmanager
def together(team: Team) -> Iterator[None]:
    """Errors of the exchange become one line: another process has ended, and this one ends too.

    Raises:
        UserError: if another process of the run is gone.
    """
    try:
        yield
    except dist.DistError as error:
        raise UserError(lost(team)) from error
    except RuntimeError as error:
        if team.size == 1 or not any(word in str(error) for word in ("Connection closed by peer", "gloo", "NCCL")):
            raise
        raise UserError(lost(team)) from error


def lost(team: Team) -> Text:
    """What to say when another process is gone."""
    return text("process_lost", "process {rank} of {size}: another process of this run has ended, and so does this "
                "one; what was saved last is whole: go on with `kdgen resume DIR`, with any number of processes",
                rank=team.rank, size=team.size)  # fmt: skip
