"""Images, or latents of some, drawn by a net from seeded noise: the same however many, for models and for tasks."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from kdgen.diffusion import karras_sigmas, sample
from kdgen.diffusion.few_steps import FewSampler, Table, sample_few, trailing_sigmas
from kdgen.models.abilities import Sampled, Stepping
from kdgen.models.parts import IMAGES, Drawn, at_once, in_parts
from kdgen.types import Net
from kdgen.utils.conditions import call
from kdgen.utils.devices import device_of, evaluating
from kdgen.utils.seed import generator

CALL = IMAGES
"""Images whose noise is drawn together, and the most that a net draws at once."""

NUM_STEPS = 18
"""Steps of the sampler of a diffusion net, Karras et al. 2022, table 1."""

Make = Callable[[Tensor, Mapping[str, Tensor], int], Tensor]
"""Latents or noise, the conditions that go with them, and the number of the first image, to images."""


def draw_images(
    net: Net,
    latent: Sequence[int],
    num_images: int,
    seed: int,
    num_classes: int = 0,
    labels: Sequence[int] | None = None,
    progress: Drawn | None = None,
) -> Tensor:
    """What a generator gives for standard normal latents, ``(num_images, C, H, W)`` on the CPU, nothing clipped.

    The first images are the same however many are drawn. Of a net with classes, they are of each class in turn, or of
    those of ``labels``. As many are drawn at once as fit, at most ``CALL``; ``progress`` is told how many are.
    """
    turn = in_turn(num_classes, labels)
    return _drawn(net, lambda z, cond, _: call(net, z, cond), latent, CALL, num_images, seed, turn, progress)


def denoise_noise(
    net: Net,
    shape: Sequence[int],
    num_images: int,
    seed: int,
    num_steps: int,
    told: Mapping[str, Tensor] | None = None,
    progress: Drawn | None = None,
) -> Tensor:
    """Images of a diffusion net from noise by Heun's method on a Karras schedule, like ``draw_images``.

    Image ``i`` is told row ``i`` of ``told``, by name, and behind the last of ``n`` rows they come again.
    """

    def make(noise: Tensor, cond: Mapping[str, Tensor], first: int) -> Tensor:
        return sample(net, noise, sigmas=karras_sigmas(num_steps), cond=cond)

    most = at_once(shape[-2] * shape[-1])
    return _drawn(net, make, shape, most, num_images, seed, told or {}, progress)


def draw_few(
    net: Net,
    shape: Sequence[int],
    num_images: int,
    seed: int,
    sigmas: Tensor,
    sampler: FewSampler,
    told: Mapping[str, Tensor] | None = None,
    progress: Drawn | None = None,
) -> Tensor:
    """Images or latents of a diffusion net in a call for each level above 0, ``sample_few``, like ``denoise_noise``."""

    def make(noise: Tensor, cond: Mapping[str, Tensor], first: int) -> Tensor:
        random, place = generator(seed, "fresh", first // CALL), first % CALL

        def fresh(like: Tensor) -> Tensor:
            return torch.randn((CALL, *shape), generator=random)[place : place + len(like)].to(like)

        return sample_few(net, noise, sigmas=sigmas, sampler=sampler, cond=cond, fresh=fresh)

    most = at_once(shape[-2] * shape[-1])
    return _drawn(net, make, shape, most, num_images, seed, told or {}, progress)


def few_levels(net: Net, num_steps: int, table: Table) -> Tensor:
    """The noise levels at which a net draws in few steps, ``(num_steps + 1,)`` in float64, falling to 0.

    They are those that its own scheduler steps through, where its pipeline draws by itself; else ``trailing_sigmas`` of
    a table.

    Raises:
        UserError: for a scheduler that does not start from noise alone, or takes no so few or many steps.
    """
    return net.few_levels(num_steps) if isinstance(net, Stepping) else trailing_sigmas(num_steps, table)


def told_rows(told: Mapping[str, Tensor], index: Tensor) -> dict[str, Tensor]:
    """What images ``index`` ``(B,)`` are told: rows that come again behind the last, in float32 where they are half."""
    rows = {name: value[index % len(value)] for name, value in told.items()}
    return {name: value.float() if value.is_floating_point() else value for name, value in rows.items()}


@contextmanager
def counting(net: Net) -> Iterator[list[int]]:
    """While open, how many images each call is of, of a net or of the module within that its own way to draw calls.

    Those that guidance asks for a second time, told nothing, are among them.
    """
    counts = list[int]()

    def note(module: Any, args: Any, out: Any) -> None:
        counts.append(len(out if isinstance(out, Tensor) else out[0]))

    hook = (net.sampled_module() if isinstance(net, Sampled) else net).register_forward_hook(note)
    try:
        yield counts
    finally:
        hook.remove()


def starting_noise(shape: Sequence[int], num_images: int, seed: int) -> Tensor:
    """The latents or the noise of ``draw_images``, ``denoise_noise`` and ``draw_few``, ``(num_images, *shape)``."""
    return torch.cat(list(_starts(shape, num_images, seed)))


def _starts(shape: Sequence[int], num_images: int, seed: int) -> Iterator[Tensor]:
    for number in range(-(-num_images // CALL)):
        start = torch.randn((CALL, *shape), generator=generator(seed, "draw", number))
        yield start[: num_images - number * CALL]


def in_turn(num_classes: int, labels: Sequence[int] | None) -> Mapping[str, Tensor]:
    """The classes that are drawn in turn, as ``label``; nothing of a net without classes."""
    turn = range(num_classes) if labels is None or not num_classes else labels
    return {"label": torch.tensor(turn, dtype=torch.long)} if len(turn) else {}


def _drawn(
    net: Net,
    make: Make,
    shape: Sequence[int],
    most: int,
    num_images: int,
    seed: int,
    told: Mapping[str, Tensor],
    progress: Drawn | None,
) -> Tensor:
    where, parts = device_of(net), list[Tensor]()
    for number, start in enumerate(_starts(shape, num_images, seed)):
        before = number * CALL

        def draw(begin: int, end: int, before: int = before, start: Tensor = start) -> Tensor:
            index = torch.arange(before + begin, before + end)
            cond = {name: value.to(where) for name, value in told_rows(told, index).items()}
            return make(start[begin:end].to(where), cond, before + begin).float().cpu()

        def report(done: int, of: int, before: int = before) -> None:
            if progress is not None:
                progress(before + done, num_images)

        with evaluating(net):
            parts += in_parts(len(start), most, draw, report)
    return torch.cat(parts)
