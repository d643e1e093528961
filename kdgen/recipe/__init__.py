"""A recipe is a whole run as data: one JSON file that reproduces it. It names registered things and never code."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from kdgen.recipe.parts import (
    OF_TEACHER,
    ONNX,
    RANGES,
    STARTS,
    Assistant,
    CacheSpec,
    Checkpoint,
    Guidance,
    Memory,
    Stage,
    Start,
    Term,
)
from kdgen.registry import Spec, nearest
from kdgen.types import UserError, text
from kdgen.utils.references import Names, resolved
from kdgen.utils.schema import Strict, assign, explain_error, read_json_text


class Recipe(Strict):
    """Everything that makes a run. Exactly one of `steps` and `seconds` says how long."""

    format: Literal[1] = Field(1, description="version of this format")
    name: str = Field(description="names the default run folder", pattern=r"^[\w.-]+$")
    task: Spec = Field(description="where images come from and how results are measured, see `kdgen list tasks`")
    teacher: Annotated[
        str | Checkpoint | None,
        Names("model"),
        Field(description="bundled name, run or student folder, or a declared checkpoint; null trains from scratch"),
    ] = None
    teachers: Annotated[dict[Annotated[str, Field(pattern=r"^\w+$")], str | Checkpoint], Names("model")] = Field(
        {}, description="further teachers by names that methods give as `teacher`; all see what the first one sees"
    )
    assistants: tuple[Assistant, ...] = Field((), description="nets between teacher and student, from large to small")
    student: Spec = Field(description="the net to train, see `kdgen list nets`")
    init: Start = Field(
        "random",
        description="first weights: random; teacher, what matters most of it; copy, all of it as it is; or any model's",
    )
    stages: tuple[Stage, ...] = Field((Stage(),), min_length=1, description="what is trained, one after another")
    steps: int | None = Field(None, gt=0, description="optimiser steps in all")
    seconds: float | None = Field(
        None,
        gt=0,
        description="seconds in all, those for images and answers included; training has a third at least, and the "
        "teacher answers fewer inputs than `cache.inputs` where these take more than `cache.share`",
    )
    batch_size: int = Field(16, gt=0, description="images in a step")
    cache: CacheSpec = Field(CacheSpec(), description="the teacher's cached answers")
    shard_teacher: bool = Field(
        False,
        description="each process holds a slice of the teacher (FSDP), for one too large for a device; it is asked at "
        "every step, and measured by the first process on the CPU",
    )
    shard_student: bool = Field(
        False,
        description="each process holds a slice of the student, its gradients, optimiser states and moving average "
        "(FSDP), for one too large to be trained on a device; it is measured whole, by the first process",
    )
    ema: float = Field(0.999, ge=0, lt=1, description="decay of the moving average of the weights; 0 keeps none")
    precision: Literal["auto", "float32", "bfloat16", "int8"] = Field(
        "auto",
        description="what nets compute in; auto is bfloat16 where the device has units for it, and for a teacher that "
        "is asked for a minute or more on the CPU 8-bit integers (by onnxruntime, of the extra kdgen[export]), each "
        "where it is faster and adds no more than a fiftieth to the teacher's own squared error; int8 is auto with "
        "such a teacher however short the run; the report says what was chosen",
    )
    memory: Memory = Field(Memory(), description="what the student's training does with less memory")
    repeatable: bool = Field(
        False,
        description="nothing is chosen by a timing, so that the same recipe gives the same student bit for bit on this "
        "machine with as many threads: needs steps, and auto precision is float32",
    )
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, mps")
    seed: int = Field(0, ge=0, description="seed of weights, data and noise")
    controls: bool = Field(True, description="also train the student without its teacher, at equal steps and seconds")
    evaluate_every: float | None = Field(
        20.0,
        gt=0,
        description="seconds between quick evaluations; a run counted in steps has them at its quarters instead; "
        "null for none",
    )
    checkpoint_every: float = Field(15.0, gt=0, description="seconds between checkpoints")

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if self.shard_teacher and self.cache.inputs:
            raise ValueError(text("sharded_cache",
                                  "shard_teacher asks the teacher at every step: set cache.inputs to 0"))  # fmt: skip
        if self.repeatable and self.steps is None:
            raise ValueError(text("repeatable_seconds", "repeatable needs steps: what a run of seconds learns depends "
                                  "on how fast they pass"))  # fmt: skip
        if (self.steps is None) == (self.seconds is None):
            raise ValueError(text("one_length", "give exactly one of steps and seconds"))
        return self

    @model_validator(mode="after")
    def _fits_memory(self) -> Self:
        stages = [*self.stages, *(stage for link in self.assistants for stage in link.stages or ())]
        if self.memory.optimizer_states == "int8" and any(stage.optimizer != "adamw" for stage in stages):
            raise ValueError(text("int8_states_adamw", "memory.optimizer_states int8 are AdamW's: set optimizer to "
                                  "adamw in every stage"))  # fmt: skip
        if self.shard_student and (self.memory.weights != "float32" or any(s.optimizer == "muon" for s in stages)):
            raise ValueError(text("sharded_student", "shard_student steps slices of weights in float32: set "
                                  "memory.weights to float32, and optimizer to adamw or sgd"))  # fmt: skip
        if self.memory.weights == "bfloat16" and self.precision == "float32":
            raise ValueError(text("weights_bfloat16", "memory.weights bfloat16 computes in bfloat16: set precision to "
                                  "auto or bfloat16"))  # fmt: skip
        return self

    @model_validator(mode="after")
    def _taught(self) -> Self:
        if self.teacher is None:
            self._check_alone()
        for name, _ in self.guides():
            if name is not None and name not in self.teachers:
                raise ValueError(text("unknown_teacher", "a method names the teacher {name!r}, which `teachers` does "
                                      "not have{nearest}", name=name, nearest=nearest(name,
                                      self.teachers)))  # fmt: skip
        if sum(assistant.share for assistant in self.assistants) >= 1:
            raise ValueError(text("no_share", "the shares of the assistants leave nothing to the student: they must "
                                  "sum to less than 1"))  # fmt: skip
        return self

    def _check_alone(self) -> None:
        """Refuse what a recipe without a teacher cannot have."""
        if any(stage.methods for stage in self.stages):
            raise ValueError(text("untaught_methods", "methods need a teacher: name one, or remove the methods"))
        if self.init in OF_TEACHER:
            raise ValueError(text("untaught_init", 'init "{init}" needs a teacher', init=self.init))
        if self.assistants:
            raise ValueError(text("untaught_assistants", "assistants need a teacher: name one, or remove the "
                                  "assistants"))  # fmt: skip
        if self.teachers:
            raise ValueError(text("untaught_teachers", "teachers are further ones: name the main one as teacher, which "
                                  "nets are measured against"))  # fmt: skip

    def guides(self) -> list[tuple[str | None, str | None]]:
        """The teacher and the part of the task that each method names, in all stages of the chain."""
        stages = [*self.stages, *(stage for link in self.assistants for stage in link.stages or ())]
        return [(method.teacher, method.part) for stage in stages for method in stage.methods]

    def links(self) -> "list[tuple[str, Recipe]]":
        """The chain as recipes with one student each, by the name of its phase: the assistants', then the student's."""
        alone = self.model_copy(update={"assistants": ()})

        def share(of: float) -> dict[str, float | int | None]:
            steps = None if self.steps is None else max(round(self.steps * of), 1)
            return {"steps": steps, "seconds": None if self.seconds is None else self.seconds * of}

        chain = []
        for number, link in enumerate(self.assistants, start=1):
            own = {"student": link.student, "init": link.init, "stages": link.stages or self.stages}
            chain.append((f"assistant_{number}", alone.model_copy(update={**own, **share(link.share)})))
        rest = 1 - sum(link.share for link in self.assistants)
        return [*chain, ("student", alone.model_copy(update=share(rest) if chain else {}))]

    def guided(self, *, truth: bool) -> bool:
        """Whether a net could be trained without the teacher: by the ground truth, or by objectives in every stage."""
        return all((truth and stage.truth) or stage.objectives for stage in self.stages)

    def lasting(self, *, steps: int | None = None, seconds: float | None = None) -> "Recipe":
        """The same recipe with another length."""
        return self.model_copy(update={"steps": steps, "seconds": seconds})

    def within(self, minutes: float) -> "Recipe":
        """The same recipe with as many seconds as leave time for its controls and report in so many minutes in all."""
        return self.lasting(seconds=training_seconds(minutes, controlled=self.controls and self.teacher is not None))

    def without_teacher(self, *, steps: int | None = None, seconds: float | None = None) -> "Recipe":
        """The control of this recipe: the same student, first weights, data, optimiser, stages and objectives.

        It differs by the teacher's guidance alone, so first weights that are the teacher's stay: the recipe is one for
        ``kdgen.training.chain``, which knows whose they are.
        """
        stages = tuple(s.model_copy(update={"methods": (), "ratio": Spec(name="fixed", args={"alpha": 0.0})})
                       for s in self.stages)  # fmt: skip
        alone: dict[str, Any] = {"teacher": None, "teachers": {}, "assistants": (), "stages": stages, "controls": False}
        return self.model_copy(update=alone).lasting(steps=steps, seconds=seconds)

    def to_json(self) -> str:
        """The recipe as JSON text, ready to edit."""
        return json.dumps(self.model_dump(mode="json"), indent=2)


TRAINING = 0.85
"""Share of a whole run that is spent on training, of the student and as long again of each control."""


def training_seconds(minutes: float, *, controlled: bool) -> float:
    """Seconds of the student's training in a run of so many minutes in all, with two controls or none."""
    return 60 * minutes * TRAINING / (3 if controlled else 1)


RECIPE, CHANGED = text("recipe", "recipe"), text("recipe_changed", "recipe with --set")


def parse(data: Mapping[str, Any] | str, *, what: str = RECIPE) -> Recipe:
    """A recipe from JSON text or plain data.

    Raises:
        UserError: for what does not fit, naming the key and, for an unknown one, the nearest right one.
    """
    try:
        return Recipe.model_validate_json(data) if isinstance(data, str) else Recipe.model_validate(data)
    except ValidationError as error:
        raise UserError(text("no_recipe", "{what}: {message}", what=what,
                             message=explain_error(error, Recipe))) from None  # fmt: skip


def read(path: Path) -> Recipe:
    """A recipe from a JSON file; what it names by a relative path lies beside it.

    Raises:
        UserError: as ``parse`` does, and for a file that cannot be read.
    """
    return resolved(parse(read_json_text(path), what=str(path)), path.absolute().parent)


def override(recipe: Recipe, settings: Sequence[str]) -> Recipe:
    """A recipe with ``KEY=VALUE`` settings applied, e.g. ``stages.0.lr=1e-3`` or ``task.args.sigma=15``.

    A value is read as JSON, and as plain text where it is not JSON. Setting ``steps`` clears ``seconds`` and the
    other way round.

    Raises:
        UserError: for a malformed setting, an unknown key or an unfit value.
    """
    data = recipe.model_dump(mode="json")
    for setting in settings:
        key, equals, written = setting.partition("=")
        if not equals or not key:
            raise UserError(text("set_key_value", "--set takes KEY=VALUE, not {setting!r}", setting=setting))
        try:
            value = json.loads(written)
        except (ValueError, RecursionError):
            value = written
        assign(data, key, value)
        if key in ("steps", "seconds") and value is not None:
            data["seconds" if key == "steps" else "steps"] = None
    return parse(data, what=CHANGED)


__all__ = ["OF_TEACHER", "ONNX", "RANGES", "STARTS", "Assistant", "CacheSpec", "Checkpoint", "Guidance", "Memory",
           "Recipe", "Stage", "Term", "override", "parse", "read"]  # fmt: skip
