"""The brush of the Compare tab: what a visitor paints over is missing, for models that are told what is."""

import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import reduce
from pathlib import Path
from typing import Any

import gradio as gr
import torch
from PIL import Image, ImageChops

from kdgen.data.damages import make_damages
from kdgen.types import UserError, text
from kdgen.ui.limits import Limits
from kdgen.ui.uploads import open_picture
from kdgen.ui.words import say

COLOUR = "#ff2d95"
"""Of the brush: one that photographs rarely have."""

LAYER_BYTES = 4_000_000
"""Bytes of what was painted, at most: it is of one colour, and packs well."""

SEEN = 128
"""How opaque of 255 a pixel of the brush is at least to count."""


def editor(picture: Image.Image) -> gr.ImageEditor:
    """The picture to paint on.

    Nothing listens to its strokes, so that they stay in the browser until a comparison asks for them, and come then as
    uploads do.
    """
    return gr.ImageEditor(on(picture), type="pil", sources=(), transforms=(), layers=False, buttons=[], height=320,
                          brush=gr.Brush(default_size=10, colors=[COLOUR], color_mode="fixed"),
                          eraser=gr.Eraser(default_size=10), label=say("brush"), elem_id="kd-brush")  # fmt: skip


def on(picture: Image.Image | None) -> Any:
    """What the editor shows: a picture with nothing painted on it."""
    return None if picture is None else {"background": picture, "layers": [], "composite": picture}


def told_a_mask(facts: Mapping[str, Any]) -> bool:
    """Whether a model is told which pixels are missing, by what it says of its task."""
    with suppress(UserError):
        return "mask" in make_damages(facts.get("damages") or ["noise"]).nothing(torch.zeros(1, 1, 1, 1))
    return False


def painted(files: Sequence[str], limits: Limits) -> Image.Image | None:
    """What was painted as a mask of one channel, white where pixels are missing; None where nothing was.

    Args:
        files: the layers of the editor, uploaded, which are removed.
        limits: of pictures that are worked on.

    Raises:
        UserError: for what is no such layer, or too large a one.
    """
    try:
        layers = [_layer(Path(file), limits) for file in files]
    finally:
        for file in files:
            Path(file).unlink(missing_ok=True)
    if len({each.size for each in layers}) > 1:
        raise _no_layer()
    mask = reduce(ImageChops.lighter, layers) if layers else None
    return mask if mask is not None and mask.getbbox() else None


def drawn(file: str, size: tuple[int, int], limits: Limits) -> Image.Image:
    """A mask that a program uploaded, white where pixels are missing, as large as the picture that it is of.

    Args:
        file: a picture as large as the other was before either was shrunk.
        size: of the other as it is worked on.
        limits: of pictures.

    Raises:
        UserError: as ``open_picture``, and for one of another size.
    """
    mask = open_picture(file, limits).convert("L")
    if mask.size != size:
        raise UserError(text("mask_other_size", "the mask is not as large as the picture: make it so"))
    return mask.point(lambda value: 255 * (value >= SEEN))


def _layer(file: Path, limits: Limits) -> Image.Image:
    """How opaque a layer is, 0 or 255; judged by its header before it is decoded."""
    try:
        if file.stat().st_size > LAYER_BYTES:
            raise _no_layer()
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file, formats=("PNG",)) as image:
                if image.width * image.height > limits.pixels or image.mode != "RGBA":
                    raise _no_layer()
                return image.getchannel("A").point(lambda value: 255 * (value >= SEEN))
    except UserError:
        raise
    except Exception:  # decoders raise whatever they do
        raise _no_layer() from None


def _no_layer() -> UserError:
    return UserError(text("no_brush", "what was painted could not be read: choose the photograph anew, and paint "
                          "again"))  # fmt: skip


__all__ = ["drawn", "editor", "on", "painted", "told_a_mask"]
