"""Muon for many small matrices: those of one shape step together."""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

QUINTIC = (3.4445, -4.7750, 2.0315)
"""Coefficients of Jordan et al.: five iterations take singular values in (0, 1] to about 1, give or take a third."""


class Muon(torch.optim.Optimizer):
    """``torch.optim.Muon`` with ``adjust_lr_fn="match_rms_adamw"``, but for the order of its work.

    Torch's orthogonalises one matrix after another, and on small nets spends its time between them. Here the matrices
    of one shape go through the iterations as one batch.

    Args:
        matrices: to train, each ``(rows, columns)``.
        lr: learning rate; the update is scaled to the root mean square that AdamW's has (Liu et al. 2025,
            arXiv 2502.16982, eq. 4).
        weight_decay: decoupled.
        momentum: of the averaged gradient, in Nesterov's form.
    """

    def __init__(self, matrices: Iterable[Tensor], lr: float, weight_decay: float = 0.0, momentum: float = 0.95):
        super().__init__(matrices, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Step with the gradients that the matrices hold; those without one stay."""
        for group in self.param_groups:
            shapes: dict[torch.Size, list[Tensor]] = {}
            for matrix in group["params"]:
                if matrix.grad is not None:
                    shapes.setdefault(matrix.shape, []).append(matrix)
            for shape, matrices in shapes.items():
                gradients = [matrix.grad for matrix in matrices if matrix.grad is not None]
                averages = [self.state[m].setdefault("momentum_buffer", torch.zeros_like(m)) for m in matrices]
                torch._foreach_lerp_(averages, gradients, 1 - group["momentum"])
                updates = orthogonal(torch.stack(torch._foreach_lerp(gradients, averages, group["momentum"])))
                torch._foreach_mul_(matrices, 1 - group["lr"] * group["weight_decay"])
                rate = 0.2 * math.sqrt(max(shape)) * group["lr"]
                torch._foreach_add_(matrices, updates.float().unbind(), alpha=-rate)


def orthogonal(matrices: Tensor, iterations: int = 5) -> Tensor:
    """The nearest matrices with orthonormal rows or columns, roughly: ``(N, rows, columns)``, bfloat16 on GPUs alone.

    Newton and Schulz's iteration with the quintic polynomial of Jordan et al. 2024, "Muon: an optimizer for hidden
    layers": ``X <- a X + (b A + c A^2) X`` with ``A = X X^T``.
    """
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = x.bfloat16() if x.is_cuda else x.float()  # processors without such arithmetic take ten times as long
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)
    a, b, c = QUINTIC
    gram = x.new_empty(*x.shape[:-1], x.shape[-2])
    for _ in range(iterations):
        gram = torch.baddbmm(gram, x, x.mT, beta=0)  # a third faster than x @ x.mT for one large matrix
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x
