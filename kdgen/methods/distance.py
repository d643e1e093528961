"""What the methods share: distances per image, resampling, and questions put to a net."""

from collections.abc import Mapping
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from kdgen.types import Batch, Net, UserError

Distance = Literal["l1", "l2", "charbonnier", "huber"]


def check_choice(method: str, argument: str, value: object, choices: tuple[str, ...]) -> None:
    """Refuse a value that is none of the choices.

    Raises:
        UserError: with the choices.
    """
    if value not in choices:
        raise UserError(f"{method}: {argument} is one of {', '.join(choices)}, not {value!r}")


def check_distance(method: str, argument: str, value: object) -> None:
    """Refuse what is not the name of a distance. Raises UserError as ``check_choice`` does."""
    check_choice(method, argument, value, get_args(Distance))


def check_number(method: str, argument: str, value: object, low: float, high: float = float("inf")) -> None:
    """Refuse what is not a number in [low, high].

    Raises:
        UserError: with the range.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        limits = f"of at least {low:g}" if high == float("inf") else f"in [{low:g}, {high:g}]"
        raise UserError(f"{method}: {argument} is a number {limits}, not {value!r}")


def check_count(method: str, argument: str, value: object) -> None:
    """Refuse what is not a whole number of at least 1.

    Raises:
        UserError: naming the argument.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise UserError(f"{method}: {argument} is a whole number of at least 1, not {value!r}")


def distance(name: Distance, a: Tensor, b: Tensor, *, epsilon: float = 1e-3, delta: float = 0.1) -> Tensor:
    """The mean distance of two tensors, image by image.

    With ``d = a - b``: l1 is ``|d|``; l2 is ``d^2``; charbonnier is ``sqrt(d^2 + epsilon^2)`` (the rho of LapSRN,
    Lai et al. 2017), which is ``epsilon`` and not zero where the two agree; huber is ``d^2 / 2`` up to ``delta`` and
    ``delta (|d| - delta / 2)`` beyond (Huber 1964).

    Args:
        name: which distance.
        a: ``(B, ...)`` of any dtype.
        b: of the same shape.
        epsilon: for charbonnier, in the units of ``a``.
        delta: for huber, in the units of ``a``.

    Returns:
        ``(B,)``, float32.
    """
    difference = a.float() - b.float()
    if name == "l1":
        each = difference.abs()
    elif name == "l2":
        each = difference.square()
    elif name == "charbonnier":
        each = (difference.square() + epsilon**2).sqrt()
    else:
        each = F.huber_loss(difference, torch.zeros_like(difference), reduction="none", delta=delta)
    return each.flatten(1).mean(1)


def resample(image: Tensor, like: Tensor) -> Tensor:
    """An image or feature map ``(B, C, H, W)`` at the height and width of another, float32, bilinear.

    Shrinking averages over the pixels that a new one covers. Tensors without height and width pass unchanged.
    """
    image = image.float()
    if image.dim() != 4 or image.shape[-2:] == like.shape[-2:]:
        return image
    height, width = like.shape[-2:]
    return F.interpolate(image, size=(height, width), mode="bilinear", align_corners=False, antialias=True)


def ask(net: Net, x: Tensor, cond: Mapping[str, Tensor]) -> Tensor:
    """A net's answer to ``x`` ``(B, C, H, W)`` under ``cond``, float32."""
    answer: Tensor = net(x, **cond)
    return answer.float()


def check_outputs(method: str, student: Tensor, teacher: Tensor, *, images: bool = False) -> None:
    """Refuse outputs that cannot be compared; sizes may differ, ranks and channels may not.

    Args:
        method: the method's name, for the message.
        student: the student's output, ``(B, C, ...)``.
        teacher: the teacher's output, ``(B, C, ...)``.
        images: whether both must be images ``(B, C, H, W)``.

    Raises:
        UserError: naming both shapes.
    """
    student_shape, teacher_shape = tuple(student.shape[1:]), tuple(teacher.shape[1:])
    if images and student.dim() != 4:
        raise UserError(f"{method} compares images (C, H, W), but the student gives {student_shape}: leave it out")
    if len(student_shape) != len(teacher_shape):
        raise UserError(f"{method} cannot compare outputs {student_shape} of the student and {teacher_shape} of the "
                        "teacher: give nets whose outputs are of one kind")  # fmt: skip
    if student_shape[0] != teacher_shape[0]:
        raise UserError(f"{method} cannot compare {student_shape[0]} channels of the student's output with "
                        f"{teacher_shape[0]} of the teacher's: choose a student with {teacher_shape[0]}")  # fmt: skip


def check_same_view(method: str, batch: Batch) -> None:
    """Refuse a batch whose teacher sees something else than its student.

    Raises:
        UserError: for a batch with ``teacher_x``.
    """
    if batch.teacher_x is not None:
        raise UserError(f"{method} asks both nets about one input, but here the teacher has a view of its own: "
                        "use another method")  # fmt: skip
