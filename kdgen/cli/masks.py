"""Pictures of what is missing in others."""

from pathlib import Path

from torch import Tensor

from kdgen.data.folder import SUFFIXES
from kdgen.types import UserError
from kdgen.utils.convert import from_pixels
from kdgen.utils.image_io import frames


def mask_for(source: Path, mask: Path, folder: Path) -> Path:
    """The mask of an image: the file itself, or of a folder the one that is called as the image is, in any format.

    Args:
        source: the image.
        mask: a picture or a folder of them.
        folder: where the image's own name begins.

    Raises:
        UserError: where there is none.
    """
    if not mask.is_dir():
        return mask
    inner = source.relative_to(folder) if folder.is_dir() else Path(source.name)
    found = next((path for suffix in SUFFIXES if (path := (mask / inner).with_suffix(suffix)).is_file()), None)
    if found is None:
        raise UserError(f"{mask} holds no mask for {inner}: name it {inner.with_suffix('.png')}")
    return found


def read_mask(mask: Path) -> Tensor:
    """Where a mask is light, ``(1, 1, H, W)``."""
    try:
        x, _ = from_pixels(next(iter(frames(mask))))
    except Exception as error:  # decoders raise anything for damaged files
        raise UserError(f"the mask {mask} cannot be read: {str(error).partition(chr(10))[0]}") from None
    return x.mean(1, keepdim=True) > 0
