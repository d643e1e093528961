"""Image files in and out, for restoring them one by one."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from kdgen.data.folder import SUFFIXES, read_picture
from kdgen.model import Model
from kdgen.types import UserError

ORIENTATION = 0x0112
DEEP_SUFFIXES = (".png", ".tif", ".tiff")


def pairs(source: Path, target: Path) -> list[tuple[Path, Path]]:
    """Which file is restored to which.

    Args:
        source: an image, or a folder whose images are taken, nested ones included.
        target: a file or folder for an image, a folder for a folder; names are kept.

    Raises:
        UserError: if there is nothing to restore, or a result would lie over an input.
    """
    if source.is_dir():
        if target.is_file():
            raise UserError(f"{source} is a folder and {target} a file: name a folder for the restored images")
        read = sorted(p for p in source.rglob("*") if p.suffix.lower() in SUFFIXES and p.name[0] != ".")
        read = [
            path
            for path in read
            if target.resolve() not in path.resolve().parents or target.resolve() == source.resolve()
        ]
        files = [(path, target / path.relative_to(source)) for path in read]
    elif source.is_file():
        files = [(source, target / source.name if target.is_dir() or not target.suffix else target)]
    else:
        raise UserError(f"there is nothing at {source}: give an image or a folder of images")
    if not files:
        raise UserError(f"{source} holds no PNG, JPEG, WebP or TIFF image")
    inputs = {path.resolve() for path, _ in files}
    for _, written in files:
        if written.resolve() in inputs:
            raise UserError(f"{written} is an input and is not overwritten: name another place for the restored images")
        if written.suffix.lower() not in SUFFIXES:
            raise UserError(f"{written.name}: restored images are written as {', '.join(SUFFIXES)}")
    return files


def restore_file(model: Model, source: Path, target: Path, sigma: float | None) -> str | None:
    """Restore one file, at 16 bits if it came with more than 8 and its format can; the rotation tag is kept.

    Returns:
        None, or why the file could not be read.
    """
    try:
        picture = read_picture(source)
        with Image.open(source) as image:
            orientation = image.getexif().get(ORIENTATION)
    except Exception as error:  # decoders raise anything for damaged files
        return str(error).partition("\n")[0] or type(error).__name__
    deep = picture.dtype != np.uint8
    restored = model(picture / np.float32(255) if deep else picture, sigma=sigma)
    if deep:
        depth = (65535, np.uint16) if target.suffix.lower() in DEEP_SUFFIXES else (255, np.uint8)
        restored = (restored.clip(0, 1) * depth[0]).round().astype(depth[1])
    tags = Image.Exif()
    if orientation:
        tags[ORIENTATION] = orientation
    target.parent.mkdir(parents=True, exist_ok=True)
    options: dict[str, Any] = {"quality": 95} if target.suffix.lower() in (".jpg", ".jpeg", ".webp") else {}
    Image.fromarray(restored).save(target, exif=tags, **options)
    return None
