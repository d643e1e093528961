"""How far tensors are apart, image by image, and images of another size made comparable."""

from typing import Literal

import torch.nn.functional as F
from torch import Tensor

Distance = Literal["l1", "l2", "charbonnier", "huber"]


def distance(name: Distance, a: Tensor, b: Tensor, *, epsilon: float = 1e-3, delta: float = 0.1) -> Tensor:
    """The mean distance of two tensors, image by image.

    With ``d = a - b``: l1 is ``|d|``; l2 is ``d^2``; charbonnier is ``sqrt(d^2 + epsilon^2)`` (the rho of LapSRN,
    Lai et al. 2017), which is ``epsilon`` and not zero where the two agree; huber is ``d^2 / 2`` up to ``delta`` and
    ``delta (|d| - delta / 2)`` beyond (Huber 1964).

    Args:
        name: which distance.
        a: ``(B, ...)`` of any dtype.
        b: of the same shape.
        epsilon: for charbonnier, in the units of ``a``.
        delta: for huber, in the units of ``a``.

    Returns:
        ``(B,)``, float32.
    """
    a, b = a.float(), b.float()
    if name == "l1":
        each = F.l1_loss(a, b, reduction="none")
    elif name == "l2":
        each = F.mse_loss(a, b, reduction="none")
    elif name == "charbonnier":
        each = (F.mse_loss(a, b, reduction="none") + epsilon**2).sqrt()
    else:
        each = F.huber_loss(a, b, reduction="none", delta=delta)
    return each.mean(dim=tuple(range(1, each.dim())))


def resample(image: Tensor, like: Tensor) -> Tensor:
    """An image or feature map ``(B, C, H, W)`` at the height and width of another, float32, bilinear.

    Shrinking averages over the pixels that a new one covers. Clips ``(B, C, T, H, W)`` are first brought to as many
    frames, linear in time. Tensors without height and width pass unchanged.
    """
    image = image.float()
    if image.dim() not in (4, 5) or image.shape[2:] == like.shape[2:]:
        return image
    if image.dim() == 5:
        count, frames = len(image), like.shape[2]
        clips = F.interpolate(image, size=(frames, *image.shape[-2:]), mode="trilinear", align_corners=False)
        each = resample(clips.transpose(1, 2).flatten(0, 1), like[:, :, 0])
        return each.view(count, frames, *each.shape[1:]).transpose(1, 2)
    height, width = like.shape[-2:]
    return F.interpolate(image, size=(height, width), mode="bilinear", align_corners=False, antialias=True)
