"""What the methods share: questions put to nets, and pairs of nets that are refused."""

from collections.abc import Mapping

from torch import Tensor

from kdgen.types import Batch, Net, UserError, text
from kdgen.utils.conditions import call


def ask(net: Net, x: Tensor, cond: Mapping[str, Tensor]) -> Tensor:
    """A net's answer to ``x`` ``(B, C, H, W)`` under ``cond``, float32."""
    return call(net, x, cond).float()


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
        raise UserError(text("compares_images", "{method} compares images (C, H, W), but the student gives {shape}: "
                             "leave it out", method=method, shape=str(student_shape)))  # fmt: skip
    if len(student_shape) != len(teacher_shape):
        raise UserError(text("outputs_differ", "{method} cannot compare outputs {student} of the student and "
                             "{teacher} of the teacher: give nets whose outputs are of one kind", method=method,
                             student=str(student_shape), teacher=str(teacher_shape)))  # fmt: skip
    if student_shape[0] != teacher_shape[0]:
        raise UserError(text("output_channels_differ", "{method} cannot compare {student} channels of the student's "
                             "output with {teacher} of the teacher's: choose a student with {teacher}", method=method,
                             student=student_shape[0], teacher=teacher_shape[0]))  # fmt: skip


def check_same_view(method: str, batch: Batch) -> None:
    """Refuse a batch whose teacher sees something else than its student.

    Raises:
        UserError: for a batch with ``teacher_x``.
    """
    if batch.teacher_x is not None:
        raise UserError(text("teacher_s_own_view", "{method} asks both nets about one input, but here the teacher "
                             "has a view of its own: use another method", method=method))  # fmt: skip
