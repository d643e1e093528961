"""What a declared net was made for: its task, checked against the task's signature and against the net itself."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import torch
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PositiveInt, ValidationError
from torch import Tensor, nn

from kdgen import registry
from kdgen.models.task_arguments import task_class, task_name
from kdgen.recipe import Checkpoint
from kdgen.registry import Spec, nearest
from kdgen.types import Text, UserError, text
from kdgen.utils.schema import explain_error


class Facts(BaseModel):
    """What is read of a model's task by whoever uses the model, whichever task it is."""

    model_config = ConfigDict(extra="ignore")

    latent: Annotated[list[PositiveInt], BeforeValidator(lambda value: [value] if type(value) is int else value)] = (
        Field([], min_length=1, description=text("fact_latent", "the shape of a latent, e.g. [100]"))
    )
    size: PositiveInt = Field(1, description=text("fact_size", "the height and width of its images, e.g. 64"))
    channels: Literal[1, 3, "both"] = Field(1, description=text("fact_channels", "1 grey, 3 colour"))
    num_classes: int = Field(0, ge=0, description=text("fact_classes", "how many classes it is told"))
    steps: list[PositiveInt] = Field(
        [], description=text("fact_steps", "steps that it was made to draw in, e.g. [1, 4]")
    )


def declared_task(spec: Checkpoint) -> dict[str, Any]:
    """The task of a declaration, complete: what it leaves out is taken from the arguments of the net.

    Raises:
        UserError: for an unknown task, key or unfit value, with the nearest right ones, and for what is missing.
    """
    if not spec.task:
        return {}
    task: dict[str, Any] = {"name": task_name(spec.task), **spec.task}
    name = str(task["name"])
    net_args = {} if spec.of_onnx else registry.spelled_out("net", spec.net).args
    try:
        if registry.names("task"):
            allowed = {"name", *Facts.model_fields, *registry.arguments("task", name)}
            if unknown := next((key for key in task if key not in allowed), None):
                raise UserError(text("no_task_key", "no key {unknown!r}{nearest}", unknown=unknown,
                                     nearest=nearest(unknown, allowed)))  # fmt: skip
            registry.check_types(
                "task", Spec(name=name, args={k: v for k, v in task.items() if k not in Facts.model_fields})
            )
        for fact in task_class(task).needed_facts:
            if task.setdefault(fact, net_args.get(fact)) is None:
                raise UserError(text("fact_missing", "{fact} is missing: say {description}", fact=fact,
                                     description=Facts.model_fields[fact].description))  # fmt: skip
        return task | Facts.model_validate(task).model_dump(exclude_unset=True)
    except ValidationError as error:
        raise _of_task(spec, explain_error(error, Facts)) from None
    except UserError as error:
        raise _of_task(spec, error.text) from None


def _of_task(spec: Checkpoint, message: Text) -> UserError:
    return UserError(text("at_key", "{key}: {message}", key=f"{spec.file}: task", message=message))


@torch.inference_mode()
def try_once(net: nn.Module, spec: Checkpoint, task: Mapping[str, Any], channels: int) -> tuple[int, int] | None:
    """Let a net that draws make one image, as its task says that it does.

    Returns:
        the channels and the size of the image; None for a net that draws nothing.

    Raises:
        UserError: for a net that does not take what its task says, or makes something else of it.
    """
    classes = task.get("num_classes") or 0
    conditions = {"label": torch.tensor([classes - 1])} if classes else {}
    made_for = task_class(task)
    if made_for.reads == "latents" and "latent" in task:
        x, what = torch.zeros(1, *task["latent"]), "latent"
    elif made_for.draws == "noise":
        x, what = torch.zeros(1, channels, task["size"], task["size"]), "size"
        conditions["sigma"] = torch.ones(1)
    else:
        return None
    try:
        out = net(x, **conditions)
    except Exception as error:  # what does not fit can surface as any error
        reason = " ".join(str(error).split())[:200]
        if classes > 1 and _takes(net, x, conditions | {"label": torch.tensor([0])}):
            raise UserError(text("task_class", "{file}: {net} does not take class {last} of {classes}: set "
                                 "task.num_classes to as many as it knows", file=spec.file, net=str(spec.net),
                                 last=classes - 1, classes=classes)) from None  # fmt: skip
        raise UserError(text("task_input", "{file}: {net} does not take {shape}, which task.{key} says: {error}",
                             file=spec.file, net=str(spec.net), shape=str(tuple(x.shape)), key=what,
                             error=reason)) from None  # fmt: skip
    if out.dim() != 4 or out.shape[1] not in (1, 3) or (what == "size" and out.shape != x.shape):
        raise UserError(text("task_output", "{file}: {net} makes {given} of {shown}, which is no image of its task: "
                             "check task and net", file=spec.file, net=str(spec.net), given=str(tuple(out.shape)),
                             shown=str(tuple(x.shape))))  # fmt: skip
    return int(out.shape[1]), int(out.shape[-1])


def _takes(net: nn.Module, x: Tensor, conditions: Mapping[str, Tensor]) -> bool:
    try:
        net(x, **conditions)
    except Exception:  # a foreign net's code raises whatever it does
        return False
    return True
