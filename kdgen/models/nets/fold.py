"""Nets made ready for use: batch norm and training-only structure folded into plain convolutions."""

import copy
from itertools import pairwise
from typing import Any

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from kdgen.models.abilities import Folding, Reparameterised


def shared(net: nn.Module) -> nn.Module:
    """A copy of a net around the same weights, to which it gives no gradient: its layers can be exchanged alone."""
    params = {id(p): nn.Parameter(p.detach(), requires_grad=False) for p in net.parameters()}
    return copy.deepcopy(net, {**params, **{id(buffer): buffer for buffer in net.buffers()}})


def copied(net: nn.Module) -> nn.Module:
    """A copy of a net that learns by itself: weights that do not learn are held once for both."""
    return copy.deepcopy(net, {id(p): p for p in net.parameters() if not p.requires_grad})


def folded(net: nn.Module) -> nn.Module:
    """A copy of a net, ready for use: parts fold themselves where they can, and batch norm is folded everywhere else.

    A ``Folding`` part is replaced by what it gives. A net that folds into another architecture of the registry is
    ``Specified``.

    Returns:
        a net that gives in evaluation what ``net`` gives, and holds the same weights where nothing was folded.
    """
    return fold_norm(_fold_parts(shared(net)))


def used(net: nn.Module) -> nn.Module:
    """A net as it is in use, for figures of its cost: less what only training has; norms count as they are."""
    reparameterised = any(isinstance(part, Reparameterised) for part in net.modules())
    return _fold_parts(shared(net), Reparameterised) if reparameterised else net


def _fold_parts(net: nn.Module, kind: Any = Folding) -> nn.Module:
    if isinstance(net, kind) and callable(net.folded):
        part = net.folded()
        assert isinstance(part, nn.Module)
        return part
    for name, part in net.named_children():
        setattr(net, name, _fold_parts(part, kind))
    return net


def fold_norm(net: nn.Module) -> nn.Module:
    """A net with each batch norm folded into the convolution right before it in an ``nn.Sequential``, as ``shared``.

    The place of a batch norm is kept by an ``nn.Identity``, so that dotted paths stay valid.
    """
    out = shared(net).eval()
    for chain in [module for module in out.modules() if isinstance(module, nn.Sequential)]:
        for (before, conv), (after, norm) in pairwise(list(chain.named_children())):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None:
                setattr(chain, before, fuse_conv_bn_eval(conv, norm))
                setattr(chain, after, nn.Identity())
    return out.train(net.training)
