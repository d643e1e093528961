"""What models say of the task they were made for: its class, and the arguments of nets that it settles."""

from collections.abc import Mapping
from math import prod
from typing import Any, cast

from kdgen import registry
from kdgen.registry import Spec
from kdgen.types import DEFAULT_TASK, Task, UserError, text

CLASSES = ("num_classes", "num_class_embeds", "classes")
"""What nets call the argument that is their number of classes."""


def task_name(facts: Mapping[str, Any]) -> str:
    """The name of the task that a model says it was made for: restoring images where it does not say."""
    return str(facts.get("name", DEFAULT_TASK))


def task_class(facts: Mapping[str, Any]) -> type[Task]:
    """The class of the task that a model says it was made for; the contract itself for one that is not registered."""
    name = task_name(facts)
    registered = name in registry.names("task")
    return cast(type[Task], registry.get("task", name) if registered else Task)


def innermost(task: Spec) -> Spec:
    """The task that a described one wraps as its argument ``task``, however deep; itself where it wraps none."""
    inner = task.args.get("task")
    return innermost(Spec.model_validate(inner)) if isinstance(inner, Mapping) else task


def task_having(**attributes: Any) -> str:
    """The name of the task whose class has these attributes, the most general of several.

    Raises:
        UserError: if none has been registered.
    """
    if found := registry.having("task", **attributes):
        return found[0]
    words = ", ".join(f"{key}={value!r}" for key, value in attributes.items())
    raise UserError(text("no_task_having", "no task with {words} is registered: import kdgen.tasks before",
                         words=words))  # fmt: skip


def changes_images(facts: Mapping[str, Any]) -> bool:
    """Whether a model turns images into images, and draws none of its own."""
    task = task_class(facts)
    return (task.reads, task.gives, task.draws) == ("images", "images", None)


def settled_by(facts: Mapping[str, Any]) -> dict[str, Any]:
    """What a task that draws, tells classes or is of one half of autoencoders settles of its nets, by argument."""
    task = task_class(facts)
    if task.half in ("encoder", "decoder"):
        return {"half": task.half, **({"latent_channels": facts["latent"][0]} if "latent" in facts else {})}
    if task.draws is None and task.gives != "logits" and "num_classes" not in facts:
        return {}
    settled = {"size": facts["size"]} if "size" in facts else {}
    settled |= {"latent": prod(facts["latent"])} if "latent" in facts else {}
    return settled | (dict.fromkeys(CLASSES, facts["num_classes"]) if facts.get("num_classes") else {})


def check_settled(use: Spec, settled: Mapping[str, Any], *, by_size: bool) -> None:
    """Refuse what a probe does not show: another size of a net that takes any and draws its own, and fewer classes.

    Raises:
        UserError: naming the argument, and what the task has.
    """
    config: Any = use.args.get("config")
    args = {**config, "size": config.get("sample_size")} if isinstance(config, Mapping) else use.args
    size, net_size = settled.get("size"), args.get("size")
    if by_size and net_size not in (None, size, [size, size]):
        raise UserError(text("net_size", "{name} has size {own} and the images of the task {size}: leave size out of "
                             "its arguments, or give the task the same", name=use.name, own=str(net_size),
                             size=str(size)))  # fmt: skip
    for key in CLASSES:
        number, own = settled.get(key), args.get(key)
        if number is not None and isinstance(own, int) and 0 < own < number:
            raise UserError(text("net_classes", "{name} has {key} {own} and the task {number} classes: leave {key} "
                                 "out of its arguments, or set it to {number} or more", name=use.name, key=key,
                                 own=own, number=number))  # fmt: skip


def check_classes(teacher: str, made_for: Mapping[str, Any], task: Mapping[str, Any]) -> None:
    """Refuse a teacher of classes that a task does not tell, or that tells more of them.

    Args:
        teacher: what it is called.
        made_for: the task that it says it was made for.
        task: what it says of itself.

    Raises:
        UserError: with the key to change.
    """
    classes, offered = made_for.get("num_classes") or 0, task.get("num_classes") or 0
    if not classes or task.get("name") != made_for.get("name"):
        return
    if not offered:
        raise UserError(text("teacher_told_classes", "{teacher} is told one of {classes} classes and the task tells "
                             "none: set task.args.num_classes to {classes}, with images that have classes",
                             teacher=teacher, classes=classes))  # fmt: skip
    if offered > classes:
        raise UserError(text("teacher_classes", "{teacher} knows {classes} classes and the task tells {offered}: set "
                             "task.args.num_classes to {classes}, or take images of its classes", teacher=teacher,
                             classes=classes, offered=offered))  # fmt: skip
