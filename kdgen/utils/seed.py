"""Seeds made from seeds, so that every random thing depends on what it is and never on what was drawn before it."""

import hashlib

import torch
from torch import Tensor


def derive(seed: int, *parts: int | str | float) -> int:
    """A seed in [0, 2**63) that depends on a seed and on the names and numbers of what it is for.

    ``derive(0, "batch", 7)`` is always the same, and unrelated to ``derive(0, "batch", 8)`` and to
    ``derive(1, "batch", 7)``.
    """
    text = repr((int(seed), *parts)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") >> 1


def generator(seed: int, *parts: int | str | float) -> torch.Generator:
    """A fresh CPU generator seeded with ``derive(seed, *parts)``."""
    return torch.Generator().manual_seed(derive(seed, *parts))


def shuffled(total: int, count: int, random: torch.Generator) -> Tensor:
    """Positions in ``range(total)`` in random order, ``(count,)`` int64, each once before any comes twice."""
    rounds = [torch.randperm(total, generator=random) for _ in range(-(-count // total))]
    return torch.cat(rounds)[:count] if rounds else torch.empty(0, dtype=torch.int64)
