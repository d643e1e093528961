"""A fully connected variational autoencoder whose latents are vectors."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from kdgen.models.nets.mlp_generator import MlpGenerator
from kdgen.models.nets.moments import FIRST_LOG_VARIANCE, Means, Moments, draw
from kdgen.models.scaling import Family, fit_images, scale_widths, scaled
from kdgen.registry import register
from kdgen.types.arguments import Channels, Count


class MlpVae(nn.Module):
    """The net of ``mlp_vae``: Kingma & Welling 2014 (arXiv 1312.6114), appendix C, with ReLUs and Bernoulli pixels.

    Its keys ``fc1``, ``fc21``, ``fc22``, ``fc3`` and ``fc4`` are those of PyTorch's own example of a VAE. Such weights
    are trained for pixels in [0, 1], so this net reads ``(x + 1) / 2`` and says ``2 * sigmoid - 1``: its images are in
    [-1, 1], and a checkpoint of such weights is declared with that range.

    Attributes:
        latent_channels: size Z of its latents.
        moments, latents: modules that pass on the moments and their means, for hooks to read.
    """

    conditions: frozenset[str] = frozenset()
    halves: ClassVar = {"encoder": ("fc1", "fc21", "fc22", "moments", "latents"), "decoder": ("fc3", "fc4")}

    def __init__(self, channels: int, size: int, hidden: int, latent: int, sample: bool) -> None:
        super().__init__()
        self.channels, self.size, self.hidden, self.latent_channels = channels, size, hidden, latent
        self.sample = sample
        pixels = channels * size**2
        self.fc1 = nn.Linear(pixels, hidden)
        self.fc21, self.fc22 = nn.Linear(hidden, latent), nn.Linear(hidden, latent)
        self.moments, self.latents = Moments(), Means()
        self.fc3, self.fc4 = nn.Linear(latent, hidden), nn.Linear(hidden, pixels)
        self._initialise()

    @torch.no_grad()
    def _initialise(self) -> None:
        """He et al. 2015, eq. 10, with zero biases; what has no ReLU behind it keeps the size of what it reads.

        Variances start small.
        """
        for name, layer in self.named_children():
            if isinstance(layer, nn.Linear):
                gain = {"fc22": 0.1, "fc21": 1.0, "fc4": 1.0}.get(name, 2**0.5)
                nn.init.normal_(layer.weight, std=gain * layer.in_features**-0.5)
                nn.init.constant_(layer.bias, FIRST_LOG_VARIANCE if name == "fc22" else 0.0)

    def encode(self, x: Tensor) -> Tensor:
        """Images ``(B, C, size, size)`` in [-1, 1] to moments ``(B, 2Z)``: means, then logarithms of variances."""
        h = torch.relu(self.fc1((x.flatten(1) + 1) / 2))
        moments: Tensor = self.moments(torch.cat([self.fc21(h), self.fc22(h)], dim=1))
        self.latents(moments)
        return moments

    def decode(self, z: Tensor) -> Tensor:
        """Latents ``(B, Z)`` to images ``(B, C, size, size)`` in [-1, 1]."""
        pixels = 2 * torch.sigmoid(self.fc4(torch.relu(self.fc3(z)))) - 1
        return pixels.view(z.shape[0], self.channels, self.size, self.size)

    def forward(self, x: Tensor) -> Tensor:
        """Images to images: a sample of the latents is decoded in training if so built, otherwise their mean.

        Args:
            x: ``(B, C, size, size)`` in [-1, 1].
        """
        return self.decode(draw(self.encode(x), sampled=self.sample and self.training))

    @torch.no_grad()
    def generator(self) -> MlpGenerator:
        """A copy of the decoder as a generator: latents ``(B, Z)`` to the images that ``decode`` makes of them."""
        net = MlpGenerator(self.latent_channels, self.channels, self.size, [self.hidden], "sigmoid", slope=0.0)
        for place, layer in ((0, self.fc3), (2, self.fc4)):
            net[place].load_state_dict(layer.state_dict())
        return net.train(self.training)

    def feature_layers(self) -> list[str]:
        """The hidden layer of the encoder before its ReLU, the moments, their means, and that of the decoder."""
        return ["fc1", "moments", "latents", "fc3"]


@register("net")
@scaled(Family(scale=scale_widths("hidden"), fit=fit_images))
def mlp_vae(
    channels: Channels = 1, size: Count = 28, hidden: Count = 400, latent: Count = 20, sample: bool = True
) -> MlpVae:
    """A fully connected variational autoencoder, by default PyTorch's example for MNIST.

    Args:
        channels: channels C of its images.
        size: their height and width.
        hidden: units of the hidden layer on each side.
        latent: size Z of its latents.
        sample: whether it decodes samples of the latents in training; their means otherwise, and always in use.
    """
    return MlpVae(channels, size, hidden, latent, sample)
