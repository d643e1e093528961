"""Gradient checkpointing: blocks of a net keep what they read, and are computed once more for their gradients."""

from functools import partial
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from kdgen.types import Net, UserError, text
from kdgen.utils.hooks import Layered


def recompute_blocks(net: Net) -> None:
    """Checkpoint the blocks of a net in place, Chen et al. 2016 (arXiv 1604.06174): it gives the same with less memory.

    Blocks are those that models of diffusers declare, and of other nets the layers that they name themselves.

    Raises:
        UserError: for a net that declares none, and for batch norm, which would count every batch twice.
    """
    models = _declaring(net)
    for model in models:
        model.enable_gradient_checkpointing()
    blocks = [] if models else _named(net)
    if not models and not blocks:
        raise UserError(text("no_blocks", "memory.checkpointing is for nets with blocks, and a {net} declares none: "
                             "set it to false", net=type(net).__name__))  # fmt: skip
    if any(isinstance(module, _BatchNorm) for module in net.modules()):
        raise UserError(text("blocks_batch_norm", "memory.checkpointing computes blocks twice, and the batch norm of a "
                             "{net} would count each batch twice: set it to false", net=type(net).__name__)
                        )  # fmt: skip
    for block in blocks:
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)


def _declaring(net: Net) -> list[Any]:
    """The models of diffusers within a net that declare blocks."""
    from diffusers import ModelMixin

    return [module for module in net.modules()
            if isinstance(module, ModelMixin) and module._supports_gradient_checkpointing]  # fmt: skip


def _named(net: Net) -> list[nn.Module]:
    """The layers that a net names, without those that lie within another of them."""
    paths = list(net.feature_layers()) if isinstance(net, Layered) and callable(net.feature_layers) else []
    return [net.get_submodule(path) for path in paths if not any(path.startswith(f"{other}.") for other in paths)]


__all__ = ["recompute_blocks"]
