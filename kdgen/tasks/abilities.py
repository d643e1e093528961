"""What some tasks say beside what every task does, as protocols."""

from collections.abc import Iterator
from typing import Any, Protocol, runtime_checkable

from kdgen.models.model import Model
from kdgen.types import Batch, Net


@runtime_checkable
class Sourced(Protocol):
    """A task that trains on a source of images.

    Attributes:
        source: an ``Images`` or ``Labelled``; None for a task that was given none and cannot be trained in.
    """

    @property
    def source(self) -> object: ...  # noqa: D102


@runtime_checkable
class Compared(Protocol):
    """A task whose results are compared with images of the data.

    Attributes:
        images: the ``Images`` or ``Gallery`` of these; None where there are none.
    """

    @property
    def images(self) -> object: ...  # noqa: D102


@runtime_checkable
class Showing(Protocol):
    """A task that has images to be measured on that it can show."""

    def evaluation_images(self, *, seed: int = 0, limit: int | None = None) -> Iterator[tuple[str, Batch]]:
        """Name and one-image batch of each."""
        ...


@runtime_checkable
class Viewed(Protocol):
    """A task whose nets may see images each in a way of its own."""

    def shown_to(self, net: Net, batch: Batch) -> Batch:
        """An evaluation image as a net is shown it."""
        ...


@runtime_checkable
class Opening(Protocol):
    """A task that opens a model, which often is the teacher too.

    Attributes:
        model: what it is called.
        opened: the model.
    """

    @property
    def model(self) -> object: ...  # noqa: D102

    @property
    def opened(self) -> Model: ...  # noqa: D102


def shown_by(task: object, net: Net, batch: Batch, *, teaches: bool) -> Batch:
    """A batch of a task as a net is shown it: in a way of its own, or as the teacher is, or as students are."""
    shown = task.shown_to(net, batch) if isinstance(task, Viewed) else batch
    return batch.for_teacher() if teaches and shown is batch else shown


def opened_by(task: object, reference: Any) -> Model | None:
    """The model that a reference names where the task has it open, so that it is held once; else None."""
    return task.opened if isinstance(task, Opening) and task.model == reference else None


def image_sources(task: object) -> list[object]:
    """The sources of images that a task has: to train on, and to be compared with."""
    trained = [task.source] if isinstance(task, Sourced) else []
    return [*trained, *([task.images] if isinstance(task, Compared) else [])]
