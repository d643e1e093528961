"""From what stands in the controls to a recipe, its cost and its run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from dataclasses import fields as dataclass_fields
from typing import Any

import gradio as gr

from kdgen.models.task_arguments import changes_images, task_class
from kdgen.presets import preset
from kdgen.recipe import Recipe
from kdgen.report.said import about_of
from kdgen.types import UserError, text
from kdgen.ui import choices, setup_markup
from kdgen.ui.at_hand import brings_pictures
from kdgen.ui.choices import SHARES
from kdgen.ui.estimates import Estimates
from kdgen.ui.job import Job
from kdgen.ui.markup import Words
from kdgen.ui.models import Models
from kdgen.ui.page_data import mistake
from kdgen.ui.runs import Runs
from kdgen.ui.sessions import session_of
from kdgen.ui.visitors import accept
from kdgen.ui.words import words_for

AGAIN = 10.0
"""Seconds after a click on Start in which another begins no second run of the same: a busy machine takes as long."""


@dataclass(frozen=True, slots=True)
class Values:
    """What stands in the controls."""

    kind: str
    preset: str
    length: str
    controls: bool
    teacher: str
    share: str
    family: str | None
    methods: Sequence[str]
    ratio: str
    alpha: float
    unit: str
    amount: float | None
    settings: Mapping[str, Any]
    pictures: str = ""

    @classmethod
    def of(cls, values: Sequence[Any]) -> "Values":
        """The values of ``Setup.given``."""
        settings = dict(zip(choices.ADVANCED, values[12:-1], strict=True))
        named = dict(zip((each.name for each in dataclass_fields(cls)), values[:12], strict=False))
        return cls(**named, settings=settings, pictures=values[-1] or "")

    def mistakes(self, runs: Runs, words: Words) -> list[str]:
        """What is wrong with the numbers, a line for each."""
        most = runs.limits.steps if self.unit == "steps" else runs.limits.seconds
        amount = choices.Field("amount", "whole" if self.unit == "steps" else "number", "", low=1, high=most)
        found = [mistake(amount, self.amount, words["amount"], words)]
        for field in choices.fields():
            found.append(mistake(field, self.settings[field.key], words[f"label_{field.key}"], words))
        return [line for line in found if line]


def submit(
    values: Sequence[Any], text: str, shown: str, request: gr.Request, runs: Runs, models: Models, estimates: Estimates
) -> Job:
    """Put a run into the line: by the recipe's text where that was edited, else by the controls.

    Args:
        values: those of ``Setup.given``, as they stand in the browser.
        text: the recipe as the page shows it.
        shown: what was put there last.
        request: the visitor's.
        runs: the line.
        models: by reference.
        estimates: of its time.

    Raises:
        UserError: for anything that does not fit, a line for each mistake.
    """
    session, words = session_of(request), words_for(request)
    if text.strip() != shown.strip():
        recipe: Recipe | str = text
    else:
        chosen = Values.of(values)
        if mistakes := chosen.mistakes(runs, words):
            raise UserError("\n".join(mistakes))
        recipe = on_pictures(composed(chosen, session, models, wait=runs.limits.request_seconds), chosen.pictures)
    accepted = accept(recipe, session, runs)
    job = runs.submit(accepted, session, again=AGAIN)
    estimates.note(accepted, runs.home(job))
    return job


def composed(chosen: Values, session: str, models: Models, *, wait: float) -> Recipe:
    """The recipe of the controls.

    Args:
        chosen: what stands in them.
        session: the visitor's.
        models: by reference.
        wait: seconds for what must be asked of a model.

    Raises:
        Waiting: where that takes longer.
        UserError: for what does not fit together.
    """
    other = chosen.teacher != preset(chosen.preset).teacher
    described = models.task(chosen.teacher, session, wait=wait) if other else None
    own = described is not None and chosen.teacher.startswith("own:") and says_all(described)
    steps, sized = chosen.unit == "steps", bool(chosen.share or chosen.family)
    base = models.inferred(chosen.teacher, session, wait=wait, fresh=sized) if own else None
    made: dict[str, Any] = {
        "teacher": chosen.teacher, "methods": chosen.methods or [], "ratio": chosen.ratio, "alpha": chosen.alpha,
        "steps": int(chosen.amount or 0) if steps else None, "seconds": None if steps else float(chosen.amount or 0),
        "settings": {**chosen.settings, "controls": chosen.controls},
        "described": described, "base": base,
    }  # fmt: skip
    recipe = choices.compose(chosen.preset, **made)
    if not sized:
        return recipe
    share = SHARES.get(chosen.share, SHARES["1/8"])
    use = models.proposed(recipe, chosen.teacher, session, share, chosen.family, wait=wait)
    return choices.compose(chosen.preset, student=use, **made)


def says_all(facts: Mapping[str, Any]) -> bool:
    """Whether a recipe follows from what a model says of its task: of restorers and of what a teacher alone defines."""
    task = task_class(facts)
    return task.takes_strength or task.taught_alone


def on_pictures(recipe: Recipe, reference: str) -> Recipe:
    """A recipe that trains on pictures that the visitor brought.

    Args:
        recipe: as the controls say.
        reference: of the pictures; empty for none.

    Raises:
        UserError: where it trains on none, and where it needs some and there are none.
    """
    if not reference:
        if brings_pictures(recipe):
            raise UserError(text("pictures_needed", "this learns from good pictures of yours: open “Your own model, "
                                 "your own pictures” below and upload some, all of one kind"))  # fmt: skip
        return recipe
    finds = about_of({"name": recipe.task.name}) == "faults"
    if not (finds or changes_images({"name": recipe.task.name})):
        raise UserError(text("pictures_for_others", "your pictures are for models that change pictures or find faults "
                             "in them: choose a denoiser, an autoencoder or a fault finder above, or go on without "
                             "them"))  # fmt: skip
    source = {"name": "folder", "args": {"path": reference, **({"whole": True} if finds else {})}}
    task = recipe.task.model_copy(update={"args": {**recipe.task.args, "images": source}})
    return recipe.model_copy(update={"task": task})


def lengths(chosen: Values, recipe: Recipe, runs: Runs, estimates: Estimates, words: Words) -> list[tuple[str, str]]:
    """The lengths to choose from, each with the time of its whole run, or of its training while that is not known."""
    found = []
    for length, seconds in choices.seconds_of(chosen.preset, runs.limits.seconds).items():
        spans = estimates.spans(recipe.lasting(seconds=seconds))
        time = (words["training_of"].format(time=setup_markup.clock(seconds)) if spans is None
                else words["about_time"].format(time=setup_markup.roughly(sum(spans.values()))))  # fmt: skip
        found.append((f"{words[f'length_{length}']}\n{time}", length))
    return found


__all__ = ["SHARES", "Values", "composed", "lengths", "on_pictures", "says_all", "submit"]
