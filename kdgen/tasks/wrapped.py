"""What a task around another takes over of that."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, ValidationError
from torch import Tensor

from kdgen import registry
from kdgen.models.task_arguments import innermost, task_class
from kdgen.registry import Spec
from kdgen.tasks.abilities import Sourced
from kdgen.types import DEFAULT_TASK, Batch, Task, UserError, text

TaskSource = Annotated[
    Mapping[str, Any] | Spec | Task, Field(description='a task, or described as {"name": ..., "args": {...}}')
]
OF_INNER = ("reads", "gives", "scales", "taught_alone", "tiled", "half", "pipeline_tag", "baseline_name",
            "usual_methods", "equivariant", "primary_metric", "taught_primary_metric", "quick_eval_images",
            "calls", "teacher_calls", "needs", "dense", "parts", "read", "about", "pictured")  # fmt: skip
"""What of the contract is the wrapped task's."""


class Wrapped(Task):
    """A task around another of images.

    Attributes:
        inner: the task within.
    """

    channels: int
    equivariant: bool
    primary_metric: str
    taught_primary_metric: str
    needs: frozenset[str]

    def _take(self, task: TaskSource | None) -> None:
        """Take over a task, or the one of a description. Raises UserError for such as draw, or read no images."""
        self.inner = task if isinstance(task, Task) else _built(task)
        if self.inner.reads != "images" or self.inner.draws is not None:
            raise UserError(text("views_of_images", "views are of images, and nets of the task {task} read none: wrap "
                                 "one whose nets do", task=str(self.inner.describe()["name"])))  # fmt: skip
        vars(self).update({name: getattr(self.inner, name) for name in OF_INNER})
        if isinstance(self.inner, Sourced):
            self.source = self.inner.source

    def loss(self, out: Tensor, batch: Batch) -> Tensor | None:
        """That of the task within, ``(B,)``."""
        return self.inner.loss(out, batch)

    @classmethod
    def evaluation_source(cls, args: Mapping[str, Any]) -> Any:
        """That of the task within."""
        inner = innermost(Spec.model_validate(args.get("task") or {"name": DEFAULT_TASK}))
        return task_class({"name": inner.name}).evaluation_source(inner.args)


def _built(task: Any) -> Task:
    try:
        built: Task = registry.build("task", Spec.model_validate(task or {"name": DEFAULT_TASK}))
    except ValidationError:
        raise UserError(text("no_task_description", 'a task is described as {{"name": ..., "args": {{...}}}}, not as '
                             "{given}", given=repr(task))) from None  # fmt: skip
    return built


__all__ = ["TaskSource", "Wrapped"]
