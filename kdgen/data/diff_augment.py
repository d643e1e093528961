"""Augmentation that gradients pass through, for discriminators that see few images."""

import torch
import torch.nn.functional as F
from torch import Tensor


def augmented(images: Tensor) -> Tensor:
    """Differentiable augmentation (DiffAugment, Zhao et al. 2020, arXiv 2006.10738, sec. 3.2), drawn for each image.

    Brighter or darker by up to 0.5, shifted by up to an eighth of the size with grey coming in, and a grey square of
    half the size laid over. Randomness is that of the images' device.
    """
    batch, _, height, width = images.shape

    def draw(low: int, high: int) -> Tensor:
        return torch.randint(low, high + 1, (batch, 1, 1), device=images.device)

    images = images + (torch.rand(batch, 1, 1, 1, device=images.device, dtype=images.dtype) - 0.5)
    rows = torch.arange(height, device=images.device).view(1, -1, 1)
    columns = torch.arange(width, device=images.device).view(1, 1, -1)
    down, right = height // 8, width // 8
    padded = F.pad(images, (right, right, down, down))
    each = torch.arange(batch, device=images.device).view(-1, 1, 1)
    shifted = padded.movedim(1, -1)[each, rows + draw(0, 2 * down), columns + draw(0, 2 * right)].movedim(-1, 1)
    top, left = draw(-(height // 4), height - height // 4), draw(-(width // 4), width - width // 4)
    covered = (rows >= top) & (rows < top + height // 2) & (columns >= left) & (columns < left + width // 2)
    return shifted * ~covered[:, None]
