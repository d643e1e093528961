"""Train `emoji-words`, which says what words an emoji of 32x32 shows: what text-to-image students are judged by.

    python benchmarks/emoji_words.py emoji-captioned emoji emoji-words --seconds 900

`emoji-captioned` is written by `benchmarks/emoji.py`; `emoji` is the text-to-image model through whose autoencoder half
of the pictures pass, as those pass that it draws. The words of a caption share its probability, Mahajan et al. 2018
(arXiv 1805.00932), section 2.2. A tenth of the pictures whose words others show too are kept aside, and the R-precision
is told of those.
"""

import argparse
import json
import math
import time
from collections import Counter
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import kdgen
from kdgen.data import Captioned, generator
from kdgen.metrics.recognition import r_precision
from kdgen.models.model import Model, build_net
from kdgen.registry import Spec

SIDE, WIDTH, BATCH, RATE = 32, 24, 64, 3e-3
RARE = 2
"""Pictures that show a word at least, for it to be known."""


def parted(captions: list[str]) -> tuple[list[str], list[int], list[int]]:
    """The words that are known, and the numbers of pictures to train on and to measure on."""
    counts = Counter(word for caption in captions for word in set(caption.split()))
    words = sorted(word for word, count in counts.items() if count >= RARE)
    random, left = generator(0, "aside"), counts.copy()
    aside = []
    for number in torch.randperm(len(captions), generator=random).tolist():
        own = set(captions[number].split())
        if len(aside) < len(captions) // 10 and all(left[word] > RARE for word in own):
            aside.append(number)
            left.subtract(own)
    return words, sorted(set(range(len(captions))) - set(aside)), sorted(aside)


def targets(captions: list[str], words: list[str]) -> Tensor:
    """Probabilities ``(N, K)``, shared by the words of each caption."""
    place = {word: number for number, word in enumerate(words)}
    shown = torch.zeros(len(captions), len(words))
    for row, caption in enumerate(captions):
        shown[row, [place[word] for word in set(caption.split()) if word in place]] = 1
    return shown / shown.sum(1, keepdim=True).clamp_min(1)


def moved(x: Tensor, random: torch.Generator) -> Tensor:
    """Pictures ``(B, 3, H, W)`` a little larger or smaller, moved, half of them mirrored, white where nothing is."""
    scale = 1 + 0.1 * (2 * torch.rand(len(x), generator=random) - 1)
    turn = torch.where(torch.rand(len(x), generator=random) < 0.5, -1.0, 1.0)
    theta = torch.zeros(len(x), 2, 3)
    theta[:, 0, 0], theta[:, 1, 1] = scale * turn, scale
    theta[:, :, 2] = 0.12 * (2 * torch.rand(len(x), 2, generator=random) - 1)
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    return 1 + F.grid_sample(x - 1, grid, align_corners=False)


def train(pictures: Tensor, shown: Tensor, seconds: float) -> Any:
    """The net, from pictures ``(2, N, 3, H, W)`` as they are and as an autoencoder gives them."""
    torch.manual_seed(0)
    net, use = build_net(Spec(name="feature_net", args={"width": WIDTH, "classes": shown.shape[1]}), 3, {})
    optimizer = torch.optim.AdamW(net.parameters(), lr=RATE, weight_decay=0.05)
    random, began, step = generator(0, "words"), time.perf_counter(), 0
    while (progress := (time.perf_counter() - began) / seconds) < 1:
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1.0, (step + 1) / 100) * 0.5 * (1 + math.cos(math.pi * progress))
        index = torch.randint(len(shown), (BATCH,), generator=random)
        which = torch.randint(2, (BATCH,), generator=random)
        loss = F.cross_entropy(net(moved(pictures[which, index], random)), shown[index])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        step += 1
        if step % 200 == 0:
            print(f"step {step}, {progress:.0%}: loss {loss.item():.3f}", flush=True)
    return net.eval(), use


@torch.inference_mode()
def main() -> None:
    """Train, measure and save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("pipeline")
    parser.add_argument("out", type=Path)
    parser.add_argument("--seconds", type=float, default=900)
    args = parser.parse_args()
    source: Any = Captioned(str(args.images))
    captions, vae = list(source.captions), kdgen.load(args.pipeline).net.eval()
    plain = torch.cat(list(source.whole_pictures(SIDE, channels=3)))
    decoded = vae.pictures(vae.to_latents(plain))
    words, learnt, aside = parted(captions)
    shown = targets([captions[number] for number in learnt], words)
    with torch.inference_mode(False), torch.enable_grad():
        net, use = train(torch.stack([plain, decoded])[:, learnt].clone(), shown, args.seconds)
    asked = [captions[number] for number in aside]
    figures = {name: r_precision(net(x[aside]), words, asked) for name, x in (("plain", plain), ("decoded", decoded))}
    print(json.dumps({"words": len(words), "pictures": len(learnt), "aside": len(aside), "r_precision": figures}))
    task = {"name": "classify", "num_classes": len(words), "size": SIDE, "channels": 3, "words": words}
    Model(net, name=args.out.name, channels=3, task=task, use=use).save(args.out, dtype=torch.float16)


if __name__ == "__main__":
    main()
