"""Whether a restorer reads and gives what it is declared to, tried on a picture: files and modules alike."""

from collections.abc import Callable
from itertools import product

import torch
from torch import Tensor, nn

from kdgen.models.adapters.module import Foreign
from kdgen.models.input_shape import TooLarge, error_line, fitted, middle
from kdgen.types import Net, UserError
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

    def remedy(way: Way) -> str:
        return f"call kdgen.from_module with range=({way[0][0]:g}, {way[0][1]:g}), predicts={way[1]!r}"

    check_reading(called, type(net).__name__, foreign.read_as, foreign.way, clean.to(device_of(net)), remedy)


@torch.inference_mode()
def check_reading(
    called: str, kind: str, read_as: Callable[[Way], Net], declared: Way, clean: Tensor, remedy: Callable[[Way], str]
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
    for way in product([(0.0, 1.0), (-1.0, 1.0)], ["image", "residual"]):
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
            raise UserError(f"{called}: {kind} does not take an image {tuple(clean.shape)}: {reason}") from None
        if out.shape != clean.shape:
            raise UserError(f"{called}: {kind} makes {tuple(out.shape)} of an image {tuple(clean.shape)}")
        scores[way] = _psnr(out, clean)
    best = max(scores, key=lambda way: scores[way])
    if scores[best] >= _psnr(noisy, clean) + 1 and scores[declared] < scores[best] - 0.1:
        raise UserError(f"{called}: declared {_say(*declared)}: {scores[declared]:.1f} dB; "
                        f"{_say(*best)} gives {scores[best]:.1f} dB: {remedy(best)}")  # fmt: skip


def _say(limits: tuple[float, float], predicts: str) -> str:
    return f"range [{limits[0]:g}, {limits[1]:g}], {predicts}"


def _psnr(image: Tensor, truth: Tensor) -> float:
    """Of the image less an eighth of its height and width at each border, in dB."""
    height, width = (side - 2 * (side // 8) for side in truth.shape[-2:])
    error = middle(image.clamp(-1, 1) - truth, height, width)
    return float(10 * torch.log10(4 / error.square().mean()))


__all__ = ["Way", "check_module", "check_reading"]
