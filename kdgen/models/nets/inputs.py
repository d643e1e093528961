"""What several nets do to their inputs: padding to a multiple, a map of the noise level, the class beside latents."""

import torch
import torch.nn.functional as F
from torch import Tensor

from kdgen.types import UserError, text


def pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """``(B, C, H, W)`` with its last row and column repeated until height and width divide by ``multiple``.

    An exported net always pads, by nothing where nothing is needed, so that it takes any size.
    """
    bottom, right = ((n + multiple - 1) // multiple * multiple - n for n in x.shape[-2:])
    needed = torch.compiler.is_exporting() or right or bottom
    return F.pad(x, (0, right, 0, bottom), mode="replicate") if needed else x


def level_map(sigma: Tensor | None, like: Tensor) -> Tensor:
    """The noise level ``sigma`` ``(B,)``, in units of the image range, as a constant map ``(B, 1, H, W)``.

    Raises:
        UserError: if there is no noise level.
    """
    if sigma is None:
        raise UserError(text("net_sigma", "this net is told the noise level: call it with sigma (B,), or pick a "
                             "blind net"))  # fmt: skip
    return sigma.to(like).view(-1, 1, 1, 1).expand(like.shape[0], 1, *like.shape[-2:])


def with_class(z: Tensor, label: Tensor | None, num_classes: int) -> Tensor:
    """Latents ``(B, Z)`` with the class behind them, ``num_classes`` entries of which one is 1; without classes as is.

    Mirza & Osindero 2014 (arXiv 1411.1784), section 3.2.

    Raises:
        UserError: if there are classes and no ``label`` ``(B,)``.
    """
    if not num_classes:
        return z
    if label is None:
        raise UserError(text("net_label", "this net is told the class, one of {classes}: call it with label (B,)",
                             classes=num_classes))  # fmt: skip
    return torch.cat([z, F.one_hot(label.long(), num_classes).to(z)], dim=1)
