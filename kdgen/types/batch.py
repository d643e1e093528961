"""What a net is asked, and what is known of the right answer."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor, device


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """One batch of a task.

    Attributes:
        x: what the student sees: images ``(B, C, H, W)``, in [-1, 1] before noise, or latents ``(B, Z)``.
        teacher_x: what the teacher sees, where it differs: a cleaner, larger or other-modality view.
        y: the ground truth of ``x``, ``(B, C, H, W)`` in [-1, 1] or labels ``(B,)``, where there is any.
        real: images of the data ``(B, C, H, W)`` in [-1, 1] that belong to no ``x``, for losses on distributions.
        weight: how much the squared error of each example's output counts, ``(B,)``; equally where absent.
        cond: conditions for both nets by keyword, each ``(B, ...)``: ``sigma``, ``label``, ``mask``.
        teacher_cond: those of the teacher, where they differ: what its own view tells, and the student is not to know.
    """

    x: Tensor
    teacher_x: Tensor | None = None
    y: Tensor | None = None
    real: Tensor | None = None
    weight: Tensor | None = None
    cond: Mapping[str, Tensor] = field(default_factory=dict)
    teacher_cond: Mapping[str, Tensor] | None = None

    def for_teacher(self) -> "Batch":
        """The batch as the teacher is asked: its own view is ``x``, and its own conditions are ``cond``."""
        return replace(
            self,
            x=self.x if self.teacher_x is None else self.teacher_x,
            cond=self.cond if self.teacher_cond is None else self.teacher_cond,
            teacher_x=None,
            teacher_cond=None,
        )

    def _columns(self) -> dict[str, Any]:
        """What it holds of tensors by name, but its conditions."""
        named = ("x", "teacher_x", "y", "real", "weight")
        return {name: t for name in named if (t := getattr(self, name)) is not None}

    def conditions(self) -> dict[str, Mapping[str, Tensor]]:
        """What it tells the nets, ``cond``, and the teacher apart where there is any, ``teacher_cond``."""
        return {"cond": self.cond, **({} if self.teacher_cond is None else {"teacher_cond": self.teacher_cond})}

    def to(self, where: device) -> "Batch":
        """The same batch on another device."""
        moved = {name: t.to(where, non_blocking=True) for name, t in self._columns().items()}
        told: dict[str, Any] = {
            name: {key: t.to(where, non_blocking=True) for key, t in each.items()}
            for name, each in self.conditions().items()
        }
        return replace(self, **moved, **told)

    def split(self, parts: int) -> "list[Batch]":
        """The batch in so many successive parts, each as even as can be."""
        columns = {name: t.tensor_split(parts) for name, t in self._columns().items()}
        told = {name: {key: t.tensor_split(parts) for key, t in each.items()}
                for name, each in self.conditions().items()}  # fmt: skip
        parted: list[dict[str, Any]] = [
            {name: {key: cut[i] for key, cut in each.items()} for name, each in told.items()} for i in range(parts)
        ]
        return [Batch(**{name: cut[i] for name, cut in columns.items()}, **parted[i]) for i in range(parts)]
