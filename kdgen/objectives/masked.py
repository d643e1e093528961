"""Say what is hidden, from what is not."""

import torch
from torch import Tensor, nn

from kdgen.objectives.probe import features_of, probe_answer, probe_layer, settled_layer
from kdgen.registry import register
from kdgen.types import Batch, LossInputs, Net, Objective, UserError, text
from kdgen.types.arguments import Count, Share
from kdgen.utils.conditions import call
from kdgen.utils.distance import resample


@register("objective")
class Masked(Objective):
    """Reconstruct masked patches: SimMIM (Xie et al. 2022, arXiv 2111.09886), after He et al. 2022 (arXiv 2111.06377).

    Patches of the input are filled with the mean of its channels, and the loss is the mean absolute difference to the
    input in these alone. A net that gives images of as many channels gives the reconstruction itself; for any other
    a decoder of one 1x1 convolution (section 3.4 of SimMIM) reads a layer's map. It learns along and never ships.

    Args:
        patch: height and width of a patch in pixels.
        share: of the patches that are masked, above 0 and below 1.
        layer: dotted path of the student's module whose map ``(B, D, h, w)`` is decoded; the last such one by default,
            and none for a net that gives images.

    Raises:
        UserError: in ``attach`` for inputs that are no images, and for a layer that gives no map.
    """

    reads = frozenset[str]()
    decoder: nn.Module

    def __init__(self, patch: Count = 4, share: Share = 0.6, layer: str | None = None) -> None:
        super().__init__()
        self.patch, self.share, self.layer = patch, share, layer

    def attach(self, student: Net, batch: Batch) -> None:
        """Make the decoder where one is needed. Raises UserError for what has no maps."""
        if batch.x.ndim != 4:
            raise UserError(text("masked_images", "masked hides patches of images, and this student is shown none: "
                                 "leave it out"))  # fmt: skip
        answer, channels = probe_answer(student, batch), batch.x.shape[1]
        labelled = batch.y is not None and batch.y.ndim != 4
        if self.layer is None and answer.ndim == 4 and answer.shape[1] == channels and not labelled:
            return
        self.layer = settled_layer("masked", student, batch, self.layer, (4,))
        features = probe_layer("masked", student, batch, self.layer)
        scale = max(batch.x.shape[-1] // features.shape[-1], 1)
        decoder = nn.Sequential(nn.Conv2d(features.shape[1], channels * scale**2, 1), nn.PixelShuffle(scale))
        self.decoder = decoder.to(features.device)

    def loss(self, inputs: LossInputs) -> Tensor:
        """The mean absolute difference in masked patches, ``(B,)``."""
        x, cond = inputs.batch.x, inputs.batch.cond
        hidden = self.mask(x)
        shown = torch.where(hidden, x.mean((2, 3), keepdim=True), x)
        if self.layer is None:
            out = call(inputs.student_net, shown, cond).float()
        else:
            out = self.decoder(features_of(inputs.student_net, shown, cond, self.layer))
        error = (resample(out, x) - x).abs() * hidden
        return error.mean(1).sum((1, 2)) / hidden.sum((1, 2, 3))

    def mask(self, x: Tensor) -> Tensor:
        """Which pixels of images ``(B, C, H, W)`` are hidden, ``(B, 1, H, W)``: as many patches of each image."""
        count, (height, width) = len(x), (-(-side // self.patch) for side in x.shape[-2:])
        order = torch.rand(count, height * width, device=x.device).argsort(1)
        most = max(min(round(self.share * height * width), height * width - 1), 1)
        patches = (order < most).view(count, 1, height, width)
        grown = patches.repeat_interleave(self.patch, 2).repeat_interleave(self.patch, 3)
        return grown[..., : x.shape[-2], : x.shape[-1]]
