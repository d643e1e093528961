"""Images drawn by a net from seeded latents or noise: the same however many are drawn, for models and for tasks."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import count

import torch
from torch import Tensor

from kdgen.data.seed import generator
from kdgen.devices import device_of, evaluating
from kdgen.diffusion import karras, sample
from kdgen.diffusion.few_steps import FewSampler, sample_few
from kdgen.types import Net

CALL = 100
"""Images drawn in one call of a net."""

NUM_STEPS = 18
"""Steps of the sampler of a diffusion net, Karras et al. 2022, table 1."""

Make = Callable[[Tensor, Mapping[str, Tensor]], Tensor]
"""Latents or noise, and the conditions that go with them, to images."""


def draw_images(
    net: Net,
    latent: Sequence[int],
    num_images: int,
    seed: int,
    num_classes: int = 0,
    labels: Sequence[int] | None = None,
) -> Tensor:
    """Images of a generator from standard normal latents, ``(num_images, C, H, W)`` in [-1, 1] on the CPU.

    The first images are the same however many are drawn. Of a net with classes, they are of each class in turn, or of
    those of ``labels``.
    """
    return _drawn(net, lambda z, cond: net(z, **cond), latent, num_images, seed, num_classes, labels)


def denoise_noise(
    net: Net,
    shape: Sequence[int],
    num_images: int,
    seed: int,
    num_steps: int,
    num_classes: int = 0,
    labels: Sequence[int] | None = None,
) -> Tensor:
    """Images of a diffusion net from noise by Heun's method on a Karras schedule, like ``draw_images``.

    A net of ``num_classes`` is told them in turn, as ``label`` ``(B,)``: image ``i`` is of class ``i % num_classes``.
    """

    def make(noise: Tensor, cond: Mapping[str, Tensor]) -> Tensor:
        return sample(net, noise, sigmas=karras(num_steps), cond=cond)

    return _drawn(net, make, shape, num_images, seed, num_classes, labels)


def draw_few(
    net: Net,
    shape: Sequence[int],
    num_images: int,
    seed: int,
    sigmas: Tensor,
    sampler: FewSampler,
    num_classes: int = 0,
    labels: Sequence[int] | None = None,
) -> Tensor:
    """Images of a diffusion net in a call for each level above 0 (``sample_few``), like ``denoise_noise``."""
    numbers = count()

    def make(noise: Tensor, cond: Mapping[str, Tensor]) -> Tensor:
        random = generator(seed, "fresh", next(numbers))

        def fresh(like: Tensor) -> Tensor:
            return torch.randn((CALL, *shape), generator=random)[: len(like)].to(like)

        return sample_few(net, noise, sigmas=sigmas, sampler=sampler, cond=cond, fresh=fresh)

    return _drawn(net, make, shape, num_images, seed, num_classes, labels)


def starting_noise(shape: Sequence[int], num_images: int, seed: int) -> Tensor:
    """The latents or the noise of ``draw_images``, ``denoise_noise`` and ``draw_few``, ``(num_images, *shape)``."""
    return torch.cat(list(_starts(shape, num_images, seed)))


def _starts(shape: Sequence[int], num_images: int, seed: int) -> Iterator[Tensor]:
    for number in range(-(-num_images // CALL)):
        start = torch.randn((CALL, *shape), generator=generator(seed, "draw", number))
        yield start[: num_images - number * CALL]


def _drawn(
    net: Net,
    make: Make,
    shape: Sequence[int],
    num_images: int,
    seed: int,
    num_classes: int,
    labels: Sequence[int] | None,
) -> Tensor:
    where, parts = device_of(net), []
    turn = torch.tensor(range(num_classes) if labels is None else labels, device=where)
    with evaluating(net):
        for number, start in enumerate(_starts(shape, num_images, seed)):
            label = torch.arange(number * CALL, number * CALL + len(start), device=where)
            cond = {"label": turn[label % len(turn)]} if num_classes else {}
            parts.append(make(start.to(where), cond).float().cpu())
    return torch.cat(parts).clamp(-1, 1)
