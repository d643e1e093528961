"""A tiny student for data whose diffusion is known exactly, and the shortest training there is."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace

import torch
from documented import own
from torch import Tensor, nn

import kdgen.training.registered  # noqa: F401
from kdgen import registry
from kdgen.diffusion import GaussianMixture, karras_sigmas, sample
from kdgen.diffusion.few_steps import trailing_sigmas
from kdgen.registry import Spec, build
from kdgen.types import Batch, DistillationInputs, Method, UserError

PIXEL = GaussianMixture(torch.tensor([-0.5, 0.6]).view(2, 1, 1, 1), std=[0.25, 0.3], weights=[0.4, 0.6])
"""Images of one pixel: their ODE keeps each at its place in the distribution."""

SQUARES = GaussianMixture(
    torch.tensor([[[[-0.6, 0.4], [0.2, -0.5]]], [[[0.6, 0.5], [-0.3, 0.4]]]]), std=[0.1, 0.2], weights=[0.3, 0.7]
)
"""Images of 2x2 pixels."""


class Student(nn.Module):
    """Fully connected, told ``sigma`` and perhaps ``until``, preconditioned as by Karras et al. 2022, table 1."""

    def __init__(self, pixels: int = 1, width: int = 64, dropout: float = 0.0, until: bool = False) -> None:
        super().__init__()
        self.until, self.pixels = until, pixels
        self.conditions = frozenset({"sigma", "until"} if until else {"sigma"})
        self.layers = nn.Sequential(
            nn.Linear(pixels + 2, width), nn.SiLU(), nn.Dropout(dropout), nn.Linear(width, width), nn.SiLU(),
            nn.Linear(width, width), nn.SiLU(), nn.Linear(width, pixels),
        )  # fmt: skip

    def forward(self, x: Tensor, *, sigma: Tensor, until: Tensor | None = None) -> Tensor:
        level, data = sigma.view(-1, 1), 0.6
        flat = x.flatten(1)
        ends = torch.zeros_like(level) if until is None else until.view(-1, 1)
        size = (level**2 + data**2).sqrt()
        told = torch.cat([flat / size, level.log() / 4, ends / (1 + ends)], 1)
        out = data**2 / size**2 * flat + level * data / size * self.layers(told)
        return out.view_as(x)


SCORES = [name for name in own("method") if registry.accepts("method", name, "critic")]

Draw = Callable[[int], Batch]


def batches(teacher: GaussianMixture, *, mean: float = -0.5, std: float = 1.8, first: float = 0.2) -> Draw:
    """Noisy data of levels as the task few_steps draws them."""
    highest = float(trailing_sigmas(1)[0])

    def draw(seed: int, size: int = 256) -> Batch:
        random = torch.Generator().manual_seed(seed)
        y, _ = teacher.draw(size, random)
        sigma = (mean + std * torch.randn(size, generator=random)).exp().clamp(0.005, highest)
        sigma[: int(first * size)] = highest
        x = y + sigma.view(-1, 1, 1, 1) * torch.randn(y.shape, generator=random)
        return Batch(x=x, y=y, cond={"sigma": sigma})

    return draw


def coupled(teacher: GaussianMixture, count: int = 2000) -> Draw:
    """The same with the noise that the teacher's ODE makes the images of."""
    highest = float(trailing_sigmas(1)[0])
    random = torch.Generator().manual_seed(0)
    noise = torch.randn((count, *teacher.means.shape[1:]), generator=random)
    images = sample(teacher, noise, sigmas=karras_sigmas(24, sigma_max=highest))

    def draw(seed: int, size: int = 256) -> Batch:
        random = torch.Generator().manual_seed(seed)
        index = torch.randint(count, (size,), generator=random)
        sigma = (1.5 * torch.randn(size, generator=random)).exp()
        sigma[:50] = highest
        x = images[index] + sigma.view(-1, 1, 1, 1) * noise[index]
        return Batch(x=x, y=images[index], cond={"sigma": sigma})

    return draw


def look(student: nn.Module, teacher: nn.Module, batch: Batch, progress: float = 0.0) -> DistillationInputs:
    """A step as a method sees it."""
    with torch.no_grad():
        answer = teacher(batch.x, **batch.cond)
    return DistillationInputs(batch=batch, student_output=student(batch.x, **batch.cond), teacher_output=answer, student_features={}, teacher_features={},
                student_net=student, teacher_net=teacher, student_ema=student, progress=progress)  # fmt: skip


def teach(
    method: Method,
    student: nn.Module,
    teacher: nn.Module,
    draw: Draw,
    *,
    steps: int,
    lr: float = 6e-3,
    discriminator_lr: float = 3e-3,
    betas: tuple[float, float] = (0.9, 0.99),
) -> nn.Module:
    """Train with a linearly falling rate; the average of the student over its later steps."""
    torch.manual_seed(0)
    method.attach(student, teacher, draw(0, 4))
    optimizer = torch.optim.Adam(student.parameters(), lr, betas=betas)
    fakes = list(method.critics())
    critic = torch.optim.Adam(fakes, discriminator_lr, betas=(0.0, 0.99)) if fakes else None
    ema = deepcopy(student)
    for step in range(steps):
        torch.manual_seed(step)
        for group in optimizer.param_groups:
            group["lr"] = lr * (1 - step / steps)
        inputs = look(student, teacher, draw(step + 1), step / steps)
        method.loss(inputs).mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        if critic is not None:
            loss = method.discriminator_loss(inputs)
            assert loss is not None
            critic.zero_grad()
            loss.mean().backward()
            critic.step()
            optimizer.zero_grad()
        with torch.no_grad():
            for mine, theirs in zip(ema.parameters(), student.parameters(), strict=True):
                mine.lerp_(theirs, max(0.02, 1 / (step + 1)))
    return ema.eval()


def use(name, **args):
    return Spec(name=name, args={"critic": "student", **args} if name in SCORES else args)


def _takes(name: str, *, levels: bool) -> bool:
    """Whether a method takes noisy images, with their levels or without."""
    batch, pair = batches(PIXEL)(0, 4), (Student(), PIXEL) if levels else (nn.Conv2d(1, 1, 1), nn.Conv2d(1, 1, 1))
    try:
        build("method", use(name)).attach(*pair, batch if levels else replace(batch, cond={}))
    except UserError:
        return False
    return True


def noise(*shape, seed=99):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def student(**args):
    torch.manual_seed(0)
    return Student(**args)


NAMES = [name for name in own("method") if _takes(name, levels=True) and not _takes(name, levels=False)]
"""Methods of diffusion models: they need the level of the noise."""

# -- the known answers -----------------------------------------------------------------------------------------------
