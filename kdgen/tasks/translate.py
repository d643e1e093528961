"""Change images as a teacher does, where nothing else says what is right."""

import hashlib
from collections.abc import Mapping
from typing import Any

from kdgen.data import Pairs
from kdgen.data.source import ImageSource
from kdgen.registry import register
from kdgen.tasks.restoration import Restoration
from kdgen.types import Batch, Net, Text, UserError, text
from kdgen.types.arguments import ChannelsOrBoth, Count


@register("task")
class Translate(Restoration):
    """Change images as a teacher does, in style or by retouching: there is no truth, the teacher alone says how.

    Nets read images as they are and give images as large. They are measured by how near they come to the teacher:
    PSNR, SSIM and the perceptual distance on ``features32``; the first row of a report is the image unchanged. There
    are no controls, since without the teacher there is nothing to learn from.

    Args:
        channels: 1 grey, 3 colour, or ``"both"``: batches of even number are grey and those of odd number colour.
        images: where training patches come from, ``{"name": ..., "args": {...}}``; ``scenes`` if not given.
        patch: height and width of training patches in pixels.
        evaluate: whole images to measure on, likewise; bundled photographs if not given.
    """

    taught_alone, usual_preset, group = True, "stylize", "restorer"
    alike = frozenset({"restore"})
    baseline_name = text("unchanged", "unchanged")

    def __init__(
        self,
        channels: ChannelsOrBoth = 3,
        images: ImageSource | None = None,
        patch: Count = 64,
        evaluate: ImageSource | None = None,
    ) -> None:
        super().__init__(channels=channels, images=images, patch=patch, evaluate=evaluate or {"name": "photographs"},
                         loss="l1", levels={"": 0.0}, damaged=True, truthless=True)  # fmt: skip
        if self.pairs is not None or isinstance(self.gallery, Pairs):
            raise UserError(text("pairs_have_truth", "pairs say what is right, and here a teacher does: give a "
                                 "folder, or take the task {task}",
                                 task=min(self.alike)))  # fmt: skip

    def describe(self) -> dict[str, Any]:
        """Its name and channels."""
        return {"name": "translate", "channels": "both" if self.both else self.channels}

    def describe_evaluation(self, *, reference: Net | None = None, seed: int = 0) -> Text:
        """On what, and that there is nothing but the teacher."""
        return text("measured_taught", "Measured by how near it comes to the teacher's answers, on the images of "
                    "{source}. Of this task there is no truth: only the teacher says what is right, and no control "
                    "could be trained without it.", source=type(self.gallery).__name__.lower())  # fmt: skip

    def resample_noise(self, batch: Batch, *, seed: int) -> Batch:
        """The batch as it is: nothing in it is drawn."""
        return batch

    def fingerprint(self) -> str:
        """A hash of the channels, the size of patches and the source of images."""
        known = (self.describe(), self.patch, self.source.fingerprint())
        return hashlib.sha256(repr(known).encode()).hexdigest()

    @classmethod
    def evaluation_source(cls, args: Mapping[str, Any]) -> Any:
        """Those to evaluate on, or bundled photographs."""
        return args.get("evaluate") or {"name": "photographs"}

    @classmethod
    def limits(cls, facts: Mapping[str, Any]) -> str:
        """That nobody measured more than its likeness to the teacher."""
        return "It was made to do what its teacher does, and was measured against nothing else."
