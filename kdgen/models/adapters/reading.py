"""Whether a restorer reads and gives what it is declared to, tried on a picture: files and modules alike."""

from collections.abc import Callable
from itertools import product

import torch
from torch import Tensor, nn

from kdgen.models.adapters.module import Foreign
from kdgen.models.input_shape import TooLarge, error_line, fitted, middle
from kdgen.recipe import RANGES
from kdgen.types import Net, Text, UserError, text
from kdgen.utils.devices import device_of

Way = tuple[tuple[float, float], str]
"""The range of values that a net's images take, and what it predicts, as they are declared."""

SIGMA = 2 * 25 / 255
SIDE = 128


def check_module(called: str, net: nn.Module, clean: Tensor) -> None:
    """Check a restorer given as a module, as ``check_reading`` does.

    One that is not of ``from_module``'s making reads images in [-1, 1] and gives such.

    Args:
        called: what to call it.
        net: the module, where it lies.
        clean: an image ``(1, C, H, W)`` in [-1, 1].

    Raises:
        UserError: with the figures seen, and how to call ``from_module``.
    """
    foreign = net if isinstance(net, Foreign) else Foreign(net, range=(-1.0, 1.0), predicts="image").eval()

    def remedy(way: Way) -> Text:
        return text("call_from_module", "call kdgen.from_module with range=({low:g}, {high:g}), predicts={predicts!r}",
                    low=way[0][0], high=way[0][1], predicts=way[1])  # fmt: skip

    check_reading(called, type(net).__name__, foreign.read_as, foreign.way, clean.to(device_of(net)), remedy)


@torch.inference_mode()
def check_reading(
    called: str, kind: str, read_as: Callable[[Way], Net], declared: Way, clean: Tensor, remedy: Callable[[Way], Text]
) -> None:
    """Check the range and the prediction of a restorer on an image with noise of sigma 25 (8-bit units).

    The same weights are read in every way there is; the declared one must be within 0.1 dB of the best, borders aside,
    which tell how a net pads; a way in which it raises is none. Weights that gain less than 1 dB in every way tell
    nothing and pass.

    Args:
        called: the file or the name of the net.
        kind: its architecture.
        read_as: the net with its weights, read in a way.
        declared: the declared way.
        clean: an image ``(1, C, H, W)`` in [-1, 1], of which the middle is shown.
        remedy: what to do, in words, for the net to be read in a way.

    Raises:
        UserError: with the figures seen, and the remedy; and for a net that does not take the image.
    """
    clean = middle(clean, min(SIDE, clean.shape[-2]), min(SIDE, clean.shape[-1]))
    noisy = clean + SIGMA * torch.randn(clean.shape, generator=torch.Generator().manual_seed(0)).to(clean)
    scores: dict[Way, float] = {}
    for way in product(dict.fromkeys([*RANGES, declared[0]]), ["image", "residual"]):
        try:
            out = fitted(read_as(way), noisy, {"sigma": torch.full((1,), SIGMA).to(clean)})
        except TooLarge as error:
            return check_reading(called, kind, read_as, declared, middle(clean, *error.taken), remedy)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # a foreign net's code raises whatever it does
            if way != declared:
                continue
            reason = error_line(error)
            raise UserError(text("image_not_taken", "{called}: {kind} does not take an image {shape}: {error}",
                                 called=called, kind=kind, shape=str(tuple(clean.shape)),
                                 error=reason)) from None  # fmt: skip
        if out.shape != clean.shape:
            raise UserError(text("image_resized", "{called}: {kind} makes {given} of an image {shown}", called=called,
                                 kind=kind, given=str(tuple(out.shape)), shown=str(tuple(clean.shape))))  # fmt: skip
        scores[way] = _psnr(out, clean)
    best = max(scores, key=lambda way: scores[way])
    if scores[best] >= _psnr(noisy, clean) + 1 and scores[declared] < scores[best] - 0.1:
        raise UserError(text("read_otherwise", "{called}: declared {declared}: {own:.1f} dB; {best} gives {most:.1f} "
                             "dB: {remedy}", called=called, declared=_say(*declared), own=scores[declared],
                             best=_say(*best), most=scores[best], remedy=remedy(best)))  # fmt: skip


def _say(limits: tuple[float, float], predicts: str) -> Text:
    return text("reading_way", "range [{low:g}, {high:g}], {predicts}", low=limits[0], high=limits[1],
                predicts=predicts)  # fmt: skip


def _psnr(image: Tensor, truth: Tensor) -> float:
    """Of the image less an eighth of its height and width at each border, in dB."""
    height, width = (side - 2 * (side // 8) for side in truth.shape[-2:])
    error = middle(image.clamp(-1, 1) - truth, height, width)
    return float(10 * torch.log10(4 / error.square().mean()))


__all__ = ["Way", "check_module", "check_reading"]
