"""Draw the small pictures by which the app's page shows what can be distilled, with the bundled teachers themselves.

python benchmarks/cards.py
"""

from pathlib import Path

import torch
from PIL import Image

from kdgen import load
from kdgen.data.photographs import Photographs
from kdgen.utils.convert import from_picture, sheet, to_pictures

CARDS = Path(__file__).parents[1] / "kdgen" / "ui" / "cards"
SIDE = 220
PROMPTS = ["red heart", "cat face", "green apple", "sun"]


def main() -> None:
    """Write one picture for each kind, called like it."""
    photographs = Photographs()
    index = list(photographs.names).index("chelsea")
    truth, _ = from_picture(Image.fromarray(photographs.picture(index)))
    truth = truth[..., 16:176, 60:220]
    noisy = truth + 2 * 50 / 255 * torch.randn(truth.shape, generator=torch.Generator().manual_seed(0))
    clean = load("denoiser").restore(noisy, sigma=50)
    half = truth.shape[-1] // 2
    denoised = torch.cat([noisy.clamp(-1, 1)[..., :half], clean[..., half:]], -1)
    other, _ = from_picture(Image.fromarray(photographs.picture(list(photographs.names).index("coffee"))))
    other = other[..., 40:168, 60:188]
    coded = load("vae").net(other).clamp(-1, 1).detach()
    both = torch.cat([other[..., :64], coded[..., 64:]], -1)
    small = torch.nn.functional.interpolate(other, scale_factor=1 / 8, mode="area")
    coarse = torch.nn.functional.interpolate(small, other.shape[-2:])
    enlarged = torch.cat([coarse[..., :64], other[..., 64:]], -1)
    cards = {
        "denoiser": to_pictures(denoised)[0],
        "restorer": to_pictures(enlarged)[0],
        "gan": sheet(to_pictures(load("gan").draw(9, seed=4)), columns=3),
        "vae": to_pictures(both)[0],
        "diffusion": sheet(to_pictures(load("diffusion").draw(9, seed=1)), columns=3),
        "text_to_image": sheet(to_pictures(load("emoji").draw(4, seed=3, prompt=PROMPTS)), columns=2),
        "few_steps": sheet(to_pictures(load("diffusion").draw(4, seed=12)), columns=2),
    }
    CARDS.mkdir(exist_ok=True)
    for name, picture in cards.items():
        picture.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(CARDS / f"{name}.webp", quality=82)
        print(f"{name}: {(CARDS / f'{name}.webp').stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
