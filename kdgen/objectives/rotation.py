"""Say by how much an image was rotated."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdgen.data import dihedral
from kdgen.objectives.probe import features_of, pooled, probe_layer, settled_layer
from kdgen.registry import register
from kdgen.types import Batch, LossInputs, Net, Objective, UserError, text
from kdgen.utils.conditions import with_maps

QUARTERS = (0, 6, 3, 5)
"""Rotations by 0 to 3 quarter turns, as numbers of ``dihedral``."""


@register("objective")
class Rotation(Objective):
    """Which of four rotations, by a linear classifier on a layer's features: Gidaris et al. 2018 (arXiv 1803.07728).

    Each image is seen in one of the four, which all are about equally many of a batch; the loss is the cross-entropy in
    nats, eq. 3. Maps are averaged over places. The classifier learns along and never ships.

    Args:
        layer: dotted path of the student's module that gives features ``(B, D, h, w)`` or ``(B, D)``; the last one by
            default that gives maps, or else features.

    Raises:
        UserError: in ``attach`` for inputs that are no square images, and for a layer that gives no features.
    """

    reads = frozenset[str]()
    classifier: nn.Module

    def __init__(self, layer: str | None = None) -> None:
        super().__init__()
        self.layer = layer

    def attach(self, student: Net, batch: Batch) -> None:
        """Make the classifier. Raises UserError where there is nothing to rotate or to read."""
        if batch.x.ndim != 4 or batch.x.shape[-1] != batch.x.shape[-2]:
            raise UserError(text("rotation_square", "rotation turns square images, and this student is shown {shape}: "
                                 "leave it out", shape=str(tuple(batch.x.shape[1:]))))  # fmt: skip
        self.layer = settled_layer("rotation", student, batch, self.layer, (4, 2))
        features = pooled(probe_layer("rotation", student, batch, self.layer))
        self.classifier = nn.Linear(features.shape[1], len(QUARTERS)).to(features.device)

    def loss(self, inputs: LossInputs) -> Tensor:
        """The cross-entropy of the rotation, ``(B,)``, in nats."""
        x = inputs.batch.x
        turns = (torch.arange(len(x), device=x.device) + torch.randint(4, (), device=x.device)) % 4
        how = torch.tensor(QUARTERS, device=x.device)[turns]
        cond = with_maps(inputs.batch.cond, x, lambda each: dihedral(each, how))
        features = features_of(inputs.student_net, dihedral(x, how), cond, str(self.layer))
        return F.cross_entropy(self.classifier(pooled(features)), turns, reduction="none")
