"""Models that say something of a picture, side by side: what they say, how far they agree, and what they cost."""

from collections.abc import Mapping
from dataclasses import dataclass

from PIL import Image

from kdgen.models.model import Model
from kdgen.report.compare import compare
from kdgen.report.report import Report
from kdgen.report.said import About, Said, agreement, say, shown_to
from kdgen.types import Text, text
from kdgen.ui.as_pictured import seen_through
from kdgen.ui.comparing import shared_task
from kdgen.ui.side_by_side import ENLARGED
from kdgen.ui.timed import timed

SIDE = 256
"""Height and width of the picture that models which take any are timed on."""

GAP = 8


@dataclass(frozen=True, slots=True)
class Heard:
    """What models say of one picture.

    Attributes:
        said: by the name of the model.
        agreement: of each but the first with the first, by name; None where that cannot be told.
        notes: what is to be known of it.
    """

    said: Mapping[str, Said]
    agreement: Mapping[str, float | None]
    notes: tuple[Text, ...] = ()

    @property
    def about(self) -> About:
        """What all of them are about."""
        return next(iter(self.said.values())).about

    @property
    def pair(self) -> tuple[Image.Image, Image.Image] | None:
        """What the first two say of the places, or one before and after; None where it is said of the whole picture."""
        first, *others = self.said.values()
        if first.about == "classes":
            return None
        left, right = (first.shown, others[0].shown) if others else (first.seen, first.shown)
        size = max(left.size, right.size)
        return enlarged(left.resize(size)), enlarged(right.resize(size))

    @property
    def sheet(self) -> Image.Image:
        """The pictures of all of them in a row."""
        shown = [enlarged(each.shown) for each in self.said.values()]
        height = max(each.height for each in shown)
        shown = [each.resize((round(each.width * height / each.height), height)) for each in shown]
        row = Image.new("RGB", (sum(each.width + GAP for each in shown) - GAP, height), "white")
        left = 0
        for each in shown:
            row.paste(each, (left, 0))
            left += each.width + GAP
        return row


def heard(models: Mapping[str, Model], picture: Image.Image, seed: int) -> Heard:
    """Ask models about a picture, each in its own size and view.

    Raises:
        UserError: for models of different tasks, and what ``kdgen.report.said.say`` refuses.
    """
    shared_task(models)
    said = {name: say(model, picture, seed=seed) for name, model in models.items()}
    (_, first), *others = said.items()
    return Heard(said, {name: agreement(first, each) for name, each in others}, seen_through(models))


def measured(models: Mapping[str, Model]) -> Report:
    """What models cost for a picture, each in the size that it was made for."""
    facts, blank = shared_task(models), Image.new("RGB", (SIDE, SIDE))
    batches = {name: shown_to(model, blank) for name, model in models.items()}
    rows, busy_cores = timed(models, {name: (batch.x, batch.cond) for name, batch in batches.items()})
    note = text("measured_said", "Costs are of a picture of {side}x{side} pixels, or of the size that a model says it "
                "was made for; how often it is right, the report of its run says.", side=SIDE)  # fmt: skip
    return compare(rows, task=str(facts["name"]), per=text("an_image", "an image"), notes=[note], busy_cores=busy_cores)


def enlarged(picture: Image.Image) -> Image.Image:
    """A picture large enough to be seen, its pixels as squares."""
    times = max(-(-ENLARGED * 2 // picture.width), 1)
    return picture.resize((picture.width * times, picture.height * times), Image.Resampling.NEAREST)


__all__ = ["Heard", "enlarged", "heard", "measured"]
