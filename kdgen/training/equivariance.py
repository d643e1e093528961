"""Whether what a teacher says turns with its input, as a task's truth does: measured, for a trained net's does not."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from kdgen.data.augment import Variant, drawn, strides, symmetries
from kdgen.training.tolerance import Bound, Judged, judge
from kdgen.types import Batch, Text, UserError, text
from kdgen.utils.seed import generator

BOUND = Bound(own=0.1, spread=0.0025)
"""The most that a turned answer may differ from the answer to what was turned. Denoisers are at 3 to 6 % of their own
squared error, and what is turned eight ways is then, on average, what a self-ensemble says; the bundled autoencoder is
at 34 %."""

HOPELESS = 3
"""How many times its bound the error of one way of turning may be for the others to be tried too."""

TURNED, CROPPED = text("turned", "flipped and rotated"), text("cropped", "cropped")
NUM_CROPS = 4
"""How many crops are tried."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Equivariance:
    """What may be done to a teacher's answer along with its input; what may not is done to the input before.

    Attributes:
        turns: whether it may be flipped and rotated.
        crops: whether a part of it may be taken.
        notes: sentences on how that was found, for the report.
    """

    turns: bool = True
    crops: bool = True
    notes: tuple[Text, ...] = ()


def of_features(*, turn: bool, crop: bool) -> Equivariance:
    """What holds where features are cached: a net's channels have directions of their own, and its borders are felt.

    Args:
        turn: whether inputs are to be flipped and rotated.
        crop: whether parts are to be taken of them.
    """
    what = _listed(turn, crop)
    note = (text("features_do_not_follow", "Inputs were {what} once, before the teacher was asked: its features do not "
                 "follow.", what=what),) if what else ()  # fmt: skip
    return Equivariance(turns=False, crops=False, notes=note)


@torch.no_grad()
def measured(ask: Callable[[Batch], Tensor], batch: Batch, *, turn: bool, crop: int | None) -> Equivariance:
    """What the answers of a teacher follow, on a batch.

    Args:
        ask: gives its answer ``(B, ..., H', W')`` to a batch.
        batch: images ``(B, ..., H, W)``, with their truth where there is one.
        turn: whether to flip and rotate, in all ways that keep their size.
        crop: height and width of parts to be taken; None for none.

    Raises:
        UserError: for a crop that the teacher does not take.
    """
    answer, (height, width) = ask(batch), batch.x.shape[-2:]

    def tried(variants: list[Variant]) -> Judged:
        pairs = [(each.of(answer), ask(view := each.batch(batch)), view) for each in variants]
        if any(moved.shape != direct.shape for moved, direct, _ in pairs):
            return Judged(share=float("inf"), bound=BOUND.spread, own=False)
        moved, direct = torch.cat([pair[0] for pair in pairs]), torch.cat([pair[1] for pair in pairs])
        truths = [view.y for _, _, view in pairs if view.y is not None]
        return judge(moved, direct, BOUND, truth=torch.cat(truths) if truths else None)

    notes, turns, crops = list[Text](), True, True
    if turn:
        ways = [torch.full((len(batch.x),), k, device=batch.x.device) for k in range(1, symmetries(height, width))]
        size = (height, width)
        variants = [Variant(size=size, top=0, left=0, part=size, orientation=way) for way in ways]
        found = tried(variants[:1])
        if found.share <= HOPELESS * found.bound:
            found = tried(variants)
        turns = found.passes
        notes.append(_note(TURNED, turns, found))
    if crop is not None and any(crop % step for step in strides(batch, [answer])):
        found = Judged(share=float("inf"), bound=BOUND.spread, own=False)
        crops = False
        notes.append(_note(CROPPED, crops, found))
    elif crop is not None and crop < max(height, width):
        random = generator(0, "equivariance")
        parts = [drawn(batch, crop=crop, turn=False, random=random, others=[answer]) for _ in range(NUM_CROPS)]
        try:
            found = tried(parts)
        except RuntimeError as error:
            raise UserError(text("no_crops", "the teacher takes no crops of {crop}x{crop} ({error}): set cache.crop "
                                 "to a size that it takes, or to null", crop=crop,
                                 error=str(error).splitlines()[0])) from None  # fmt: skip
        crops = found.passes
        notes.append(_note(CROPPED, crops, found))
    return Equivariance(turns=turns, crops=crops, notes=tuple(notes))


def _note(what: Text, follows: bool, found: Judged) -> Text:
    if follows:
        return text("answers_follow", "The teacher's cached answers were {what} with their inputs: they are then off "
                    "by {error}.", what=what, error=found.account)  # fmt: skip
    return text("answers_do_not_follow", "Inputs were {what} once, before the teacher was asked: its answers would be "
                "off by {error}.", what=what, error=found.account)  # fmt: skip


def _listed(turn: bool, crop: bool) -> Text | None:
    if turn and crop:
        return text("turned_and_cropped", "flipped, rotated and cropped")
    return text("flipped_rotated", "flipped, rotated") if turn else CROPPED if crop else None


__all__ = ["BOUND", "Equivariance", "measured", "of_features"]
