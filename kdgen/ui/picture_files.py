"""Pictures of a stranger to train on: each judged, shrunk and written anew, so that nothing else stays of the file."""

from collections.abc import Sequence
from pathlib import Path

from kdgen.types import UserError, text
from kdgen.ui.limits import Limits
from kdgen.ui.own import About
from kdgen.ui.uploads import open_picture

LEAST = 5
SIDE = 64
"""Least height and width of a picture to train on: patches are cut out of it."""


def keep(files: Sequence[Path], limits: Limits, folder: Path) -> About:
    """Put pictures into a folder.

    Args:
        files: that were uploaded.
        limits: bounds.
        folder: an empty one.

    Raises:
        UserError: for too few or too many, and for what ``open_picture`` refuses, with its name.
    """
    if not LEAST <= len(files) <= limits.pictures:
        raise UserError(text("number_of_pictures", "{least} to {most} pictures are taken, not {count}: upload all of "
                             "them at once", least=LEAST, most=limits.pictures, count=len(files)))  # fmt: skip
    for number, file in enumerate(files):
        try:
            image = open_picture(file, limits)
            if min(image.size) < SIDE:
                raise UserError(text("picture_below_side", "this picture is {width} x {height} pixels: {side} a side "
                                     "are the least", width=image.width, height=image.height, side=SIDE))  # fmt: skip
        except UserError as error:
            raise UserError(text("in_file", "{file}: {error}", file=file.name[:60], error=error.text)) from None
        image.save(folder / f"{number:03}.png", compress_level=1)
    return About("pictures", "pictures", count=len(files))


__all__ = ["keep"]
