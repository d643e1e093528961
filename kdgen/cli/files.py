"""Image files in and out, for restoring them one by one: what is lost on the way is told."""

import struct
import warnings
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from kdgen.cli.masks import read_mask
from kdgen.data.folder import KINDS, SUFFIXES, image_files
from kdgen.models.model import Model
from kdgen.types import UserError
from kdgen.utils.convert import from_pixels
from kdgen.utils.image_io import Pixels, frames, open_image

EXIF_IFDS = (0x8769, 0x8825)
DESCRIBING = (0x010E, 0x010F, 0x0110, 0x0131, 0x0132, 0x013B, 0x8298, *EXIF_IFDS)
"""EXIF tags that stay true of a restored picture: what, who, when, with which camera and where."""

WHITE = 255.0


class Unreadable(UserError):
    """A file that cannot be read."""


@dataclass(frozen=True, slots=True)
class Form:
    """What a format of image files holds.

    Attributes:
        alpha: opacity.
        deep: 16 bits.
        several: several pages or frames.
        profile: a colour profile, and EXIF.
    """

    alpha: bool = False
    deep: bool = False
    several: bool = False
    profile: bool = True


FORMS = {
    ".png": Form(alpha=True, deep=True, several=True),
    ".tif": Form(alpha=True, deep=True, several=True),
    ".webp": Form(alpha=True, several=True),
    ".gif": Form(alpha=True, several=True, profile=False),
    ".jpg": Form(),
    ".bmp": Form(profile=False),
}
FORMS |= {".tiff": FORMS[".tif"], ".jpeg": FORMS[".jpg"]}


@dataclass(frozen=True, slots=True)
class About:
    """What a file says beside its pixels.

    Attributes:
        pages: how many pages or frames it has.
        options: for Pillow to write: colour profile, EXIF, resolution, timing.
        lost: what of it is not kept, in words.
    """

    pages: int
    options: dict[str, Any]
    lost: tuple[str, ...]


def pairs(source: Path, target: Path) -> list[tuple[Path, Path]]:
    """Which file is restored to which. Warns of images of kinds that are not read.

    Args:
        source: an image, or a folder whose images are taken, those of nested and linked folders included.
        target: a file or folder for an image, a folder for a folder; names are kept.

    Raises:
        UserError: if there is nothing to restore, or a result would lie over an input.
    """
    if source.is_dir():
        if target.is_file():
            raise UserError(f"{source} is a folder and {target} a file: name a folder for the restored images")
        read, others = image_files(source)
        if others:
            warnings.warn(f"passed over {len(others)} of kinds that are not read, the first is {others[0]}: "
                          "save them as PNG", stacklevel=2)  # fmt: skip
        inside = target.resolve() != source.resolve()
        read = [path for path in read if not inside or target.resolve() not in path.resolve().parents]
        files = [(path, target / path.relative_to(source)) for path in read]
    elif source.is_file():
        files = [(source, target / source.name if target.is_dir() or not target.suffix else target)]
    else:
        raise UserError(f"there is nothing at {source}: give an image or a folder of images")
    if not files:
        raise UserError(f"{source} holds no {KINDS} image")
    inputs = {path.resolve() for path, _ in files}
    for _, written in files:
        if written.resolve() in inputs:
            raise UserError(f"{written} is an input and is not overwritten: name another place for the restored images")
        if written.suffix.lower() not in SUFFIXES:
            raise UserError(f"{written.name}: restored images are written as {', '.join(SUFFIXES)}")
    return files


def restore_file(
    model: Model, source: Path, target: Path, sigma: float | None, mask: Path | None = None, stops: float | None = None
) -> list[str]:
    """Restore every page or frame of a file, upright, with its opacity, depth, colour profile and EXIF.

    Args:
        model: which restores it.
        source: where it is read.
        target: where it is written.
        sigma: level of its noise in 8-bit units, if it is known.
        mask: a picture as large, light where pixels are missing.
        stops: how many times the light was halved.

    Returns:
        what the format of the target cannot hold, or was not kept, in words.

    Raises:
        Unreadable: for a file that cannot be read.
        UserError: as ``Model.restore`` does.
    """
    form = FORMS[target.suffix.lower()]
    try:
        about = _about(source, form)
        pages = list(islice(frames(source), about.pages if form.several else 1))
    except Exception as error:  # decoders raise anything for damaged files
        raise Unreadable(str(error).partition("\n")[0] or type(error).__name__) from None
    lost = list(about.lost)
    if len(pages) > 1 and target.suffix.lower() == ".png" and any(_deep_colour(page) for page in pages):
        pages, lost = pages[:1], [*lost, f"only the first of its {about.pages} pictures was restored"]
    fitting = [_fitting(page, form) for page in pages]
    lost += [note for _, notes in fitting for note in notes]
    missing, made = None if mask is None else read_mask(mask), []
    for page, _ in fitting:
        x, back = from_pixels(page)
        made.append(back(model.restore(x, sigma, missing, stops)))
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.suffix.lower() == ".gif" and any(_colours(each) > 256 for each in made):
        lost.append("a GIF holds 256 colours")
    lost += _save(made, target, about.options)
    return list(dict.fromkeys(lost))


def _about(source: Path, form: Form) -> About:
    """What a file says of its pictures that the target can hold."""
    lost: list[str] = []
    options: dict[str, Any] = {}
    with open_image(source) as image:
        pages = getattr(image, "n_frames", 1)
        if pages > 1 and not form.several:
            lost.append(f"only the first of its {pages} pictures was restored")
        elif pages > 1:
            options["duration"], options["loop"] = _timing(image, pages)
            image.seek(0)
        profile, exif, info = image.info.get("icc_profile"), _describing(image), image.info
        if profile and form.profile and image.mode not in ("CMYK", "LAB"):
            options["icc_profile"] = profile
        elif profile:
            lost.append("its colour profile is lost")
        if len(exif) and form.profile:
            options["exif"] = exif
        elif len(exif):
            lost.append("its EXIF is lost")
        if image.mode in ("CMYK", "LAB"):
            lost.append(f"its {image.mode} became RGB")
        if {"xmp", "XML:com.adobe.xmp"} & info.keys():
            lost.append("its XMP is lost")
        if dpi := info.get("dpi"):
            options["dpi"] = tuple(float(each) for each in dpi)
    return About(pages, options, tuple(lost))


def _timing(image: Image.Image, pages: int) -> tuple[list[int], int]:
    """Milliseconds of each frame, and how often all are shown, 0 for ever."""
    durations = []
    for number in range(pages):
        image.seek(number)
        image.load()
        durations.append(round(image.info.get("duration", 100)))
    return durations, int(image.info.get("loop", 0))


def _describing(image: Image.Image) -> Image.Exif:
    """The EXIF of a picture without what is untrue of it once it is upright and restored."""
    found, kept = image.getexif(), Image.Exif()
    for tag in DESCRIBING:
        if tag not in EXIF_IFDS and tag in found:
            kept[tag] = found[tag]
        elif tag in EXIF_IFDS and (inner := found.get_ifd(tag)):
            kept.get_ifd(tag).update(inner)
            kept[tag] = 0  # the tag's own value is where it lies, which Pillow finds
    return kept


def _fitting(pixels: Pixels, form: Form) -> tuple[Pixels, list[str]]:
    """A picture as a format can hold it, with all that is lost by it."""
    lost = [pixels.note] if pixels.note else []
    if pixels.alpha is not None and not form.alpha:
        if float(pixels.alpha.min()) < WHITE:
            lost.append("its transparency is lost, it lies on white")
        pixels = replace(pixels, values=pixels.on(WHITE), alpha=None, ndim=pixels.values.ndim)
    floats = np.issubdtype(pixels.dtype, np.floating)
    if pixels.dtype != np.uint8 and not form.deep:
        lost.append("its floating point became 8 bits" if floats else "its 16 bits became 8")
        pixels = replace(pixels, dtype=np.dtype(np.uint8), white=WHITE)
    elif pixels.dtype != np.uint8:
        lost += ["its floating point became 16 bits"] * floats
        pixels = replace(pixels, dtype=np.dtype(np.uint16), white=65535.0)
    return pixels, lost


def _colours(array: NDArray[Any]) -> int:
    """How many colours a picture has."""
    return len(np.unique(array.reshape(-1, array.shape[-1]), axis=0)) if array.ndim == 3 else len(np.unique(array))


def _deep_colour(pixels: Pixels) -> bool:
    return pixels.dtype == np.uint16 and (pixels.values.ndim == 3 or pixels.alpha is not None)


def _save(made: Sequence[NDArray[Any]], target: Path, options: dict[str, Any]) -> list[str]:
    """Write pictures of one file; returns what was lost."""
    suffix = target.suffix.lower()
    if made[0].dtype == np.uint16 and made[0].ndim == 3:
        return _write_png(made[0], target, options) if suffix == ".png" else _write_tiff(made, target, options)
    first, *rest = [Image.fromarray(array) for array in made]
    if suffix in (".jpg", ".jpeg", ".webp"):
        options = {**options, "quality": 95}
    if rest:
        options = {**options, "save_all": True, "append_images": rest}
    first.save(target, **options)
    return []


def _write_png(array: NDArray[np.uint16], target: Path, options: dict[str, Any]) -> list[str]:
    """16-bit colour, ``(H, W, C)``, C 2 to 4, which Pillow cannot write: W3C, Portable Network Graphics, third edition.

    Each octet is stored less that of the pixel to its left (section 9.2, filter type 1).
    """
    height, width, channels = array.shape
    octets = np.ascontiguousarray(array.astype(">u2")).view(np.uint8)
    filtered = np.diff(octets, axis=1, prepend=np.zeros((height, 1, 2 * channels), np.uint8)).reshape(height, -1)
    rows = np.concatenate([np.ones((height, 1), np.uint8), filtered], axis=1).tobytes()
    colour = {2: 4, 3: 2, 4: 6}[channels]

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    parts = [b"\x89PNG\r\n\x1a\n", chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0))]
    if profile := options.get("icc_profile"):
        parts.append(chunk(b"iCCP", b"profile\0\0" + zlib.compress(profile)))
    if dpi := options.get("dpi"):
        parts.append(chunk(b"pHYs", struct.pack(">IIB", *(round(each / 0.0254) for each in dpi), 1)))
    if exif := options.get("exif"):
        parts.append(chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0")))
    parts += [chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    target.write_bytes(b"".join(parts))
    return []


def _write_tiff(made: Sequence[NDArray[np.uint16]], target: Path, options: dict[str, Any]) -> list[str]:
    """Pages of 16-bit colour, which Pillow cannot write."""
    import tifffile

    tags = options.get("exif", {})
    more = [(tag, "s", 0, str(value), True) for tag, value in tags.items() if tag not in EXIF_IFDS]
    with tifffile.TiffWriter(target) as writer:
        for array in made:
            writer.write(
                array, photometric="rgb" if array.shape[-1] > 2 else "minisblack", planarconfig="contig", metadata=None,
                software=False, extratags=more,
                extrasamples=["unassalpha"] if array.shape[-1] in (2, 4) else None,
                iccprofile=options.get("icc_profile"), resolution=options.get("dpi", (1, 1)),
                resolutionunit="INCH" if "dpi" in options else "NONE",
            )  # fmt: skip
    return ["its EXIF is lost"] if set(EXIF_IFDS) & set(tags) else []
