"""What a source of labelled images is."""

from collections.abc import Sequence
from typing import Protocol, TypeGuard, runtime_checkable

import torch
from torch import Tensor


@runtime_checkable
class Labelled(Protocol):
    """A source whose images belong to classes.

    Attributes:
        num_classes: how many; labels are 0 to ``num_classes - 1``.
    """

    @property
    def num_classes(self) -> int: ...  # noqa: D102

    @property
    def num_labelled(self) -> int | None:
        """In how many draws each image comes once; None where every draw differs, by random changes say."""
        ...

    def labelled(self, count: int, size: int, *, channels: int, seed: int) -> tuple[Tensor, Tensor]:
        """Whole images with their classes, a pure function of the arguments.

        Args:
            count: how many.
            size: height and width in pixels.
            channels: 1 grey, 3 colour.
            seed: any integer.

        Returns:
            ``(count, channels, size, size)`` float32 in [-1, 1], and ``(count,)`` int64.
        """
        ...

    def fingerprint(self) -> str:
        """Changes whenever the images or their classes would."""
        ...


@runtime_checkable
class NamedClasses(Protocol):
    """A source whose classes have names.

    Attributes:
        classes: the name of each class in the order of the labels; empty for a label that is not in use.
    """

    @property
    def classes(self) -> Sequence[str]: ...  # noqa: D102


@runtime_checkable
class Counted(Protocol):
    """A source that knows how often it draws each class.

    Attributes:
        class_shares: of all that is drawn, ``(num_classes,)`` float64, which sum to 1.
    """

    @property
    def class_shares(self) -> Tensor: ...  # noqa: D102


def shares(labels: Tensor, num_classes: int) -> Tensor:
    """How often each class occurs among labels ``(N,)``, ``(num_classes,)`` float64."""
    return torch.bincount(labels, minlength=num_classes).double() / len(labels)


def is_labelled(source: object) -> TypeGuard[Labelled]:
    """Whether a source knows the classes of its images; a mixture does if all of its sources do."""
    return isinstance(source, Labelled) and source.num_classes > 0
