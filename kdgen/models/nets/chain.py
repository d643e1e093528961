"""What DnCNN, FFDNet and the small student share: a plain chain of 3x3 convolutions."""

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from kdgen.models.nets.fold import fold_norm
from kdgen.registry import Spec

Predicts = Literal["image", "residual"]
Norm = bool | Literal["folded"]
Depth = Annotated[int, Field(ge=2)]


class ConvChain(nn.Sequential):
    """A convolution and ReLU, ``depth - 2`` times convolution, norm and ReLU, and a convolution; all 3x3.

    Its keys are those of a plain ``nn.Sequential``: ``0.weight``, ``2.weight``, ...

    Attributes:
        predicts: "residual" where the chain gives what is to be subtracted from the input, "image" otherwise.
        num_maps: input channels, the first ones, that are a noise-level map and no image.
        use: the registered name and all arguments.
        conditions: that it reads.
    """

    num_maps = 0
    conditions: frozenset[str] = frozenset()

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        depth: int,
        width: int,
        norm: Norm = False,
        bias: bool = True,
        predicts: Predicts,
        use: Spec,
    ) -> None:
        """Make the layers.

        Args:
            inputs: channels of what it reads.
            outputs: channels of what it gives.
            depth: number of convolutions, at least 2.
            width: channels between them.
            norm: batch norm in the middle. "folded" keeps its place empty and gives the convolution before it a bias:
                such is a net that batch norm was folded out of, with the dotted paths it had.
            bias: whether convolutions have one.
            predicts: see above.
            use: see above.
        """
        layers: list[nn.Module] = [nn.Conv2d(inputs, width, 3, padding=1, bias=bias), nn.ReLU()]
        for _ in range(depth - 2):
            layers.append(nn.Conv2d(width, width, 3, padding=1, bias=bias or norm == "folded"))
            if norm:
                layers.append(nn.Identity() if norm == "folded" else nn.BatchNorm2d(width))
            layers.append(nn.ReLU())
        super().__init__(*layers, nn.Conv2d(width, outputs, 3, padding=1, bias=bias))
        initialise(self)
        self.predicts, self.use = predicts, use

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` of any size to the same."""
        out = self.chain(x)
        return x - out if self.predicts == "residual" else out

    def chain(self, x: Tensor) -> Tensor:
        """What the layers make of ``(B, inputs, H, W)``: ``(B, outputs, H, W)``."""
        for layer in self:
            x = layer(x)
        return x

    def feature_layers(self) -> list[str]:
        """The ReLUs."""
        return [name for name, layer in self.named_children() if isinstance(layer, nn.ReLU)]

    def folded(self) -> nn.Module:
        """A copy with batch norm folded away, and its own ``use``."""
        copy = fold_norm(self)
        assert isinstance(copy, ConvChain)
        if self.use.args.get("norm"):
            copy.use = Spec(name=self.use.name, args={**self.use.args, "norm": "folded"})
        return copy


@torch.no_grad()
def initialise(layers: nn.Sequential) -> None:
    """He et al. 2015, eq. 10, with zero biases; the last convolution a tenth of that, so that little is subtracted."""
    convs = [layer for layer in layers if isinstance(layer, nn.Conv2d)]
    for conv in convs:
        nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
        if conv.bias is not None:
            nn.init.zeros_(conv.bias)
    convs[-1].weight.mul_(0.1)
