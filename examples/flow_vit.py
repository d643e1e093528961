"""A flow transformer of digits by Sofia Dominguez (github.com/sofia-dominguezc/MNIST-diffusion, MIT), made kdgen's.

It is shown ``t y + (1 - t) n`` of images ``y`` in [0, 1] and says ``y``; time, from noise at 0 to the image at 1, and
the class, 10 for none, are two tokens each behind those of 7x7 pixels. Here it is told ``sigma`` and ``label`` and
gives the denoised image in [-1, 1].
"""

import torch
from torch import Tensor, nn

from kdgen import register

SIDE, PATCH, CLASSES = 28, 7, 10


@register("net")
class FlowVit(nn.Module):
    """Noisy images ``(B, 1, 28, 28)``, their ``sigma`` ``(B,)`` and ``label`` ``(B,)`` to denoised images in [-1, 1].

    Args:
        width: channels of a token, a multiple of 8.
        depth: layers.
        channels: of its images: 1.
    """

    def __init__(self, width: int = 64, depth: int = 4, channels: int = 1) -> None:
        super().__init__()
        self.width = width
        self.patch_embed = nn.Conv2d(channels, width, PATCH, stride=PATCH)
        self.pos_embed = nn.Parameter(torch.randn(1, (SIDE // PATCH) ** 2, width))
        self.transformer = nn.ModuleList(
            nn.TransformerEncoderLayer(width, 4, 4 * width, dropout=0.0, activation="gelu", batch_first=True)
            for _ in range(depth)
        )
        self.unpatch = nn.ConvTranspose2d(width, channels, PATCH, stride=PATCH)
        self.y_encoder = nn.Embedding(CLASSES + 1, 2 * width)

    def forward(self, x: Tensor, *, sigma: Tensor, label: Tensor) -> Tensor:
        """The denoised image, ``(B, 1, 28, 28)``, of ``x = y + sigma * n``."""
        time = 2 / (2 + sigma)  # noise of sigma on images in [-1, 1] is half as strong on those in [0, 1]
        shown = (x + 1) / 2 * time.view(-1, 1, 1, 1)
        return 2 * self.image(shown, time, label) - 1

    def image(self, x: Tensor, time: Tensor, label: Tensor) -> Tensor:
        """The image in [0, 1], ``(B, 1, 28, 28)``, as the authors ask for it."""
        patches = self.patch_embed(x)
        tokens = patches.flatten(2).transpose(1, 2) + self.pos_embed
        told = torch.cat([self.embedded(time), self.y_encoder(label)], 1).view(len(x), -1, self.width)
        tokens = torch.cat([tokens, told], 1)
        for layer in self.transformer:
            tokens = layer(tokens)
        return self.unpatch(tokens[:, : -told.shape[1]].transpose(1, 2).reshape(patches.shape))

    def embedded(self, time: Tensor) -> Tensor:
        """Sines and cosines of a time ``(B,)``, ``(B, 2 * width)``."""
        rates = torch.logspace(0, -4, self.width, device=time.device, dtype=time.dtype)
        return torch.cat([(time[:, None] * rates).sin(), (time[:, None] * rates).cos()], 1)
