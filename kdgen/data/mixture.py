"""Patches from several sources at once."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from kdgen.data.labelled import Counted, Labelled
from kdgen.data.source import Images, make_images
from kdgen.registry import register
from kdgen.types import UserError, text
from kdgen.utils.seed import derive, generator


@register("images")
class Mixture:
    """Patches drawn from several sources, each with its own weight.

    Args:
        sources: descriptions ``{"name": ..., "args": {...}}`` of the sources, or sources themselves.
        weights: how often a patch comes from each, in any unit; equally often where none are given.

    Raises:
        UserError: for no sources, and for weights that are not one positive number for each.
    """

    def __init__(self, sources: Sequence[Any], weights: Sequence[float] | None = None) -> None:
        weights = [1.0] * len(sources) if weights is None else list(weights)
        if not sources or len(weights) != len(sources) or not all(0 < w < float("inf") for w in weights):
            raise UserError(text("mixture_weights", "a mixture takes one positive weight for each source, not "
                                 "{weights} for {count}", weights=str(weights), count=len(sources)))  # fmt: skip
        self.sources: list[Images] = [make_images(source) for source in sources]
        self.weights = torch.tensor(weights, dtype=torch.float64)

    def fingerprint(self) -> str:
        """The weights, and what the sources say."""
        return repr((self.weights.tolist(), [source.fingerprint() for source in self.sources]))

    @property
    def num_classes(self) -> int:
        """The classes of all sources side by side; 0 where a source has none."""
        each = [source.num_classes if isinstance(source, Labelled) else 0 for source in self.sources]
        return sum(each) if all(each) else 0

    @property
    def class_shares(self) -> Tensor:
        """How often each class is drawn, ``(num_classes,)``.

        Raises:
            UserError: where a source does not know that.
        """
        parts = []
        for source, weight in zip(self.sources, self.weights / self.weights.sum(), strict=True):
            if not isinstance(source, Counted):
                raise UserError(text("mixture_uncounted", "{type} in a mixture does not say how often it draws each "
                                     "class: set balance to false", type=type(source).__name__))  # fmt: skip
            parts.append(weight * source.class_shares)
        return torch.cat(parts)

    @property
    def num_labelled(self) -> int | None:
        """None: sources are drawn at random."""
        return None

    def patches(self, count: int, size: int, *, channels: int, seed: int) -> Tensor:
        """Patches of all sources in random order, ``(count, channels, size, size)`` float32."""
        origin = self._origin(count, seed)
        out = torch.empty(count, channels, size, size)
        for i, source in enumerate(self.sources):
            rows = (origin == i).nonzero()[:, 0]
            if len(rows):
                out[rows] = source.patches(len(rows), size, channels=channels, seed=derive(seed, "mixture", i))
        return out

    def labelled(self, count: int, size: int, *, channels: int, seed: int) -> tuple[Tensor, Tensor]:
        """Whole images of all sources in random order, with classes that go on from one source to the next.

        Returns:
            ``(count, channels, size, size)`` float32 in [-1, 1], and ``(count,)`` int64.

        Raises:
            UserError: where a source has no classes.
        """
        if not self.num_classes:
            raise UserError(text("mixture_classes", "a mixture has classes where each of its sources has them: give "
                                 "every source labels"))  # fmt: skip
        origin = self._origin(count, seed)
        out, labels = torch.empty(count, channels, size, size), torch.empty(count, dtype=torch.int64)
        offset = 0
        for i, source in enumerate(self.sources):
            rows = (origin == i).nonzero()[:, 0]
            assert isinstance(source, Labelled)
            if len(rows):
                out[rows], own = source.labelled(len(rows), size, channels=channels, seed=derive(seed, "mixture", i))
                labels[rows] = own + offset
            offset += source.num_classes
        return out, labels

    def _origin(self, count: int, seed: int) -> Tensor:
        return torch.multinomial(self.weights, count, replacement=True, generator=generator(seed, "mixture"))
