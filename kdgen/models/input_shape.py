"""Which heights and widths a net takes: found by trying, once for each net, and images fitted to them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol, runtime_checkable
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from kdgen.types import Net, Text, UserError, text
from kdgen.utils.conditions import call, with_maps
from kdgen.utils.devices import evaluating

MULTIPLES = (1, 2, 3, 4, 6, 7, 8, 12, 14, 16, 24, 32, 64)
"""What heights and widths are tried as multiples of."""

COMMON = (64 * 3, 64 * 7)
"""Numbers of which each of ``MULTIPLES`` divides one."""

LARGEST = 256
"""Height and width up to which sizes are tried first, for a net that may be shown large pictures."""

USUAL = (28, 32, 64, 128, 224, 512, *range(4, LARGEST, 4))
"""Height and width of what nets take that take one size: the usual ones, then others that are."""

Size = tuple[int, int]


@dataclass(frozen=True, slots=True)
class InputShape:
    """The heights and widths of the images that a net takes.

    Attributes:
        multiple: both are multiples of this.
        min_size: and at least this; a multiple of ``multiple``.
        fixed: the one height and width that is taken; None where others are.
    """

    multiple: int = 1
    min_size: int = 1
    fixed: Size | None = None

    def __str__(self) -> str:
        return str(self.words)

    @property
    def words(self) -> Text:
        """What is taken, as a clause."""
        if self.fixed is not None:
            return text("size_alone", "{height}x{width} alone", height=self.fixed[0], width=self.fixed[1])
        parts = []
        if self.multiple > 1:
            parts.append(text("size_multiples", "multiples of {multiple}", multiple=self.multiple))
        if self.min_size > self.multiple:
            parts.append(text("size_least", "{least} pixels or more", least=self.min_size))
        return text("size_parts", "{parts: and }", parts=parts) if parts else text("any_size", "any size")

    def takes(self, height: int, width: int) -> bool:
        """Whether images of this size are taken."""
        return (height, width) == self.at_least(height, width)

    def at_least(self, height: int, width: int) -> Size:
        """The least size that is taken and not smaller than this in either direction; ``fixed`` where there is one."""
        if self.fixed is not None:
            return self.fixed
        tall, wide = (max(-(-side // self.multiple) * self.multiple, self.min_size) for side in (height, width))
        return tall, wide


class TooLarge(UserError):
    """Images are larger than the one size that a net takes, ``taken``: height and width."""

    def __init__(self, taken: Size, height: int, width: int) -> None:
        super().__init__(
            text(
                "image_too_large",
                "this net takes images of {sizes}, not {height}x{width}: cut or shrink them",
                sizes=InputShape(fixed=taken).words,
                height=height,
                width=width,
            )
        )
        self.taken = taken


def declared(
    multiple: int | None, min_size: int | None, size: int | tuple[int, int] | None = None
) -> InputShape | None:
    """The sizes that somebody declares, None where nothing is declared.

    Args:
        multiple: as in ``InputShape``.
        min_size: likewise.
        size: the one height and width, in place of these.

    Raises:
        UserError: for what is no whole number of at least 1, and for a size beside the others.
    """
    sides = size if size is None or isinstance(size, Sequence) else (size, size)
    for argument, value in (("multiple", multiple), ("min_size", min_size), *(("size", side) for side in sides or ())):
        if value is not None and (type(value) is not int or value < 1):
            raise UserError(text("no_pixels", "{argument} is a whole number of pixels, at least 1, not {given}",
                                 argument=argument, given=repr(value)))  # fmt: skip
    if sides is not None:
        if len(sides) != 2:
            raise UserError(text("no_image_size", "size is a number of pixels, or height and width, not {given}",
                                 given=repr(size)))  # fmt: skip
        if multiple is not None or min_size is not None:
            raise UserError(text("size_beside", "size is the one size that a net takes: leave multiple and min_size "
                                 "out beside it"))  # fmt: skip
        return InputShape(fixed=(sides[0], sides[1]))
    if multiple is None and min_size is None:
        return None
    each = multiple or 1
    return InputShape(each, max(-(-(min_size or 1) // each) * each, each))


@runtime_checkable
class Shaped(Protocol):
    """A net that says which sizes it takes, so that nobody need try."""

    input_shape: InputShape | None
    """None where that is not known."""


_found: WeakKeyDictionary[Net, InputShape] = WeakKeyDictionary()


def input_shape(net: Net, like: Tensor, cond: Mapping[str, Tensor] | None = None) -> InputShape:
    """The sizes that a net takes: those it declares, or those found by trying, once.

    Multiples are tried from small to large, on small sizes and on such as fit into ``like``; then the smallest size.
    An answer of the wrong size for its input is none: an image that is not as many times as large as another's.

    Args:
        net: any net of images, or of latents with height and width.
        like: an input that may be taken, ``(B, C, H, W)``.
        cond: conditions as ``(B, ...)``.

    Raises:
        UserError: for a net that takes none of all that, with what it said to ``like``.
    """
    if isinstance(net, Shaped) and net.input_shape is not None:
        return net.input_shape
    if net not in _found:
        _found[net] = _find(_Trial(net, like, cond or {}))
    return _found[net]


def fitted(net: Net, x: Tensor, cond: Mapping[str, Tensor] | None = None) -> Tensor:
    """A net's answer to images of any size: padded by mirroring, below and to the right, where it needs that, and cut.

    Args:
        net: any net. It is asked about other sizes only if it fails at this one, or its answer does not fit it.
        x: ``(B, C, H, W)``; inputs of another rank are passed as they are.
        cond: its conditions.

    Raises:
        TooLarge: for images larger than the one size that a net takes.
    """
    kwargs = cond or {}
    if x.ndim != 4:
        return call(net, x, kwargs)
    height, width = x.shape[-2:]
    declares = isinstance(net, Shaped) and net.input_shape is not None
    if not declares and net not in _found:
        try:
            out = call(net, x, kwargs)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # a foreign net's code raises whatever it does
            if input_shape(net, x, kwargs).takes(height, width):
                raise error
        else:
            if out.ndim != 4 or _ratio((height, width), (out.shape[-2], out.shape[-1])) is not None:
                return out
    shape = input_shape(net, x, kwargs)
    if shape.takes(height, width):
        return call(net, x, kwargs)
    tall, wide = shape.at_least(height, width)
    if tall < height or wide < width:
        raise TooLarge((tall, wide), height, width)
    cond = with_maps(kwargs, x, lambda each: mirrored(each, tall, wide))
    out = call(net, mirrored(x, tall, wide), cond)
    if out.ndim != 4:
        return out
    return out[..., : height * out.shape[-2] // tall, : width * out.shape[-1] // wide]


def mirrored(x: Tensor, height: int, width: int) -> Tensor:
    """Images ``(B, C, H, W)`` continued to a height and width by mirroring them, as often as that takes."""
    down, right = (_back_and_forth(*sides).to(x.device) for sides in zip(x.shape[-2:], (height, width), strict=True))
    return x.index_select(-2, down).index_select(-1, right)


def middle(x: Tensor, height: int, width: int) -> Tensor:
    """The middle ``(..., height, width)`` of images, which is all of a side that is no longer."""
    top, left = (max(0, (side - part) // 2) for side, part in zip(x.shape[-2:], (height, width), strict=True))
    return x[..., top : top + height, left : left + width]


def _back_and_forth(length: int, count: int) -> Tensor:
    """Indices 0, 1, ..., length - 1, length - 2, ..., 1, 0, 1 and so on, ``(wanted,)``."""
    period = max(2 * (length - 1), 1)
    index = torch.arange(count) % period
    return torch.minimum(index, period - index)


class _Trial:
    """A net that is shown an input at other sizes: cut, or continued by mirroring."""

    def __init__(self, net: Net, like: Tensor, cond: Mapping[str, Tensor]) -> None:
        self.net, self.like = net, like[:1]
        self.cond = {key: value[:1] for key, value in cond.items()}
        self.reason = ""
        self._outputs: dict[Size, Size | None] = {}
        self.size = self._reference()

    def _reference(self) -> Size:
        """A size that is taken."""
        height, width = self.like.shape[-2:]
        small = min(height, LARGEST), min(width, LARGEST)
        rounded = (InputShape(common).at_least(*small) for common in COMMON)
        for size in (small, *rounded, (height, width), *((side, side) for side in USUAL)):
            self.ratio = _ratio(size, self.answer(size))
            if self.ratio is not None:
                return size
        raise UserError(text("size_not_taken", "the net does not take {shape} ({error})",
                             shape=str(tuple(self.like.shape[1:])), error=self.reason))  # fmt: skip

    def answer(self, size: Size) -> Size | None:
        """The height and width of what the net gives for a size, ``size`` if it gives no image; None if it fails."""
        if size not in self._outputs:
            with evaluating(self.net, inference=False):
                try:
                    cond = with_maps(self.cond, self.like, lambda each: mirrored(each, *size))
                    out = call(self.net, mirrored(self.like, *size), cond)
                    self._outputs[size] = (out.shape[-2], out.shape[-1]) if out.ndim == 4 else size
                except torch.OutOfMemoryError:
                    raise
                except Exception as error:  # a foreign net's code raises whatever it does
                    self.reason, self._outputs[size] = error_line(error), None
        return self._outputs[size]

    def takes(self, size: Size) -> bool:
        """Whether the net takes a size, and gives as many times as much for it as for the one that is taken."""
        out = self.answer(size)
        if out is None or self.ratio is None:
            return False
        return self.ratio < 1 or all(actual == self.ratio * side for actual, side in zip(out, size, strict=True))


def _ratio(size: Size, out: Size | None) -> Fraction | None:
    """How many times as large as its input an answer is; None where that is no whole number, nor 1 by one."""
    if out is None:
        return None
    ratio = Fraction(out[0], size[0])
    integral = 1 in (ratio.numerator, ratio.denominator)
    return ratio if integral and Fraction(out[1], size[1]) == ratio else None


def _find(trial: _Trial) -> InputShape:
    for multiple in MULTIPLES:
        tall, wide = (_odd(side // multiple) for side in trial.size)
        for size in ((5 * multiple, 7 * multiple), (tall * multiple, max(wide - 2, 1) * multiple)):
            if min(size) > 0 and size != trial.size and trial.takes(size):
                return InputShape(multiple, _least(trial, multiple, min(size)))
    return InputShape(fixed=trial.size)


def _least(trial: _Trial, multiple: int, largest: int) -> int:
    """The least multiple that is taken as height and width, between 1 and a known one."""
    low, high = 1, largest // multiple
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if trial.takes((middle * multiple, middle * multiple)) else (middle + 1, high)
    return low * multiple


def _odd(number: int) -> int:
    return number - 1 + number % 2


def error_line(error: BaseException, length: int = 200) -> str:
    """An error of a net's code in a line: its kind, and the first line that it says."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if isinstance(error, UserError) and lines:
        return error.text if len(lines) == 1 and len(error.text) <= length else lines[0][:length]
    return ": ".join([type(error).__name__, *lines[:1]])[:length]
