"""What a damage is, and several in a row."""

from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from pydantic import Field, ValidationError
from torch import Tensor

from kdgen.registry import Spec, build
from kdgen.types import UserError, text

Damaged = tuple[Tensor, Mapping[str, Tensor]]
"""Damaged images ``(B, C, H', W')``, and the conditions ``(B, ...)`` by which nets are told of it."""

Amount = Annotated[
    float | Annotated[Sequence[float], Field(min_length=2, max_length=2)],
    Field(description="a number, or [low, high] of such"),
]
"""How strong a damage is: as given, or drawn for each image."""


class Damage:
    """One way in which images are damaged.

    Attributes:
        scale: how many times less high and wide images become.
        damages: those that it consists of.
        graded: whether there is more and less of it.
        selects: whether all that it does is to leave some channels out.
        keeps: whether it leaves a channel that says what was read right: by 1 what was, and still is as it was.
        reads: whether it tells what such a channel says, which has to be right before.
    """

    scale: int = 1
    damages: Sequence["Damage"] = ()
    graded: bool = True
    selects: bool = False
    keeps: bool = False
    reads: bool = False

    def __call__(self, images: Tensor, random: torch.Generator, share: float | None = None) -> Damaged:
        """Damage images.

        Args:
            images: ``(B, C, H, W)`` in [-1, 1] before any noise; left as they are.
            random: a CPU generator.
            share: where within its ranges the damage lies, in [0, 1]; drawn for each image if None.
        """
        raise NotImplementedError

    def num_channels(self, given: int) -> int:
        """How many channels images of so many have then."""
        return given

    def nothing(self, images: Tensor) -> Mapping[str, Tensor]:
        """The conditions ``(B, ...)`` by which nets are told that images were left as they are."""
        return {name: value for damage in self.damages for name, value in damage.nothing(images).items()}

    @property
    def tells(self) -> frozenset[str]:
        """The names of the conditions by which nets are told of it."""
        known = frozenset(self.nothing(torch.zeros(1, 1, 1, 1)))
        return known.union(*(damage.tells for damage in self.damages))


class InTurn(Damage):
    """Damages one after another.

    Args:
        specs: their names and arguments, in this order.

    Raises:
        UserError: for a channel that is read after it was changed, and where two of them tell nets the same condition,
            at the first call.
    """

    def __init__(self, specs: Sequence[Spec]) -> None:
        self.specs = tuple(specs)
        self.damages = tuple(build("damage", spec) for spec in specs)
        self.graded = any(damage.graded for damage in self.damages)
        self.reads = any(damage.reads for damage in self.damages)
        self.keeps = all(damage.keeps for damage in self.damages)
        self.scale, changed = 1, ""
        for spec, damage in zip(specs, self.damages, strict=True):
            self.scale *= damage.scale
            if damage.reads and changed:
                raise UserError(text("mask_changed", "channels: {damage} changes the channel that says what was read, "
                                     "and its mask would say something else: put channels before {damage}",
                                     damage=changed))  # fmt: skip
            changed = changed or ("" if damage.keeps else spec.name)

    def __call__(self, images: Tensor, random: torch.Generator, share: float | None = None) -> Damaged:
        """See the base."""
        cond: dict[str, Tensor] = {}
        for damage in self.damages:
            images, told = damage(images, random, share)
            if twice := cond.keys() & told.keys():
                raise UserError(text("told_twice", "two damages tell nets their {name}: leave one of them out",
                                     name=min(twice)))  # fmt: skip
            cond = {**told_smaller(cond, damage.scale), **told}
        return images, cond

    def num_channels(self, given: int) -> int:
        """See the base."""
        return reduce(lambda count, damage: damage.num_channels(count), self.damages, given)


ADDED: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "sigma": torch.hypot, "stops": torch.add, "mask": torch.maximum,
}  # fmt: skip
"""What nets are told of a damage after another that tells the same: of noise the variances add."""


def told_smaller(cond: Mapping[str, Tensor], scale: int) -> dict[str, Tensor]:
    """The conditions of images that became so many times smaller: where a part was missing, it is missing."""
    return {name: F.max_pool2d(value, scale) if name == "mask" and scale > 1 else value for name, value in cond.items()}


def told_after(cond: Mapping[str, Tensor], told: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The conditions of images that were damaged, and of which the damage that came after tells something too."""
    added = {name: ADDED[name](cond[name], told[name]) for name in ADDED.keys() & cond.keys() & told.keys()}
    return {**cond, **told, **added}


def amounts(given: Amount, count: int, random: torch.Generator, share: float | None) -> Tensor:
    """How strong a damage is for each image, ``(count,)``: at a share of its range, or drawn from it."""
    low, high = given if isinstance(given, Sequence) else (given, given)
    return low + (high - low) * (torch.rand(count, generator=random) if share is None else torch.full((count,), share))


def check_amount(owner: str, name: str, given: Amount, low: float, high: float) -> None:
    """Refuse an amount out of bounds, or a range that falls. Raises UserError."""
    ends = tuple(given) if isinstance(given, Sequence) else (given, given)
    if not low <= ends[0] <= ends[1] <= high:
        raise UserError(text("no_amount", "damage {owner}: {name} is a number from {low:g} to {high:g}, or [low, high] "
                             "of such, not {given!r}", owner=owner, name=name, low=low, high=high,
                             given=list(given) if isinstance(given, Sequence) else given))  # fmt: skip


def check_same_channels(owner: str, damage: Damage, channels: int) -> None:
    """Refuse a damage that is for views alone: it reads a channel, or changes their number. Raises UserError."""
    if damage.reads:
        raise UserError(text("mask_of_views", "{owner}: to tell what a channel says was read is for views alone: leave "
                             "mask of channels out", owner=owner))  # fmt: skip
    if (count := damage.num_channels(channels)) != channels:
        raise UserError(text("views_alone", "{owner}: these damages make {count} channels of {channels}, which is "
                             "for views alone: leave exposures and channels out", owner=owner, count=count,
                             channels=channels))  # fmt: skip


def make_damages(descriptions: Sequence[Any]) -> InTurn:
    """Damages in turn from their descriptions ``{"name": ..., "args": {...}}``.

    Raises:
        UserError: for a malformed description, an unknown name, or arguments that do not fit.
    """
    specs = []
    for each in descriptions:
        try:
            specs.append(Spec(name=each) if isinstance(each, str) else Spec.model_validate(each))
        except ValidationError:
            raise UserError(text("no_damage", 'a damage is a name or {{"name": ..., "args": {{...}}}}, not {given!r}',
                                 given=each)) from None  # fmt: skip
    return InTurn(specs)
