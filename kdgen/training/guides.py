"""Who guides a method, and towards what: its teacher among several, and the part of the task that it compares."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from torch import Tensor

from kdgen.models.teachers import PartNet, is_other
from kdgen.recipe.parts import Weighting
from kdgen.training.teacher_weighting import weights
from kdgen.types import Batch, DistillationInputs, LossInputs, Task, UserError, text
from kdgen.utils.devices import Autocast
from kdgen.utils.distance import resample


@dataclass(frozen=True, slots=True)
class Guide:
    """What guides a method.

    Attributes:
        path: where its teacher stands in the net that is asked, empty for the net itself.
        part: of the task that it is about; None for a task without parts.
    """

    path: str
    part: str | None = None

    @property
    def of_other(self) -> bool:
        """Whether its teacher is one whose output is not that of all."""
        return is_other(self.path)

    def within(self, path: str) -> str:
        """Where a layer of its teacher stands in the net that is asked."""
        return f"{self.path}.{path}" if self.path else path

    def answer(self, inputs: DistillationInputs) -> Tensor:
        """What its teacher answered in a step, float32. Raises UserError where it was not asked."""
        features = inputs.teacher_features
        return features[self.path].float() if self.path in features else inputs.teacher

    def seen(self, task: Task, batch: Batch) -> Batch:
        """A batch as it is about the part."""
        return batch if self.part is None else task.about(batch, self.part)

    def view(self, inputs: DistillationInputs, task: Task) -> DistillationInputs:
        """A step as the method sees it: its own teacher for all that were asked, and its part for the whole answer."""
        if self.path:
            asked, features, start = inputs.teacher_net, inputs.teacher_features, self.within("")
            assert isinstance(asked, Autocast)
            inputs = replace(
                inputs,
                teacher_output=features[self.path].float() if self.path in features else inputs.teacher_output,
                teacher_features={
                    path.removeprefix(start): value for path, value in features.items() if path.startswith(start)
                },
                teacher_net=asked.part(self.path),
            )
        if self.part is None:
            return inputs
        whole = inputs.student_output
        return replace(
            inputs,
            batch=self.seen(task, inputs.batch),
            student_output=None if whole is None else task.read(whole, self.part),
            student_net=PartNet(inputs.student_net, task, self.part),
            student_ema=PartNet(inputs.student_ema, task, self.part),
        )


class Panel:
    """The teachers of a stage whose answers say how much each example counts: where several answer one thing.

    Args:
        kind: how; None for equally.
        guides: of the methods by key.
        task: whose parts they are about.

    Raises:
        UserError: for confidence in what is no logits.
    """

    def __init__(self, kind: Weighting | None, guides: Mapping[str, Guide], task: Task) -> None:
        self.kind, self.guides, self.task = kind, guides, task
        about: dict[str | None, list[Guide]] = {}
        main = next(iter(task.parts), None)
        for guide in dict.fromkeys(guides.values()):
            if kind is not None and (guide.of_other or guide.part == main):
                about.setdefault(guide.part, []).append(guide)
        self.panels = {part: panel for part, panel in about.items() if len(panel) > 1}
        self.asked = frozenset(guide for panel in self.panels.values() for guide in panel)
        if kind == "confidence" and not all(map(self._tells, self.panels)):
            raise UserError(text("confidence_of_logits", "weighting confidence is for teachers that say classes, and "
                                 "several of these make images: set it to agreement or null"))  # fmt: skip

    @property
    def reads(self) -> frozenset[str]:
        """Which outputs are to be computed for it."""
        return frozenset({"teacher"} if self.asked else ())

    def __call__(self, inputs: LossInputs) -> dict[str, Tensor]:
        """How much each example counts in each method, ``(B,)`` by key; nothing of those in which all count equally."""
        shares: dict[Guide, Tensor] = {}
        for part, panel in self.panels.items():
            assert isinstance(inputs, DistillationInputs), "a step of a stage with methods has a teacher"
            answers, logits = [guide.answer(inputs) for guide in panel], self._tells(part)
            fewest = min(answer.shape[1] for answer in answers)
            alike = [resample(answer[:, :fewest], answers[0]) for answer in answers]
            truth = panel[0].seen(self.task, inputs.batch).y if logits else None
            known = weights(self.kind or "agreement", alike, truth, logits=logits)
            shares |= dict(zip(panel, known, strict=True))
        return {key: shares[guide] for key, guide in self.guides.items() if guide in shares}

    def _tells(self, part: str | None) -> bool:
        """Whether answers about a part are logits."""
        return (self.task if part is None else self.task.parts[part]).gives == "logits"


__all__ = ["Guide", "Panel"]
