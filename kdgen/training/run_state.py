"""What is known of a run: how it computes, and of each phase what it took and how it ended."""

from collections.abc import Iterable, Mapping
from typing import Any, Literal

from pydantic import Field

from kdgen.types import Text
from kdgen.utils.schema import Spoken, Strict


class Choice(Strict):
    """The state of a net that was kept, where the best is not the last. A figure that is no number is None."""

    best_step: int = Field(description="when a quick evaluation was best")
    best_seconds: float = Field(description="of training until then")
    best: float | None = Field(description="its figure over the whole evaluation")
    last_step: int = Field(description="at the end")
    last: float | None = Field(description="its figure over the whole evaluation")
    kept: Literal["best", "last"] = Field(description="the better one")


class PhaseState(Strict):
    """What is known of a phase. Where its training stands lies in its checkpoints, beside the weights."""

    drawing: float | None = Field(None, description="seconds in which a model drew the images to train on")
    int8: bool | None = Field(None, description="whether its teacher answers in 8-bit integers")
    trying: float = Field(0.0, description="seconds in which that was found out")
    answers: float = Field(0.0, description="seconds that the teacher's answers took")
    answers_from_disk: bool | None = Field(None, description="whether all of these were there already")
    inputs: int | None = Field(None, description="how many inputs are used, where the seconds sufficed for so many")
    short: Text = Field(Text(""), description="a sentence on that")
    equivariance: dict[str, Any] | None = Field(None, description="what the teacher's answers follow")
    steps: int | None = Field(None, description="of its training, when it has ended")
    seconds: float = Field(0.0, description="of its training, when it has ended")
    choice: Choice | None = Field(None, description="best or last, where they differ")

    @property
    def answering(self) -> float:
        """Seconds of this run that went to asking the teacher ahead of training, none for answers that lay on disk."""
        return self.trying + (0.0 if self.answers_from_disk else self.answers)

    @property
    def preparing(self) -> float:
        """Seconds before training: for images and for answers."""
        return (self.drawing or 0.0) + self.answering

    @property
    def kept_step(self) -> int | None:
        """The step of the state that was kept, where that is not the last."""
        return self.choice.best_step if self.choice is not None and self.choice.kept == "best" else None


class RunState(Spoken):
    """What is known of a run, as `state.json` in its folder."""

    bfloat16_pays: bool | None = Field(None, description="whether it computes in bfloat16")
    phases: dict[str, PhaseState] = Field({}, description="by name")

    def phase(self, name: str) -> PhaseState:
        """What is known of a phase, nothing at first."""
        return self.phases.get(name, PhaseState())

    def with_phase(self, name: str, **changes: Any) -> "RunState":
        """The same with other values for a phase."""
        changed = self.phase(name).model_copy(update=changes)
        return self.model_copy(update={"phases": {**self.phases, name: changed}})

    def seconds(self, phases: Iterable[str]) -> float:
        """Seconds that phases took: their images, their answers and their training."""
        return sum(self.phase(name).preparing + self.phase(name).seconds for name in phases)


def state_from_events(events: Iterable[Mapping[str, Any]]) -> RunState:
    """The state that events tell of, for one that was lost."""
    state = RunState()
    for event in events:
        phase, data = event["phase"], event["data"]
        if event["kind"] == "start":
            initial = RunState.model_validate(data["state"])
            state = initial if not state.phases else state
        elif event["kind"] == "teacher":
            state = state.with_phase(phase, int8=data["int8"], trying=data["seconds"])
        elif event["kind"] == "answers":
            more = {"equivariance": data["equivariance"]} if "equivariance" in data else {}
            state = state.with_phase(phase, answers=data["seconds"], answers_from_disk=data["from_disk"], **more)
        elif event["kind"] == "warning" and "inputs" in data:
            state = state.with_phase(phase, inputs=data["inputs"], short=data["message"])
        elif event["kind"] == "phase":
            choice = Choice.model_validate(data["choice"]) if "choice" in data else None
            state = state.with_phase(phase, steps=data["steps"], seconds=data["seconds"], choice=choice)
    return state


__all__ = ["Choice", "PhaseState", "RunState", "state_from_events"]
