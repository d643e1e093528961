"""Guidance of class-conditional nets."""

import torch
from torch import Tensor, nn

from kdgen.types import Net, UserError, text
from kdgen.utils.conditions import call, check_reads, conditions_of


class Guidance(nn.Module):
    """Classifier-free guidance of a class-conditional net, Ho & Salimans 2022 (arXiv 2207.12598), eq. 6.

    ``D = D(x; null) + scale * (D(x; label) - D(x; null))``, where the paper's ``w`` is ``scale - 1``: scale 1 is the
    net as it is. Any other makes one call of twice the batch.

    Args:
        net: called as ``net(x, sigma=(B,), label=(B,), **cond)``.
        scale: how far to go from the unconditional answer towards and past the conditional one.
        null_label: the label that tells the net of no class.

    Raises:
        UserError: for a net that does not read ``label``.
    """

    def __init__(self, net: Net, scale: float, null_label: int) -> None:
        super().__init__()
        self.net, self.scale, self.null_label = net, scale, null_label
        check_reads("guidance", net, {"label"})
        read = conditions_of(net)
        self.conditions = None if read is None else read | {"sigma", "label"}

    def forward(self, x: Tensor, *, sigma: Tensor, label: Tensor, **cond: Tensor) -> Tensor:
        """The guided denoised image, ``(B, C, H, W)``, of ``x`` ``(B, C, H, W)``, ``sigma`` and ``label`` ``(B,)``."""
        if self.scale == 1:
            return call(self.net, x, {**cond, "sigma": sigma, "label": label})
        labels = torch.cat([label, torch.full_like(label, self.null_label)])
        twice = {name: torch.cat([value, value]) for name, value in cond.items()}
        both = call(self.net, torch.cat([x, x]), {**twice, "sigma": torch.cat([sigma, sigma]), "label": labels})
        conditional, unconditional = both.chunk(2)
        return torch.lerp(unconditional, conditional, self.scale)


def check_guidance(owner: str, guidance: float, null_label: int | None) -> None:
    """Refuse guidance that cannot be. Raises UserError for a scale other than 1 without a null label."""
    if guidance != 1 and null_label is None:
        raise UserError(text("guidance_null_label", "{owner}: guidance needs null_label, the label that tells the "
                             "teacher of no class", owner=owner))  # fmt: skip


def guided(teacher: Net, guidance: float, null_label: int | None) -> Net:
    """The teacher, under ``Guidance`` where that is not 1."""
    if guidance == 1 or null_label is None:
        return teacher
    return Guidance(teacher, guidance, null_label)
