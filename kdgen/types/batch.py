"""What a net is asked, and what is known of the right answer."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor, device

FIELDS = ("x", "teacher_x", "y", "real", "weight")
"""What it holds that is one tensor each."""

GROUPS = ("truths", "part_x", "cond", "teacher_cond")
"""What a batch holds of tensors by names of their own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """One batch of a task.

    Attributes:
        x: what the student sees: images ``(B, C, H, W)``, in [-1, 1] before noise, or latents ``(B, Z)``.
        teacher_x: what the teacher sees, where it differs: a cleaner, larger or other-modality view.
        y: the ground truth of ``x``, ``(B, C, H, W)`` in [-1, 1] or labels ``(B,)``, where there is any.
        real: images of the data ``(B, C, H, W)`` in [-1, 1] that belong to no ``x``, for losses on distributions.
        weight: how much the squared error of each example's output counts, ``(B,)``; equally where absent.
        truths: the ground truth of further parts of a task, by the names of these, as ``y``.
        part_x: what teachers of further parts see, by the names of these, where the first one sees something else.
        cond: conditions for both nets by keyword, each ``(B, ...)``: ``sigma``, ``label``, ``mask``.
        teacher_cond: those of the teacher, where they differ: what its own view tells, and the student is not to know.
    """

    x: Tensor
    teacher_x: Tensor | None = None
    y: Tensor | None = None
    real: Tensor | None = None
    weight: Tensor | None = None
    truths: Mapping[str, Tensor] = field(default_factory=dict)
    part_x: Mapping[str, Tensor] = field(default_factory=dict)
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

    def columns(self) -> dict[str, Tensor]:
        """All its tensors by name: ``x``, ``y`` and so on, ``cond.sigma``, ``truths.classify``."""
        alone = zip(FIELDS, (self.x, self.teacher_x, self.y, self.real, self.weight), strict=True)
        grouped = zip(GROUPS, (self.truths, self.part_x, self.cond, self.teacher_cond or {}), strict=True)
        return {name: t for name, t in alone if t is not None} | {
            f"{group}.{name}": t for group, tensors in grouped for name, t in tensors.items()
        }

    @classmethod
    def of_columns(cls, columns: Mapping[str, Tensor]) -> "Batch":
        """The batch that gave these ``columns``, whatever else stands among them."""
        named = [(*name.partition("."), t) for name, t in columns.items()]
        groups = {each: {name: t for group, _, name, t in named if group == each} for each in GROUPS}
        alone: dict[str, Any] = {group: t for group, dot, _, t in named if not dot and group in FIELDS}
        own = groups.pop("teacher_cond") or None
        return cls(**alone, truths=groups["truths"], part_x=groups["part_x"], cond=groups["cond"], teacher_cond=own)

    def conditions(self) -> dict[str, Mapping[str, Tensor]]:
        """What it tells the nets, ``cond``, and the teacher apart where there is any, ``teacher_cond``."""
        return {"cond": self.cond, **({} if self.teacher_cond is None else {"teacher_cond": self.teacher_cond})}

    def to(self, where: device) -> "Batch":
        """The same batch on another device."""
        return self.of_columns({name: t.to(where, non_blocking=True) for name, t in self.columns().items()})

    def split(self, parts: int) -> "list[Batch]":
        """The batch in so many successive parts, each as even as can be."""
        cut = {name: t.tensor_split(parts) for name, t in self.columns().items()}
        return [self.of_columns({name: pieces[i] for name, pieces in cut.items()}) for i in range(parts)]
