"""Refusals of weights in one line."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from kdgen.types import UserError, text


def check_numbers(weights: Mapping[str, Tensor], wanted: Mapping[str, Tensor], where: str) -> None:
    """Refuse integers, complex, quantised, sparse and missing numbers where a net computes with floats.

    Args:
        weights: of a file, by name.
        wanted: those of the net that they are for; names that it has not are passed over.
        where: the file or folder.

    Raises:
        UserError: with the first weight that is of the wrong kind.
    """
    for key, value in weights.items():
        if value.is_meta:
            raise UserError(text("weight_meta", "{where}: {key} has a shape and no values: save it from the device "
                                 "that holds it", where=where, key=key))  # fmt: skip
        if value.layout is not torch.strided:
            raise UserError(text("weight_sparse", "{where}: {key} is sparse: save its to_dense()", where=where,
                                 key=key))  # fmt: skip
        if key in wanted and wanted[key].is_floating_point() and not value.is_floating_point():
            kind = str(value.dtype).removeprefix("torch.")
            raise UserError(text("weight_kind", "{where}: {key} is of {kind}, and its net computes with floats: "
                                 "bring the weights before they were quantised", where=where, key=key,
                                 kind=kind))  # fmt: skip


def check_finite(net: nn.Module, where: str) -> None:
    """Refuse parameters that are not finite, buffers that are no numbers, and variances of batch norm below 0.

    A mask may hold infinity.

    Args:
        net: the net with its weights.
        where: the file or folder that they are from.

    Raises:
        UserError: with the first weight of the kind.
    """
    held = [*net.named_parameters(), *net.named_buffers()]
    if name := next((name for name, weight in held if weight.is_meta), None):
        raise UserError(text("weights_meta", "the weights in {where} are on the meta device, {name} has no values: "
                             "load them first", where=where, name=name))  # fmt: skip
    broken = (name for name, weight in net.named_parameters() if not weight.isfinite().all())
    unknown = (name for name, buffer in net.named_buffers() if buffer.isnan().any())
    below = (name for name, buffer in net.named_buffers() if name.endswith("running_var") and buffer.lt(0).any())
    if name := next(broken, None) or next(unknown, None):
        raise UserError(text("weights_not_finite", "the weights in {where} are damaged, {name} is not finite: fetch "
                             "or train them again", where=where, name=name))  # fmt: skip
    if name := next(below, None):
        raise UserError(text("weights_variance", "the weights in {where} are damaged, {name} holds variances below "
                             "0: fetch or train them again", where=where, name=name))  # fmt: skip
