"""Optimisers by name, behind one face: several of torch's may share the parameters of one net."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from kdgen.recipe import Stage

SMALLEST_SIDE = 16
"""Matrices with fewer rows or columns than this are left to AdamW."""


class Optimizer:
    """One or more optimisers that step together at one learning rate.

    ``adamw`` and ``sgd`` (Nesterov momentum 0.9) are torch's. ``muon`` gives the inner weights of the student, each
    reshaped to a matrix (outputs, inputs times kernel), to torch's Muon, and everything else to AdamW. Muon replaces
    each update by the nearest orthogonal matrix, in the spirit of Jordan et al. 2024, "Muon: an optimizer for hidden
    layers"; its steps are scaled to AdamW's root mean square (Liu et al. 2025, arXiv 2502.16982, eq. 4), so that one
    learning rate suits both.

    Args:
        stage: name, learning rate and weight decay.
        student: the net to train.
        others: further parameters, such as regressors.
    """

    def __init__(self, stage: Stage, student: nn.Module, others: Sequence[nn.Parameter]) -> None:
        own = [p for p in student.parameters() if p.requires_grad]
        self.parameters = [*own, *others]
        self._matrices: list[tuple[nn.Parameter, Tensor]] = []
        rest, decay = self.parameters, stage.weight_decay
        self._parts: list[torch.optim.Optimizer] = []
        if stage.optimizer == "muon":
            inner = [p for p in own if p.ndim >= 2 and min(p.shape[:2]) >= SMALLEST_SIDE]
            self._matrices = [(p, _matrix(p.detach(), p)) for p in inner]
            if inner:
                views = [matrix for _, matrix in self._matrices]
                self._parts.append(
                    torch.optim.Muon(views, lr=stage.lr, weight_decay=decay, adjust_lr_fn="match_rms_adamw")
                )
            taken = {id(p) for p in inner}
            rest = [p for p in self.parameters if id(p) not in taken]
        if stage.optimizer == "sgd":
            self._parts.append(torch.optim.SGD(rest, lr=stage.lr, momentum=0.9, nesterov=True, weight_decay=decay))
        elif rest:
            fused = rest[0].device.type in ("cpu", "cuda")
            self._parts.append(torch.optim.AdamW(rest, lr=stage.lr, betas=stage.betas, weight_decay=decay, fused=fused))

    def step(self, rate: float) -> None:
        """Step with the gradients that the parameters hold, at learning rate ``rate``, and drop them."""
        for parameter, matrix in self._matrices:
            matrix.grad = None if parameter.grad is None else _matrix(parameter.grad, parameter)
        for part in self._parts:
            for group in part.param_groups:
                group["lr"] = rate
            part.step()
        self.drop_gradients()

    def drop_gradients(self) -> None:
        """Forget the gradients that the parameters hold."""
        for parameter in self.parameters:
            parameter.grad = None

    def state_dict(self) -> list[dict[str, Any]]:
        """The states of the parts, for checkpoints."""
        return [part.state_dict() for part in self._parts]

    def load_state_dict(self, states: Iterable[Mapping[str, Any]]) -> None:
        """Go on from what ``state_dict`` gave."""
        for part, state in zip(self._parts, states, strict=True):
            part.load_state_dict(dict(state))


def critic_optimizer(parameters: Sequence[nn.Parameter], lr: float) -> torch.optim.Optimizer:
    """AdamW for critics, without momentum, as is usual for GANs (Karras et al. 2018, arXiv 1710.10196, appendix A)."""
    return torch.optim.AdamW(parameters, lr=lr, betas=(0.0, 0.99), weight_decay=0.0)


def _matrix(tensor: Tensor, parameter: Tensor) -> Tensor:
    """A tensor shaped like a parameter as a matrix with a row for each output, sharing memory where layouts agree."""
    if parameter.ndim == 4 and parameter.is_contiguous(memory_format=torch.channels_last):
        tensor = tensor.permute(0, 2, 3, 1)
    return tensor.reshape(len(tensor), -1)


def moving_average(decay: float, model: AveragedModel) -> Callable[[Any, Any, Any], None]:
    """How ``AveragedModel`` averages: exponentially, the decay warmed up as ``min(decay, (1 + n) / (10 + n))``.

    Args:
        decay: once warmed up.
        model: it tells ``n``, in a buffer that is to lie on the CPU so that no device is waited for.
    """

    @torch.no_grad()
    def update(averaged: list[Tensor], current: list[Tensor], count: Tensor | int) -> None:
        n = int(model.n_averaged)
        now = min(decay, (1 + n) / (10 + n))
        if averaged[0].is_floating_point():
            torch._foreach_lerp_(averaged, current, 1 - now)
        else:
            torch._foreach_copy_(averaged, current)

    return update
