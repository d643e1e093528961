"""Arguments of nets that a task settles: the size of its images and latents, and its number of classes."""

from collections.abc import Mapping
from math import prod
from typing import Any

from kdgen.registry import Spec
from kdgen.types import UserError

CLASSES = ("num_classes", "num_class_embeds", "classes")
"""What nets call the argument that is their number of classes."""


def settled_by(task: Mapping[str, Any]) -> dict[str, Any]:
    """What a task that draws or classifies settles of its nets, by argument."""
    if task.get("name") not in ("generate", "diffuse", "classify"):
        return {}
    settled = {"size": task["size"], **({"latent": prod(task["latent"])} if "latent" in task else {})}
    return settled | (dict.fromkeys(CLASSES, task["num_classes"]) if task.get("num_classes") else {})


def check_settled(use: Spec, settled: Mapping[str, Any], *, by_size: bool) -> None:
    """Refuse what a probe does not show: another size of a net that takes any and draws its own, and fewer classes.

    Raises:
        UserError: naming the argument, and what the task has.
    """
    config: Any = use.args.get("config")
    given = {**config, "size": config.get("sample_size")} if isinstance(config, Mapping) else use.args
    size, mine = settled.get("size"), given.get("size")
    if by_size and mine not in (None, size, [size, size]):
        raise UserError(f"{use.name} has size {mine} and the images of the task {size}: leave size out of its "
                        "arguments, or give the task the same")  # fmt: skip
    for key in CLASSES:
        number, own = settled.get(key), given.get(key)
        if number is not None and isinstance(own, int) and 0 < own < number:
            raise UserError(f"{use.name} has {key} {own} and the task {number} classes: leave {key} out of its "
                            f"arguments, or set it to {number} or more")  # fmt: skip


def check_classes(teacher: str, made_for: Mapping[str, Any], task: Mapping[str, Any]) -> None:
    """Refuse a teacher of classes that a task does not tell, or that tells more of them.

    Args:
        teacher: what it is called.
        made_for: the task that it says it was made for.
        task: what it says of itself.

    Raises:
        UserError: with the key to change.
    """
    theirs, told = made_for.get("num_classes") or 0, task.get("num_classes") or 0
    if not theirs or task.get("name") != made_for.get("name"):
        return
    if not told:
        raise UserError(f"{teacher} is told one of {theirs} classes and the task tells none: set "
                        f"task.args.num_classes to {theirs}, with images that have classes")  # fmt: skip
    if told > theirs:
        raise UserError(f"{teacher} knows {theirs} classes and the task tells {told}: set task.args.num_classes "
                        f"to {theirs}, or take images of its classes")  # fmt: skip
