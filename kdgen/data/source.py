"""What a source of images is, and how a recipe's description becomes one."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Protocol, runtime_checkable

from pydantic import Field, ValidationError
from torch import Tensor

from kdgen.data.labelled import Labelled
from kdgen.registry import Spec, build
from kdgen.types import UserError, text


@runtime_checkable
class Images(Protocol):
    """A source of training patches."""

    def patches(self, count: int, size: int, *, channels: int, seed: int) -> Tensor:
        """Square patches, a pure function of the arguments.

        Args:
            count: how many.
            size: height and width in pixels.
            channels: 1 grey, 3 colour.
            seed: any integer.

        Returns:
            ``(count, channels, size, size)`` float32, in [-1, 1] unless the images themselves go beyond.
        """
        ...

    def fingerprint(self) -> str:
        """Changes whenever the patches would: with the arguments, and with the files behind them."""
        ...


@runtime_checkable
class Gallery(Protocol):
    """A source that holds whole images, to evaluate on."""

    def images(self, channels: int) -> Iterator[tuple[str, Tensor]]:
        """All images in a fixed order, by name, each ``(1, channels, H, W)`` float32 as ``Images.patches`` gives."""
        ...


@runtime_checkable
class Coupled(Protocol):
    """A source that knows the noise that each of its images was made of."""

    def pairs(self, count: int, size: int, *, channels: int, seed: int) -> tuple[Tensor, Tensor]:
        """Images as ``Images.patches`` gives, and their noise, standard normal and of the same shape.

        Raises:
            UserError: for another size or other channels than the images were made in.
        """
        ...


@runtime_checkable
class Gapped(Protocol):
    """A source some of whose readings may be missing.

    Attributes:
        gaps: whether its images are NaN there.
    """

    gaps: bool


@runtime_checkable
class Embedded(Protocol):
    """A source that can tell nets more of its pictures than these show."""

    def embedded(self, count: int, *, seed: int) -> Mapping[str, Tensor]:
        """Conditions ``(count, ...)`` by name of the images that ``Labelled.labelled`` gives by these arguments."""
        ...


@runtime_checkable
class Mixed(Protocol):
    """A source that draws from others.

    Attributes:
        sources: these others, each an ``Images``.
    """

    @property
    def sources(self) -> Sequence[Images]: ...  # noqa: D102


@runtime_checkable
class Stacked(Protocol):
    """A source of photographs with maps behind them.

    Attributes:
        photograph: how many of the first channels are those of the photograph.
    """

    photograph: int


def photograph_of(source: object) -> int | None:
    """How many of the first channels of a source's images are those of a photograph; None for all."""
    if isinstance(source, Stacked):
        return source.photograph
    each = map(photograph_of, source.sources) if isinstance(source, Mixed) else ()
    return min((count for count in each if count is not None), default=None)


ImageSource = Annotated[
    Mapping[str, Any] | Spec | Images | Gallery | Labelled,
    Field(description='a source of images, or described as {"name": ..., "args": {...}}'),
]
"""An argument of which ``make_images`` makes a source."""


def make_images(source: Any) -> Any:
    """A source from its description ``{"name": ..., "args": {...}}``; a source itself is passed through.

    Raises:
        UserError: for a malformed description, an unknown name, or arguments that do not fit.
    """
    if not isinstance(source, Spec | Mapping):
        if not isinstance(source, Images | Gallery):
            raise UserError(text("no_image_source", 'images are described as {{"name": ..., "args": {{...}}}}, not '
                                 "as {source}", source=repr(source)))  # fmt: skip
        return source
    try:
        use = Spec.model_validate(source)
    except ValidationError:
        raise UserError(text("no_image_source", 'images are described as {{"name": ..., "args": {{...}}}}, not as '
                             "{source}", source=repr(source))) from None  # fmt: skip
    return build("images", use)


NOTHING_TO_EVALUATE = text(
    "nothing_to_evaluate", "there is no image to evaluate on: give a folder with readable images"
)


def no_patches(source: object) -> UserError:
    """What is to be raised for a source that is no ``Images``."""
    return UserError(text("no_patches", "{type} gives no patches to train on: name another source of images",
                          type=type(source).__name__))  # fmt: skip


def no_whole_images(source: object) -> UserError:
    """What is to be raised for a source that is no ``Gallery``."""
    return UserError(text("no_whole_images", "{type} holds no whole images: evaluate on a folder or photographs",
                          type=type(source).__name__))  # fmt: skip
