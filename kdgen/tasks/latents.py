"""Latents between the halves of autoencoders, and whether two autoencoders can exchange them."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from kdgen.metrics import psnr
from kdgen.models.abilities import Autoencoder, Latent, decodes, encodes
from kdgen.types import Metrics, Net
from kdgen.utils.devices import device_of, evaluating


def encoded(net: Net, y: Tensor) -> Tensor:
    """Latents of images ``(B, C, H, W)`` on the CPU, by a net's ``encode`` or else by the net itself.

    Where it gives means and logarithms of variances, which ``latent_channels`` tells, these are the means.
    """
    encode = net.encode if encodes(net) else net
    with evaluating(net):
        z: Tensor = encode(y.to(device_of(net))).float().cpu()
    return z[:, : _latent_channels(net, z)].clone()


def decoded(net: Net, z: Tensor) -> Tensor:
    """Images ``(B, C, H, W)`` of latents on the CPU, by a net's ``decode`` or else by the net itself.

    Of means and logarithms of variances, which ``latent_channels`` tells, the means are decoded.
    """
    decode = net.decode if decodes(net) else net
    with evaluating(net):
        image: Tensor = decode(z[:, : _latent_channels(net, z)].to(device_of(net))).float().cpu()
    return image


def latent_error(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> float:
    """The mean squared difference of latents as a share of the variance of ``theirs``.

    Args:
        ours: latents ``(B, Z, ...)``, a tensor for each batch.
        theirs: the teacher's for the same images, in the same shapes. Their variance is about the mean of each channel.

    Returns:
        0 for equal latents, 1 for those of a net that always says the mean.
    """
    flat, target = (torch.cat([z.double().movedim(1, 0).flatten(1) for z in each], 1) for each in (ours, theirs))
    return float((flat - target).square().mean() / target.var(1, unbiased=False).mean().clamp_min(1e-12))


def exchanged(net: Net, reference: Net, images: Iterable[Tensor]) -> Metrics:
    """How well the halves of an autoencoder do in the place of a teacher's.

    Args:
        net: any net.
        reference: the teacher.
        images: batches ``(B, C, H, W)`` in [-1, 1].

    Returns:
        ``latent_error``, see there; and in dB against the teacher's images of its own latents, averaged over images,
        ``psnr_teacher_decoder`` for its decoder on the net's latents and ``psnr_student_decoder`` for the net's decoder
        on the teacher's latents. Nothing where one of them has no latents, or latents of another shape.
    """
    if not (isinstance(net, Autoencoder) and isinstance(reference, Autoencoder)):
        return {}
    ours, theirs, by_reference, by_net = [], [], [], []
    for y in images:
        mine, known = encoded(net, y), encoded(reference, y)
        if mine.shape != known.shape:
            return {}
        target = decoded(reference, known).clamp(-1, 1)
        ours.append(mine)
        theirs.append(known)
        by_reference.append(psnr(decoded(reference, mine).clamp(-1, 1), target))
        by_net.append(psnr(decoded(net, known).clamp(-1, 1), target))
    return {
        "latent_error": latent_error(ours, theirs),
        "psnr_teacher_decoder": torch.cat(by_reference).mean().item(),
        "psnr_student_decoder": torch.cat(by_net).mean().item(),
    }


def _latent_channels(net: Net, z: Tensor) -> int:
    """How many channels of what an encoder gives are latents: all, where the net does not say."""
    return int(net.latent_channels if isinstance(net, Latent) else z.shape[1])


__all__ = ["decoded", "encoded", "exchanged", "latent_error"]
