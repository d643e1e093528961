"""Small worlds to learn in, a pair of nets and their batches each: what a term of a loss may ask for is in one of them.

A new method is tried in all of them. One that none takes needs a world of its own here.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F
from support import learner_of
from torch import Tensor, nn

from kdgen.models.nets.efficient_ad import efficient_ad
from kdgen.training.train_step import Learner
from kdgen.types import Batch, Task

COUNT, SIDE, LATENT, CLASSES = 4, 8, 6, 5


@dataclass(frozen=True, kw_only=True)
class World(Task):
    """A kind of net and what it is shown.

    Attributes:
        name: what it is called in a test's name.
        net: a net of a width, with weights drawn from the global generator.
        batch: its batch of a number.
        error: the task's own loss.
    """

    name: str
    net: Callable[[int], nn.Module]
    batch: Callable[[int], Batch]
    error: Callable[[Tensor, Batch], Tensor | None] = field(default=lambda out, batch: None)

    def loss(self, out: Tensor, batch: Batch) -> Tensor | None:
        return self.error(out, batch)

    def student(self, seed: int = 0) -> nn.Module:
        torch.manual_seed(seed)
        return self.net(4)

    def teacher(self) -> nn.Module:
        torch.manual_seed(100)
        return self.net(6).eval()

    def learner(self, kind: str, use: dict[str, Any], *, seed: int = 0, **more: Any) -> Learner:
        """Two nets in the real training step of a stage with one method or objective."""
        stage = {f"{kind}s": [use], "optimizer": "adamw", "lr": 1e-3, "warmup": 0, "decay": "none", **more}
        taught = kind == "method"
        return learner_of(stage, self.student(seed), self.teacher() if taught else None, self.batch(0), self)


def _mean_square(out: Tensor, batch: Batch) -> Tensor:
    assert batch.y is not None
    return (out - batch.y).square().flatten(1).mean(1)


def _images(number: int, channels: int = 3) -> tuple[Tensor, Tensor, torch.Generator]:
    random = torch.Generator().manual_seed(number)
    y, real = torch.rand(2, COUNT, channels, SIDE, SIDE, generator=random) * 2 - 1
    return y, real, random


class Restorer(nn.Module):
    """Layers in a row, at two sizes; reads the level of the noise."""

    conditions = frozenset({"sigma"})

    def __init__(self, width: int) -> None:
        super().__init__()
        self.head = nn.Conv2d(3, width, 3, 2, 1)
        self.body = nn.Sequential(nn.Conv2d(width, width, 3, 1, 1), nn.SiLU(), nn.Conv2d(width, width, 3, 1, 1))
        self.tail = nn.ConvTranspose2d(width, 3, 4, 2, 1)

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        level = sigma.view(-1, 1, 1, 1)
        size = (level**2 + 0.25).sqrt()
        out: Tensor = 0.25 / size**2 * x + level * 0.5 / size * self.tail(self.body(self.head(x / size) + level.log()))
        return out


def _noisy(number: int) -> Batch:
    y, real, random = _images(number)
    sigma = torch.rand(COUNT, generator=random) + 0.1
    x = y + sigma.view(-1, 1, 1, 1) * torch.randn(y.shape, generator=random)
    return Batch(x=x, y=y, real=real, cond={"sigma": sigma})


class Denoiser(nn.Module):
    """The blocks of a U-Net by diffusers' names; reads the level, the class, and where a step ends."""

    conditions = frozenset({"sigma", "label", "until"})

    def __init__(self, width: int) -> None:
        super().__init__()
        self.classes = nn.Embedding(CLASSES + 1, width)
        self.conv_in = nn.Conv2d(3, width, 3, 1, 1)
        self.down_blocks = nn.ModuleList([nn.Sequential(nn.Conv2d(width, width, 3, 2, 1), nn.SiLU())])
        self.mid_block = nn.Conv2d(width, width, 3, 1, 1)
        self.up_blocks = nn.ModuleList([nn.ConvTranspose2d(width, 3, 4, 2, 1)])

    def forward(self, x: Tensor, sigma: Tensor, label: Tensor, until: Tensor | None = None) -> Tensor:
        level = sigma.view(-1, 1, 1, 1)
        size = (level**2 + 0.25).sqrt()
        end = torch.zeros_like(level) if until is None else until.view(-1, 1, 1, 1) / (1 + level)
        hidden = self.conv_in(x / size) + level.log() / 4 + end + self.classes(label)[..., None, None]
        out: Tensor = self.up_blocks[0](torch.tanh(self.mid_block(self.down_blocks[0](hidden))))
        return 0.25 / size**2 * x + level * 0.5 / size * out


def _labelled_noisy(number: int) -> Batch:
    batch = _noisy(number)
    weight = 1 + batch.cond["sigma"]
    return replace(batch, weight=weight, cond={**batch.cond, "label": (torch.arange(COUNT) + number) % CLASSES})


class Autoencoder(nn.Module):
    """Images to moments, their means to images."""

    conditions: frozenset[str] = frozenset()

    def __init__(self, width: int) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(1, width, 3, 2, 1), nn.SiLU())
        self.moments = nn.Conv2d(width, 4, 3, 1, 1)
        self.decoder = nn.ConvTranspose2d(2, 1, 4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.decoder(self.moments(self.encoder(x))[:, :2])
        return out


def _grey(number: int) -> Batch:
    y, real, _ = _images(number, 1)
    return Batch(x=y, y=y, real=real)


class Encoder(nn.Module):
    """Grey images to moments."""

    conditions: frozenset[str] = frozenset()

    def __init__(self, width: int) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(1, width, 3, 2, 1), nn.SiLU())
        self.moments = nn.Conv2d(width, 4, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.moments(self.encoder(x))
        return out


class Generator(nn.Module):
    """Latents to grey images."""

    conditions: frozenset[str] = frozenset()

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(LATENT, 4 * width), nn.SiLU(), nn.Linear(4 * width, SIDE**2), nn.Tanh())

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layers(x)
        return out.view(-1, 1, SIDE, SIDE)


def _latents(number: int) -> Batch:
    _, real, random = _images(number, 1)
    return Batch(x=torch.randn(COUNT, LATENT, generator=random), real=real)


class Classifier(nn.Module):
    """Images to logits."""

    conditions: frozenset[str] = frozenset()

    def __init__(self, width: int) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, width, 3, 2, 1), nn.ReLU(), nn.Conv2d(width, width, 3, 2, 1))
        self.head = nn.Linear(width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.features(x).mean((2, 3)))
        return out


def _classes(number: int) -> Batch:
    x, _, _ = _images(number)
    return Batch(x=x, y=(torch.arange(COUNT) + number) % CLASSES)


def _large(number: int) -> Batch:
    """Images that may be halved five times, and normalised then."""
    return Batch(x=F.interpolate(_grey(number).x, scale_factor=8))


def _inspecting(width: int) -> nn.Module:
    """A student of features that holds an autoencoder of them, as a teacher one that is as large."""
    return efficient_ad(channels=1, features=6, width=width, depth=0, stride=4, latents=3)


def _cross_entropy(out: Tensor, batch: Batch) -> Tensor:
    assert batch.y is not None
    return F.cross_entropy(out, batch.y, reduction="none")


WORLDS = (
    World(name="restoring", net=Restorer, batch=_noisy, error=_mean_square),
    World(name="diffusing", net=Denoiser, batch=_labelled_noisy, error=_mean_square),
    World(name="autoencoding", net=Autoencoder, batch=_grey, error=_mean_square),
    World(name="encoding", net=Encoder, batch=_grey),
    World(name="inspecting", net=_inspecting, batch=_large),
    World(name="generating", net=Generator, batch=_latents),
    World(name="classifying", net=Classifier, batch=_classes, error=_cross_entropy),
)
