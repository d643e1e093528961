"""Guidance of conditional nets."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from kdgen.types import Net, UserError, text
from kdgen.utils.conditions import call, check_reads, conditions_of


class Guidance(nn.Module):
    """Classifier-free guidance of a conditional net, Ho & Salimans 2022 (arXiv 2207.12598), eq. 6.

    ``D = D(x; null) + scale * (D(x; cond) - D(x; null))``, where the paper's ``w`` is ``scale - 1``: scale 1 is the
    net as it is. Any other makes one call of twice the batch.

    Args:
        net: called as ``net(x, sigma=(B,), **cond)``.
        scale: how far to go from the unconditional answer towards and past the conditional one.
        null: what tells the net of nothing, by name, each without a batch: the label of no class, the empty prompt.

    Raises:
        UserError: for a net that does not read these.
    """

    def __init__(self, net: Net, scale: float, null: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.net, self.scale, self.null = net, scale, dict(null)
        check_reads("guidance", net, set(null))
        read = conditions_of(net)
        self.conditions = None if read is None else read | {"sigma", *null}

    def forward(self, x: Tensor, **cond: Tensor) -> Tensor:
        """The guided denoised image, ``(B, C, H, W)``, of ``x`` ``(B, C, H, W)`` and ``cond``, each ``(B, ...)``."""
        if self.scale == 1:
            return call(self.net, x, cond)
        both = call(self.net, torch.cat([x, x]), {name: self._twice(name, value) for name, value in cond.items()})
        conditional, unconditional = both.chunk(2)
        return torch.lerp(unconditional, conditional, self.scale)

    def _twice(self, name: str, value: Tensor) -> Tensor:
        """A condition as it is, and behind it what stands for nothing in its place."""
        null = self.null.get(name)
        return torch.cat([value, value if null is None else null.to(value).expand_as(value)])


def check_guidance(owner: str, guidance: float, null_label: int | None) -> None:
    """Refuse guidance that cannot be. Raises UserError for a scale other than 1 without a null label."""
    if guidance != 1 and null_label is None:
        raise UserError(text("guidance_null_label", "{owner}: guidance needs null_label, the label that tells the "
                             "teacher of no class", owner=owner))  # fmt: skip


def guided(teacher: Net, guidance: float, null_label: int | None) -> Net:
    """The teacher, under ``Guidance`` where that is not 1."""
    if guidance == 1 or null_label is None:
        return teacher
    return Guidance(teacher, guidance, {"label": torch.tensor(null_label)})
