"""Some of the channels alone."""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from kdgen.data.damages.damage import Damage, Damaged
from kdgen.registry import register
from kdgen.types import UserError, text
from kdgen.types.arguments import CountOrZero

Positions = Annotated[list[CountOrZero], Field(min_length=1, description="a list of positions from 0 on")]
READ = 1 - 1e-4
"""What a channel that says what was read is at least where all of it was, in numbers that were resampled."""


@register("damage")
class Channels(Damage):
    """Some of the channels of a stack, such as ``aligned`` gives: the photograph without its map, or the map alone.

    Args:
        keep: positions of the channels, from 0 on, in the order in which they are seen; the first three are the
            photograph's.
        mask: position of the channel that says what was read, by 1, and what is missing, by -1; ``cond["mask"]``,
            ``(B, 1, H, W)``, is then 1 where all or a part of a reading is missing and 0 elsewhere. If not given,
            nothing is told.
    """

    graded, keeps = False, True

    def __init__(self, keep: Positions = [0, 1, 2], mask: CountOrZero | None = None) -> None:  # noqa: B006
        self.keep, self.mask, self.selects, self.reads = keep, mask, mask is None, mask is not None

    def __call__(self, images: Tensor, random: torch.Generator, share: float | None = None) -> Damaged:
        """See the base. Raises UserError for a position that there is not."""
        last = max(self.keep if self.mask is None else [*self.keep, self.mask])
        if last >= images.shape[1]:
            raise UserError(text("no_channel", "channels: there is no channel {last}, the images have {count}, from 0: "
                                 "name others, or set task.args.channels of the task within", last=last,
                                 count=images.shape[1]))  # fmt: skip
        told = {} if self.mask is None else {"mask": (images[:, self.mask, None] < READ).float()}
        return images[:, self.keep], told

    @property
    def tells(self) -> frozenset[str]:
        """See the base."""
        return frozenset({"mask"} if self.reads else ())

    def num_channels(self, given: int) -> int:
        """See the base."""
        return len(self.keep)
