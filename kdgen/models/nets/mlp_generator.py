"""A fully connected generator: latents to images."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from kdgen.models.nets.generator import fit_latents
from kdgen.models.nets.inputs import with_class
from kdgen.models.scaling import Family, scale_widths, scaled
from kdgen.registry import register
from kdgen.types.arguments import Channels, Count, CountOrZero, Counts
from kdgen.utils.conditions import check_conditions

Output = Literal["tanh", "sigmoid"]


class MlpGenerator(nn.Sequential):
    """The net of ``mlp_generator``: linear layers, with leaky ReLUs between.

    The original GAN's generator of digits (Goodfellow et al. 2014, arXiv 1406.2661) and the decoder of Kingma & Welling
    2014 (arXiv 1312.6114, appendix C) are of this kind. Its keys are those of a plain ``nn.Sequential``:
    ``0.weight``, ``2.weight``, ...
    """

    def __init__(
        self,
        latent: int,
        channels: int,
        size: int,
        hidden: Sequence[int],
        output: Output,
        slope: float,
        num_classes: int = 0,
    ) -> None:
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise([latent + num_classes, *hidden]):
            layers += [nn.Linear(inputs, outputs), nn.LeakyReLU(slope)]
        super().__init__(*layers, nn.Linear(hidden[-1], channels * size**2))
        self.latent, self.channels, self.size, self.output = latent, channels, size, output
        self.num_classes = num_classes
        self.conditions = frozenset({"label"} if num_classes else ())
        self._initialise(slope)

    def _initialise(self, slope: float) -> None:
        """He et al. 2015, eq. 15, with zero biases; the last layer keeps the size of what it reads."""
        for layer in self:
            if isinstance(layer, nn.Linear):
                gain = nn.init.calculate_gain("leaky_relu", slope) if layer is not self[-1] else 1.0
                nn.init.normal_(layer.weight, std=gain * layer.in_features**-0.5)
                nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor, *, label: Tensor | None = None) -> Tensor:
        """Draw.

        Args:
            x: standard normal latents, ``(B, Z)`` or ``(B, Z, 1, 1)``.
            label: classes ``(B,)``, read by a class-conditional net.

        Returns:
            images ``(B, C, size, size)`` in [-1, 1].

        Raises:
            UserError: for a class-conditional net without ``label``.
        """
        check_conditions(self, label=label)
        h = with_class(x.flatten(1), label, self.num_classes)
        for layer in self:
            h = layer(h)
        squashed = torch.tanh(h if self.output == "tanh" else h / 2)  # 2 * sigmoid(h) - 1 is tanh(h / 2)
        return squashed.view(x.shape[0], self.channels, self.size, self.size)

    def feature_layers(self) -> list[str]:
        """The hidden layers, after their nonlinearity."""
        return [name for name, layer in self.named_children() if isinstance(layer, nn.LeakyReLU)]


@register("net")
@scaled(Family(scale=scale_widths("hidden"), fit=fit_latents, does={"draws": "latents"}))
def mlp_generator(
    latent: Count = 64,
    channels: Channels = 1,
    size: Count = 32,
    hidden: Counts = (256, 512),
    output: Output = "tanh",
    slope: Annotated[float, Field(ge=0, lt=1)] = 0.2,
    num_classes: CountOrZero = 0,
) -> MlpGenerator:
    """A fully connected generator, unlike any convolutional teacher.

    By default 672,000 multiply-accumulates, as many as it has weights.

    Args:
        latent: size Z of its latents.
        channels: channels C of its images.
        size: their height and width, any.
        hidden: units of each hidden layer.
        output: what squashes the last layer: "tanh", or "sigmoid" for weights that were trained for images in [0, 1],
            which are then shifted to [-1, 1].
        slope: of the leaky ReLUs for negative values; 0 for ReLUs.
        num_classes: of a class-conditional net, which is told the ``label`` of each latent; 0 for none.
    """
    return MlpGenerator(latent, channels, size, hidden, output, slope, num_classes)
