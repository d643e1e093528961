"""Optimisers by name, behind one face: several of torch's may share the parameters of one net."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from kdgen.models.nets.fold import copied
from kdgen.recipe import Stage
from kdgen.training.masters import Masters
from kdgen.training.muon import Muon
from kdgen.training.slices import held_state, load_held_state
from kdgen.types import UserError, text
from kdgen.utils.distributed import held

SMALLEST_SIDE = 16
"""Matrices with fewer rows or columns than this are left to AdamW."""

HIDDEN = (nn.Linear, nn.modules.conv._ConvNd)
"""Layers whose weights may be Muon's. Parameters of any other module are left to AdamW, embeddings above all."""


class Optimizer:
    """One or more optimisers that step together at one learning rate.

    ``adamw`` is torch's, ``sgd`` is ``DecoupledSGD``. ``muon`` gives the inner weights of the student, each reshaped to
    a matrix (outputs, inputs times kernel), to Muon, and everything else to AdamW: as Jordan et al. 2024 say ("Muon: an
    optimizer for hidden layers"), embeddings and the output layer too. Muon replaces each update by the nearest
    orthogonal matrix; its steps are scaled to AdamW's root mean square (Liu et al. 2025, arXiv 2502.16982, eq. 4), so
    that one learning rate suits both. All decay weights apart from the gradient.

    Args:
        stage: name, learning rate and weight decay.
        student: the net to train.
        others: further parameters, such as regressors.
        last: weights of the student's output layer, see ``kdgen.utils.hooks.last_weights``.
        masters: of the student's weights.
        int8: whether AdamW keeps its states in 8 bits, see ``Int8AdamW``.
    """

    def __init__(
        self,
        stage: Stage,
        student: nn.Module,
        others: Sequence[nn.Parameter],
        last: Sequence[Tensor] = (),
        *,
        masters: Masters | None = None,
        int8: bool = False,
    ) -> None:
        self.masters = masters = masters or Masters(student, torch.float32)
        own = [p for p in student.parameters() if p.requires_grad]
        self.parameters = [*own, *others]
        self._matrices: list[tuple[nn.Parameter, Tensor]] = []
        rest, decay = self.parameters, stage.weight_decay
        self.parts: list[torch.optim.Optimizer] = []
        if stage.optimizer == "muon":
            inner = _inner(student, last)
            self._matrices = [(exact := masters.of(p), _matrix(exact.detach(), exact)) for p in inner]
            if inner:
                views = [matrix for _, matrix in self._matrices]
                self.parts.append(Muon(views, lr=stage.lr, weight_decay=decay))
            taken = {id(p) for p in inner}
            rest = [p for p in self.parameters if id(p) not in taken]
        rest = [masters.of(p) for p in rest]
        if stage.optimizer == "sgd":
            self.parts.append(DecoupledSGD(rest, lr=stage.lr, weight_decay=decay))
        elif rest:
            self.parts.append(adamw(rest, lr=stage.lr, betas=stage.betas, weight_decay=decay, int8=int8))

    def step(self, rate: float) -> None:
        """Step with the gradients that the parameters hold, at learning rate ``rate``, and drop them."""
        self.masters.take_gradients()
        for parameter, matrix in self._matrices:
            matrix.grad = None if parameter.grad is None else _matrix(parameter.grad, parameter)
        for part in self.parts:
            set_rate(part, rate)
            part.step()
        self.masters.give_back()
        self.drop_gradients()

    def drop_gradients(self) -> None:
        """Forget the gradients that the parameters hold."""
        for parameter in self.parameters:
            parameter.grad = None

    def state_dict(self) -> list[dict[str, Any]]:
        """The states of the parts, for checkpoints."""
        return [part.state_dict() for part in self.parts]

    def load_state_dict(self, states: Iterable[Mapping[str, Any]]) -> None:
        """Go on from what ``state_dict`` gave."""
        for part, state in zip(self.parts, states, strict=True):
            part.load_state_dict(dict(state))


class DecoupledSGD(torch.optim.SGD):
    """SGD with Nesterov momentum 0.9 whose weight decay is no part of the gradient.

    SGDW, Loshchilov & Hutter 2019 (arXiv 1711.05101), algorithm 1: weights lose ``lr * weight_decay`` of themselves.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float, weight_decay: float) -> None:
        super().__init__(parameters, lr=lr, momentum=0.9, nesterov=True)
        self._shrinking = weight_decay

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Step with the gradients that the parameters hold; those without one stay."""
        for group in self.param_groups:
            learning = [p for p in group["params"] if p.grad is not None]
            if self._shrinking and learning:
                torch._foreach_mul_(learning, 1 - group["lr"] * self._shrinking)
        super().step(closure)


def adamw(
    parameters: Sequence[nn.Parameter],
    *,
    lr: float,
    betas: tuple[float, float],
    weight_decay: float,
    int8: bool = False,
) -> torch.optim.Optimizer:
    """AdamW, Loshchilov & Hutter 2019 (arXiv 1711.05101), with its states in float32 or 8 bits."""
    if int8:
        made: torch.optim.Optimizer = int8_adamw()(parameters, lr=lr, betas=betas, weight_decay=weight_decay)
        return made
    fused = parameters[0].device.type in ("cpu", "cuda")
    return torch.optim.AdamW(parameters, lr=lr, betas=betas, weight_decay=weight_decay, fused=fused)


def int8_adamw() -> Any:
    """AdamW by torchao with states in 8 bits, a scale for 256 of them: Dettmers et al. 2022 (arXiv 2110.02861).

    Tensors of less than 4096 values, or no multiple of 256, keep theirs in float32. On a CPU it is not compiled, which
    takes half a minute for each shape of a weight.

    Raises:
        UserError: without torchao.
    """
    if find_spec("torchao") is None:
        raise UserError(text("needs_torchao", "memory.optimizer_states int8 is by torchao: pip install "
                             "'kdgen[memory]', or set it to float32"))  # fmt: skip
    logging.getLogger("torchao").setLevel(logging.CRITICAL)  # of kernels for other machines
    from torchao.optim import AdamW8bit

    class Int8AdamW(AdamW8bit):  # type: ignore[misc]
        def step(self, closure: Any = None) -> None:
            on_cpu = self.param_groups[0]["params"][0].device.type == "cpu"
            with torch.compiler.set_stance("force_eager") if on_cpu else nullcontext():
                super().step(closure)

    return Int8AdamW


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of all parameters, which some optimisers hold as a tensor."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


def discriminator_optimizer(
    parameters: Sequence[nn.Parameter], lr: float, *, int8: bool = False
) -> torch.optim.Optimizer:
    """AdamW for critics, without momentum, as is usual for GANs (Karras et al. 2018, arXiv 1710.10196, appendix A)."""
    if int8:
        return adamw(parameters, lr=lr, betas=(0.0, 0.99), weight_decay=0.0, int8=True)
    return torch.optim.AdamW(parameters, lr=lr, betas=(0.0, 0.99), weight_decay=0.0)


def _inner(student: nn.Module, last: Sequence[Tensor]) -> list[nn.Parameter]:
    """The weights of hidden layers that are large enough to be matrices."""
    left = {id(weight) for weight in last}
    layers = list(student.modules())
    left |= {id(p) for layer in layers if not isinstance(layer, HIDDEN) for p in layer.parameters(recurse=False)}
    weights = {id(layer.weight): layer.weight for layer in layers if isinstance(layer, HIDDEN)}
    return [
        p for p in student.parameters()
        if p.requires_grad and id(p) in weights and id(p) not in left and min(p.shape[:2]) >= SMALLEST_SIDE
    ]  # fmt: skip


def _matrix(tensor: Tensor, parameter: Tensor) -> Tensor:
    """A tensor shaped like a parameter as a matrix with a row for each output, sharing memory where layouts agree."""
    if parameter.ndim == 4 and parameter.is_contiguous(memory_format=torch.channels_last):
        tensor = tensor.permute(0, 2, 3, 1)
    return tensor.reshape(len(tensor), -1)


class MovingAverage:
    """An exponential moving average of a net, buffers too, its decay warmed up as ``min(decay, (1 + n) / (10 + n))``.

    It does what ``torch.optim.swa_utils.AveragedModel`` does, and looks up what to average once instead of at every
    step: for small nets that look-up takes longer than the averaging. Weights that do not learn are the net's own.

    It follows the memory that the weights lie in when it is made, which that of their masters is later on. Of a net in
    slices each process averages its own.

    Args:
        net: to average.
        decay: of the average, in [0, 1).
        average: where it is to lie, a copy of the net; None makes one.

    Attributes:
        net: the average; the net as it was until the second update.
        count: the updates n so far.
    """

    def __init__(self, net: nn.Module, decay: float, *, average: nn.Module | None = None) -> None:
        self.net = copied(net).requires_grad_(False) if average is None else average
        self.decay, self.count = decay, 0
        both = zip(_state(self.net), _state(net), strict=True)
        pairs = [(own.detach(), now.detach()) for own, now in both if own is not now]
        self._smooth = [pair for pair in pairs if pair[0].is_floating_point()]
        self._counted = [pair for pair in pairs if not pair[0].is_floating_point()]

    @torch.no_grad()
    def update(self) -> None:
        """Take in the net as it is now."""
        now = min(self.decay, (1 + self.count) / (10 + self.count)) if self.count else 0.0
        averaged, current = zip(*self._smooth, strict=True)
        torch._foreach_lerp_(averaged, current, 1 - now)
        for average, present in self._counted:
            average.copy_(present)
        self.count += 1

    def state_dict(self) -> dict[str, Any]:
        """The average and the count, for checkpoints."""
        return {"count": self.count, "net": held_state(self.net)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what ``state_dict`` gave."""
        self.count = state["count"]
        load_held_state(self.net, state["net"])


def _state(net: nn.Module) -> list[Tensor]:
    return [held(tensor) for tensor in (*net.parameters(), *net.buffers())]
