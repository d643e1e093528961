"""The end of a run: every net measured, the report, the card and the pictures."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import torch

from kdgen.metrics.cost import num_learning, num_params
from kdgen.models.adapters.lora import Lora
from kdgen.models.config import read_config
from kdgen.models.model import Model, load
from kdgen.recipe import OF_TEACHER, STARTS, Recipe
from kdgen.report import sample_grids
from kdgen.report.compare import Contender, Role, Seconds, assess
from kdgen.report.loss_curves import curves
from kdgen.report.model_card import card
from kdgen.training.best_student import best_and_last
from kdgen.training.chain import Link
from kdgen.training.run_context import RunContext
from kdgen.training.run_state import RunState
from kdgen.types import Event, Net, Text, text
from kdgen.utils.convert import write_text
from kdgen.utils.devices import contiguous, machine
from kdgen.utils.references import without_folders

Chain = Sequence[tuple[str, Recipe]]

OTHER_PARTS = 2
"""Parts of the report beside measuring each net: comparing them, pictures."""

ON_CPU = text(
    "on_cpu", "The teacher was held in slices by all processes; its own figures and latency were taken on the CPU."
)
INHERITED = text(
    "inherited", "The controls start from the teacher's weights as the student does, and never see its answers."
)

NEW_NOISE = text(
    "new_noise",
    "At every step the controls see images under new noise or damage, and the student those again that the teacher "
    "answered.",
)


def made_in(state: RunState, chain: Chain, phase: str) -> float:
    """Seconds that made a net: its images, its answers and its training, and all that of the nets before it."""
    return state.seconds([name for name, _ in chain] if phase == "student" else [phase])


class RunReport:
    """The report of a run.

    Args:
        recipe: of the run.
        place: where.
        original: who taught, or None.
        others: further teachers by name.
        chain: the nets that were trained, each with its recipe.
        link: the last of them.
        muted: stages in which the ground truth had no part.
    """

    def __init__(
        self,
        recipe: Recipe,
        place: RunContext,
        original: Model | None,
        others: Mapping[str, Model],
        chain: Chain,
        link: Link,
        muted: Sequence[str],
    ) -> None:
        self.recipe, self.place, self.original, self.others, self.chain = recipe, place, original, others, chain
        self.link, self.muted = link, muted

    def events(self, *, guided: bool) -> Iterator[Event]:
        """Measure every net and write the report and its pictures: an event for each part, and one at the end."""
        place, task, original, notes = self.place, self.place.task, self.original, self._notes()
        state = place.journal.state
        nets: list[Contender] = []
        self.link.release()
        if original is not None and place.reference is not None:
            contiguous(original.net)
            nets.append(Contender(role="teacher", name=original.name, net=place.reference, label="teacher"))
        for name, part in self._measured.items():
            other = self.others[name]
            contiguous(other.net)
            further = Contender(role="further_teacher", name=other.name, net=other.net, label=name)
            nets.append(replace(further, row=further.measured(task.parts[part])))
        roles: dict[str, Role] = {phase: "assistant" for phase, _ in self.chain[:-1]}
        roles |= {"student": "student", "control_steps": "control_steps", "control_seconds": "control_seconds"}
        for phase, role in roles.items():
            if place.finished(phase):
                model = load(place.home(phase)).to(place.device)
                nets.append(Contender(role=role, name=model.name, net=model.net, label=phase,
                                      seconds=made_in(state, self.chain, phase),
                                      steps=state.phase(phase).steps,
                                      kept=state.phase(phase).kept_step))  # fmt: skip
        student = state.phase("student")
        spent = Seconds(
            answers=student.answering,
            training=student.seconds,
            answers_from_disk=bool(student.answers_from_disk),
            drawing=state.phase(self.chain[0][0]).drawing,
            assistants=sum(each.answering + each.seconds for each in map(state.phase, dict(self.chain[:-1]))),
        )
        notes += [_learnt(each.net) for each in nets if each.role == "student"]
        for number, each in enumerate(nets):
            yield self._part(each.label, number, len(nets))
            nets[number] = replace(each, row=each.measured(task, reference=place.reference))
        yield self._part("compare", len(nets), len(nets))
        report = assess(
            task,
            nets,
            title=str(without_folders(self.recipe).task),
            reference=place.reference,
            ground_truth=guided,
            seconds=spent if original is not None else None,
            notes=[*filter(None, [*notes, best_and_last(state, roles, place.primary_metric)])],
            machine=machine(place.device),
        )
        report.save(place.folder)
        source, home = original.home if original is not None else None, place.home("student")
        described = card(report, without_folders(self.recipe), config=read_config(home), teacher=source)
        write_text(home / "README.md", described)
        folder = place.folder
        yield self._part("pictures", len(nets) + 1, len(nets))
        shown = {each.label: each.net for each in nets if each.role != "further_teacher"}
        sample_grids.picture(folder / "samples.png", task, shown, reference=place.reference)
        curves(folder / "curves.png", folder / "metrics.jsonl", primary_metric=place.primary_metric)
        yield Event(kind="report", data={"path": str(folder / "report.json"), "markdown": str(folder / "report.md"),
                                         "samples": str(folder / "samples.png"),
                                         "curves": str(folder / "curves.png")})  # fmt: skip

    @property
    def _measured(self) -> dict[str, str]:
        """Further teachers that have a row of their own, of another part of the task than the main one, by name."""
        return {name: part for name, part in self.place.parts.items() if part != next(iter(self.place.task.parts))}

    def _notes(self) -> list[Text]:
        """What else the report says of how nets were made."""
        begun = text("begun_from", "The student starts from the weights of {name}, and so do its controls where there "
                     "are any.", name=self.link.start.name if self.link.start else "")  # fmt: skip
        unmeasured = {name: each for name, each in self.others.items() if name not in self._measured}
        also = text("also", "Further teachers, that the table does not measure: {names:, }.",
                    names=[f"{name} ({each.name})" for name, each in unmeasured.items()])  # fmt: skip
        facts = {
            begun: self.recipe.init not in STARTS,
            INHERITED: self.recipe.init in OF_TEACHER and self.place.finished("control_seconds"),
            NEW_NOISE: self.place.finished("control_seconds") and self._sees_the_same(),
            ON_CPU: self.recipe.shard_teacher and self.place.device.type != "cpu",
            also: bool(unmeasured),
        }
        account = [self.link.teacher.account()] if self.link.teacher is not None and self.link.teacher.tried else []
        return [*self._muted(), *(line for line, holds in facts.items() if holds), *account, *self._answered()]

    def _sees_the_same(self) -> bool:
        """Whether what the task draws stays as the teacher was asked about it, and is drawn anew without one."""
        if not self.recipe.cache.inputs:
            return False
        alone, taught = self.place, self.link.place
        anew, same = alone.task.resample_noise(alone.probe, seed=0), taught.task.resample_view(taught.probe, seed=0)
        return not torch.equal(anew.x, alone.probe.x) and torch.equal(same.x, taught.probe.x)

    def _answered(self) -> list[Text]:
        """How many answers the teachers' seconds sufficed for, and whether these were turned with their inputs."""
        lines = list[Text]()
        for phase, _ in self.chain:
            noted = self.place.journal.phase(phase)
            lines += [noted.short, *(noted.equivariance or {}).get("notes", ())]
        return list(dict.fromkeys(filter(None, lines)))

    def _muted(self) -> list[Text]:
        """A line where there was a ground truth that had no part in the student's training, or not in some stages."""
        if self.place.probe.y is None or not self.muted:
            return []
        when = text("throughout", "throughout") if len(self.muted) == len(self.recipe.stages) else \
            text("in_stages", "in the stages {names:, }", names=list(self.muted))  # fmt: skip
        return [text("alone", "Alpha stayed at 1 {when}: the teacher was the only guide, the distance to the ground "
                     "truth did not count.", when=when)]  # fmt: skip

    def _part(self, name: str, done: int, total: int) -> Event:
        """A part of the report that begins: a net that is measured, or ``pictures``, which come after all of these."""
        total += OTHER_PARTS
        return Event(kind="part", phase="report", progress=done / total,
                     data={"part": name, "done": done, "total": total})  # fmt: skip


def _learnt(net: Net) -> Text:
    """How much of a LoRA was trained; empty for any other net."""
    if not isinstance(net, Lora):
        return Text("")
    learnt, whole = num_learning(net), num_params(net)
    return text("learnt", "Of the student's {whole:,} parameters {learnt:,} were trained, {share:.2%}; the others are "
                "those of the model it is for, which it and its controls begin as.", whole=whole, learnt=learnt,
                share=learnt / whole)  # fmt: skip
