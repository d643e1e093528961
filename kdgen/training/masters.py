"""What the optimiser steps in place of weights in bfloat16, and of weights in slices."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from kdgen.types import Net
from kdgen.utils.distributed import Sliced, held


class Masters:
    """What the optimiser steps: a net's own weights, or where these are kept in bfloat16 their masters in float32.

    Micikevicius et al. 2018 (arXiv 1710.03740), section 3.1. Biases and the weights of norms, of one dimension, stay as
    they are: they are few, and norms compute in float32. The master of a weight in slices is this process's slice, in
    the same memory, so that optimisers see plain tensors.

    Args:
        net: its weights of two dimensions and more are made bfloat16, in place; those that learn have a master, in the
            memory that they had.
        dtype: float32 makes none of them bfloat16.
    """

    def __init__(self, net: Net, dtype: torch.dtype) -> None:
        self._pairs: list[tuple[nn.Parameter, nn.Parameter]] = []
        for weight in net.parameters() if dtype != torch.float32 else ():
            if weight.ndim > 1 and weight.dtype == torch.float32:
                exact, weight.data = weight.data, weight.data.to(dtype)
                if weight.requires_grad:
                    self._pairs.append((weight, nn.Parameter(exact)))
        self._slices = [(p, nn.Parameter(held(p.detach()))) for p in net.parameters() if isinstance(p, Sliced)]
        self._of = {id(weight): master for weight, master in (*self._pairs, *self._slices)}

    def of(self, weight: nn.Parameter) -> nn.Parameter:
        """The master of a weight, itself where it has none."""
        return self._of.get(id(weight), weight)

    def take_gradients(self) -> None:
        """Move the gradients of the weights to their masters."""
        for weight, master in (*self._pairs, *self._slices):
            master.grad, weight.grad = None if weight.grad is None else held(weight.grad).float(), None

    @torch.no_grad()
    def give_back(self) -> None:
        """Round the masters to their weights, and drop their gradients."""
        for weight, master in self._pairs:
            weight.copy_(master)
        for _, master in (*self._pairs, *self._slices):
            master.grad = None

    def state_dict(self) -> Sequence[Tensor]:
        """The masters, for checkpoints."""
        return [master.detach() for _, master in self._pairs]

    @torch.no_grad()
    def load_state_dict(self, saved: Sequence[Tensor]) -> None:
        """Go on from what ``state_dict`` gave."""
        for (weight, master), exact in zip(self._pairs, saved, strict=True):
            weight.copy_(master.copy_(exact))


__all__ = ["Masters"]
