"""The Distill tab: choose, start, watch, take the student home."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from kdgen.presets import preset
from kdgen.recipe import Recipe
from kdgen.types import UserError
from kdgen.ui import choices, markup
from kdgen.ui.models import Models
from kdgen.ui.runs import Runs
from kdgen.ui.sessions import session_of
from kdgen.ui.visitors import TEACHERS, accept
from kdgen.ui.words import say, words_for

SHARES = {"1/4": 0.25, "1/8": 0.125, "1/16": 0.0625, "1/32": 0.03125}


@dataclass(slots=True)
class Setup:
    """The controls that make a recipe, in the order in which their values are passed."""

    kind: gr.Radio
    preset: gr.Dropdown
    about: gr.HTML
    teacher: gr.Dropdown
    student: gr.Dropdown
    family: gr.Dropdown
    methods: gr.Dropdown
    ratio: gr.Dropdown
    alpha: gr.Slider
    unit: gr.Radio
    amount: gr.Number
    fields: list[Any]
    recipe: gr.Textbox
    cost: gr.HTML

    @property
    def chosen(self) -> list[Any]:
        """The controls whose values make the recipe."""
        return [self.preset, self.teacher, self.student, self.family, self.methods, self.ratio, self.alpha, self.unit,
                self.amount, *self.fields]  # fmt: skip


def controls(runs: Runs) -> Setup:
    """The left side of the tab: what to distil, how, and for how long."""
    first = choices.presets_of("denoiser")[0]
    with gr.Group(elem_classes="kd-card"):
        kind = gr.Radio([(say(f"kind_{each}"), each) for each in choices.KINDS], value="denoiser", label=say("what"),
                        info=say("what_info"), elem_id="kd-kinds")  # fmt: skip
    with gr.Group(elem_classes="kd-card"):
        preset = gr.Dropdown(choices.presets_of("denoiser"), value=first, label=say("preset"), info=say("preset_info"))
        about = gr.HTML(f"<p>{choices.summary(first)}</p>", elem_classes="kd-about")
        with gr.Row():
            units = [(say("seconds"), "seconds"), (say("steps"), "steps")]
            unit = gr.Radio(units, value="seconds", label=say("length"), info=say("length_info"), min_width=200)
            amount = gr.Number(100, label=say("amount"), info=say("amount_info"), minimum=1, precision=0, min_width=120,
                               elem_id="kd-amount")  # fmt: skip
    cost = gr.HTML(elem_id="kd-cost", min_height=120)
    with gr.Accordion(say("advanced"), open=False, elem_id="kd-advanced"):
        teacher = gr.Dropdown(list(TEACHERS), value="denoiser", label=say("teacher"), info=say("teacher_info"),
                              allow_custom_value=True, elem_id="kd-teacher")  # fmt: skip
        with gr.Row():
            student = gr.Dropdown([(say("student_preset"), ""), *((name, name) for name in SHARES)], value="",
                                  label=say("student"), info=say("student_info"))  # fmt: skip
            family = gr.Dropdown(choices.families_of("denoiser"), value=None, label=say("family"),
                                 info=say("family_info"))  # fmt: skip
        methods = gr.Dropdown(list(choices.METHODS["denoiser"]), multiselect=True, label=say("methods"),
                              info=say("methods_info"))  # fmt: skip
        with gr.Row():
            ratio = gr.Dropdown(["fixed", "linear", "cosine", "adaptive"], value="fixed", label=say("ratio"),
                                info=say("ratio_info"))  # fmt: skip
            alpha = gr.Slider(0, 1, 1, step=0.05, label=say("alpha"), info=say("alpha_info"))
        fields = [_control(field) for field in choices.fields()]
        recipe = gr.Textbox(label=say("recipe"), info=say("recipe_info"), lines=12, max_lines=24, elem_id="kd-recipe")
    return Setup(
        kind, preset, about, teacher, student, family, methods, ratio, alpha, unit, amount, fields, recipe, cost
    )


def connect(setup: Setup, notice: gr.HTML, runs: Runs, models: Models) -> tuple[Callable[..., Any], list[Any]]:
    """Make the controls fill in one another. Returns what fills them from a preset, and the controls it fills."""
    fields = choices.fields()

    def fill(request: gr.Request, name: str) -> list[Any]:
        """Everything as a preset has it."""
        recipe = _within(preset(name), runs)
        kind = choices.kind_of(recipe.task.name)
        unit, amount = ("steps", recipe.steps) if recipe.steps else ("seconds", recipe.seconds)
        own = [f"run:{job.id}" for job in _finished(runs, session_of(request)) if choices.kind_of(job.task) == kind]
        used = choices.methods_of(recipe)
        return [
            gr.update(value=f"<p>{choices.summary(name)}</p>"),
            gr.update(choices=[*TEACHERS, *own], value=str(recipe.teacher)),
            "",
            gr.update(choices=choices.families_of(kind), value=None),
            gr.update(choices=list(dict.fromkeys([*used, *choices.METHODS[kind]])), value=used),
            *choices.ratio_of(recipe),
            unit,
            amount,
            *(choices.value_at(recipe, field.key) for field in fields),
            *settled(recipe, request),
        ]

    def choose(request: gr.Request, kind: str) -> list[Any]:
        """Another kind of work, and its usual preset."""
        names = choices.presets_of(kind)
        return [gr.update(choices=names, value=names[0]), *fill(request, names[0])]

    def change(request: gr.Request, *values: Any) -> list[Any]:
        """The recipe and its cost, as the controls stand now."""
        try:
            return settled(composed(values, session_of(request)), request)
        except UserError as error:
            return [gr.skip(), gr.skip(), markup.notice(str(error))]

    def settled(recipe: Recipe, request: gr.Request) -> list[Any]:
        try:
            teacher = models.get(str(recipe.teacher), session_of(request))
            shown = markup.costs(*choices.costs(recipe, teacher), words_for(request))
        except UserError as error:
            return [recipe.to_json(), "", markup.notice(str(error))]
        return [recipe.to_json(), shown, ""]

    def composed(values: Sequence[Any], session: str) -> Recipe:
        name, teacher, share, family, methods, ratio, alpha, unit, amount, *rest = values
        teacher, amount = str(teacher), float(amount or 1)
        other = models.get(teacher, session) if teacher != preset(name).teacher else None
        made: dict[str, Any] = {
            "teacher": teacher, "methods": methods or [], "ratio": ratio, "alpha": alpha,
            "steps": max(int(amount), 1) if unit == "steps" else None, "seconds": amount,
            "settings": {field.key: value for field, value in zip(fields, rest, strict=True)},
            "described": other.task if other else None,
        }  # fmt: skip
        recipe = choices.compose(name, **made)
        if not (share or family):
            return recipe
        model = other or models.get(teacher, session)
        use = choices.propose_for(recipe, model, SHARES.get(share, SHARES["1/8"]), family)
        return choices.compose(name, student=use, **made)

    filled = [setup.about, setup.teacher, setup.student, setup.family, setup.methods, setup.ratio, setup.alpha,
              setup.unit, setup.amount, *setup.fields, setup.recipe, setup.cost, notice]  # fmt: skip

    quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden", "queue": False}
    setup.kind.input(choose, [setup.kind], [setup.preset, *filled], **quiet)
    setup.preset.input(fill, [setup.preset], filled, **quiet)
    for control in setup.chosen[1:]:
        event = control.release if isinstance(control, gr.Slider) else control.blur if isinstance(
            control, gr.Number) else control.input  # fmt: skip
        event(change, setup.chosen, [setup.recipe, setup.cost, notice], **quiet)
    return fill, filled


def submit(text: str, session: str, runs: Runs) -> str:
    """Put a recipe into the line. Returns its id; raises UserError."""
    return runs.submit(accept(text, session, runs), session).id


def _within(recipe: Recipe, runs: Runs) -> Recipe:
    """A recipe no longer than runs may be here."""
    if recipe.steps:
        return recipe.lasting(steps=min(recipe.steps, runs.limits.steps))
    return recipe.lasting(seconds=min(recipe.seconds or 1.0, runs.limits.seconds))


def _finished(runs: Runs, session: str) -> list[Any]:
    try:
        return [job for job in runs.owned_by(session) if job.state == "done"]
    except UserError:
        return []


def _control(field: choices.Field) -> Any:
    """A field of a recipe as a control that says what it does."""
    label, info = field.key, say(f"field_{field.key}")
    if field.kind == "flag":
        return gr.Checkbox(label=label, info=info)
    if field.kind == "choice":
        return gr.Dropdown(list(field.options), label=label, info=info)
    return gr.Number(label=label, info=info, precision=0 if field.kind == "whole" else None)


__all__ = ["SHARES", "Setup", "connect", "controls", "submit"]
