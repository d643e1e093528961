"""Pairs of pictures in two folders: damaged ones, and by the same names clean ones."""

import re
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

import torch
from torch import Tensor

from kdgen.data.folder import Folder
from kdgen.data.pictures import Pictures, to_tensor, window
from kdgen.registry import register
from kdgen.types import UserError
from kdgen.utils.image_io import Picture
from kdgen.utils.references import FilePath
from kdgen.utils.seed import generator

SCALED = re.compile(r"x\d+$")
"""How the names of small pictures end where benchmarks of super-resolution keep them: ``babyx4`` beside ``baby``."""


@register("images")
class Pairs(Pictures):
    """Pairs of pictures, a damaged and a clean one of the same name: to train restorers on and measure them.

    Names are paths within the folders; those of the two may differ in what follows the last dot, and those of damaged
    ones may end in their scale (``babyx4``). Clean ones are of the same size, or all the same whole number of times as
    large. As a source of images alone it gives the damaged ones.

    Args:
        damaged: folder of the damaged pictures, nested folders included.
        clean: folder of the clean ones.
        max_gib: what fits in so many GiB is decoded at once and kept.

    Attributes:
        clean: the clean pictures in the same order.
        scale: how many times higher and wider these are.

    Raises:
        UserError: for a folder that is missing, and for pictures that have no partner, one of another size, or cannot
            be read.
    """

    def __init__(self, damaged: FilePath, clean: FilePath, max_gib: float = 1.0) -> None:
        super().__init__()
        self._damaged = _Half(damaged, max_gib / 2)
        self.clean = _Half(clean, max_gib / 2)
        inputs, truths = self._damaged.by_stem, self.clean.by_stem
        if not inputs.keys() & truths.keys():
            inputs = {SCALED.sub("", stem): index for stem, index in inputs.items()}
        for folder, partner, names, other in ((damaged, clean, inputs, truths), (clean, damaged, truths, inputs)):
            if alone := sorted(names.keys() - other.keys()):
                raise UserError(f"pairs: {len(alone)} of {len(names)} pictures in {folder} have none of their name in "
                                f"{partner}, the first is {alone[0]}: complete the pairs, or take it out")  # fmt: skip
        stems = sorted(inputs)
        self._damaged.order, self.clean.order = [inputs[stem] for stem in stems], [truths[stem] for stem in stems]
        self._names, self.scale = stems, 0
        for index, stem in enumerate(stems):
            (a, b), (c, d) = (half.picture(index).shape[1::-1] for half in (self._damaged, self.clean))
            self.scale = self.scale or max(c // a, 1)
            if (c // self.scale, d // self.scale) != (a, b):
                times = f", or {self.scale} times as much" if self.scale > 1 else ""
                raise UserError(
                    f"pairs: {stem} is {a}x{b} in {damaged} and {c}x{d} in {clean}: give both the same size{times}"
                )

    @property
    def names(self) -> Sequence[str]:
        """Paths within the folders, without what follows the last dot."""
        return self._names

    def picture(self, index: int) -> Picture:
        """The damaged picture at a position of ``names``."""
        return self._damaged.picture(index)

    def fingerprint(self) -> str:
        """A hash of the names, sizes and times of change of both folders."""
        return f"pairs-{self._damaged.folder.fingerprint()}-{self.clean.folder.fingerprint()}"

    def paired(self, count: int, size: int, *, channels: int, seed: int) -> tuple[Tensor, Tensor]:
        """Random crops at the same places, damaged and clean.

        Returns:
            ``(count, channels, size / scale, size / scale)`` and ``(count, channels, size, size)`` float32.
        """
        how = {"channels": channels, "seed": seed}
        if self.scale == 1:
            return self.patches(count, size, **how), self.clean.patches(count, size, **how)
        part, times = size // self.scale, self.scale
        places = torch.rand(count, 3, generator=generator(seed, "crops"), dtype=torch.float64).tolist()
        small, large = torch.empty(count, channels, part, part), torch.empty(count, channels, size, size)
        for i, (which, down, across) in enumerate(places):
            index = int(which * len(self._names))
            halves = self.picture(index), self.clean.picture(index)
            top, left = (int(at * max(length - part + 1, 1))
                         for at, length in zip((down, across), halves[0].shape, strict=False))  # fmt: skip
            for out, picture, by in ((small, halves[0], 1), (large, halves[1], times)):
                rows, columns = (window(length, by * part, by * start)
                                 for length, start in zip(picture.shape, (top, left), strict=False))  # fmt: skip
                out[i] = to_tensor(picture[rows[:, None], columns], channels)[0]
        return small, large

    def whole_pairs(self, channels: int) -> Iterator[tuple[str, Tensor, Tensor]]:
        """All pairs in order: name, damaged and clean, each ``(1, channels, H, W)`` float32.

        Of clean ones that are larger, rows and columns beyond a multiple of the scale are left out.
        """
        for index, name in enumerate(self._names):
            x, y = to_tensor(self.picture(index), channels), to_tensor(self.clean.picture(index), channels)
            yield name, x, y[..., : self.scale * x.shape[-2], : self.scale * x.shape[-1]]


class _Half(Pictures):
    """One folder of the two, its pictures in an order that is set from outside."""

    def __init__(self, path: str, max_gib: float) -> None:
        super().__init__()
        self.folder, self.path = Folder(path, max_gib=max_gib), path
        self._check()
        self.by_stem: dict[str, int] = {}
        for index, name in enumerate(self.folder.names):
            stem = str(PurePosixPath(name).with_suffix(""))
            if stem in self.by_stem:
                raise UserError(f"pairs: {path} holds two pictures called {stem}: keep one of them")
            self.by_stem[stem] = index
        self.order = list(range(len(self.folder.names)))

    @property
    def names(self) -> Sequence[str]:
        """Paths within the folder."""
        return [self.folder.names[index] for index in self.order]

    def picture(self, index: int) -> Picture:
        """The picture at a position of ``names``."""
        picture = self.folder.picture(self.order[index])
        self._check()
        return picture

    def _check(self) -> None:
        if skipped := next(iter(self.folder.skipped), None):
            raise UserError(f"pairs: {skipped} in {self.path} cannot be read: fetch it again, or take the pair out")


__all__ = ["Pairs"]
