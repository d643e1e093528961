"""The setup side of the Distill tab: what to distil, how, for how long; and what that costs, before it."""

import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from dataclasses import fields as dataclass_fields
from typing import Any

import gradio as gr

from kdgen.presets import preset
from kdgen.recipe import Recipe
from kdgen.types import UserError
from kdgen.ui import choices, markup, setup_markup
from kdgen.ui.choices import SHARES
from kdgen.ui.estimates import Estimates
from kdgen.ui.job import Job
from kdgen.ui.markup import Words
from kdgen.ui.models import Models
from kdgen.ui.page_data import mistake, page_data
from kdgen.ui.runs import Runs
from kdgen.ui.sessions import session_of
from kdgen.ui.visitors import TEACHERS, accept
from kdgen.ui.words import say, words_for

RATIOS = ("fixed", "linear", "cosine", "adaptive")
UNMEASURED = 4.0
"""Seconds between looks at whether the time of a run is known by now."""


@dataclass(slots=True)
class Setup:
    """The controls that make a recipe, and what follows from them.

    ``composed`` is the recipe of the controls, ``text`` what the page shows of it and anybody may edit, ``shown`` what
    was last put there: where these two differ, the text was edited and is what runs.
    """

    kind: gr.Radio
    preset: gr.Radio
    length: gr.Radio
    controls: gr.Checkbox
    teacher: gr.Dropdown
    student: gr.Radio
    family: gr.Dropdown
    methods: gr.CheckboxGroup
    ratio: gr.Radio
    alpha: gr.Slider
    unit: gr.Radio
    amount: gr.Number
    fields: list[Any]
    text: gr.Textbox
    shown: gr.Textbox
    composed: gr.Textbox
    stamp: gr.Textbox
    take: gr.Button
    start: gr.Button
    notice: gr.HTML
    time: gr.HTML
    cost: gr.HTML
    timer: gr.Timer

    @property
    def chosen(self) -> list[Any]:
        """The controls whose values make the recipe, in the order in which ``Values`` reads them."""
        return [self.kind, self.preset, self.length, self.controls, self.teacher, self.student, self.family,
                self.methods, self.ratio, self.alpha, self.unit, self.amount, *self.fields]  # fmt: skip


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

    @classmethod
    def of(cls, values: Sequence[Any]) -> "Values":
        """The values of ``Setup.chosen``."""
        settings = dict(zip(choices.ADVANCED, values[12:], strict=True))
        named = dict(zip((each.name for each in dataclass_fields(cls)), values[:12], strict=False))
        return cls(**named, settings=settings)

    def mistakes(self, runs: Runs, words: Words) -> list[str]:
        """What is wrong with the numbers, a line for each."""
        most = runs.limits.steps if self.unit == "steps" else runs.limits.seconds
        amount = choices.Field("amount", "whole" if self.unit == "steps" else "number", "", low=1, high=most)
        found = [mistake(amount, self.amount, words["amount"], words)]
        for field in choices.fields():
            found.append(mistake(field, self.settings[field.key], words[f"label_{field.key}"], words))
        return [line for line in found if line]


def controls(runs: Runs) -> Setup:
    """The left side of the tab."""
    first = choices.presets_of("denoiser")[0]
    seconds = choices.seconds_of(first, runs.limits.seconds)
    with gr.Group(elem_classes="kd-card kd-first"):
        kind = gr.Radio([(say(f"kind_{each}"), each) for each in choices.KINDS], value="denoiser", label=say("what"),
                        elem_id="kd-kinds", elem_classes="kd-cards")  # fmt: skip
        chosen = gr.Radio(_presets("denoiser"), value=first, label=say("preset"), elem_id="kd-presets",
                          elem_classes="kd-cards")  # fmt: skip
        length = gr.Radio([(say(f"length_{each}"), each) for each in choices.LENGTHS], value="good",
                          label=say("length"), elem_id="kd-lengths", elem_classes="kd-cards")  # fmt: skip
        with gr.Row(elem_id="kd-edited"):
            gr.HTML(say("edited"), elem_classes="kd-hint")
            take = gr.Button(say("take_controls"), size="sm", elem_id="kd-take")
        with gr.Row(elem_id="kd-go"):
            start = gr.Button(say("start"), variant="primary", size="lg", elem_id="kd-start", scale=0)
            time = gr.HTML(elem_id="kd-time", padding=False)
        notice = gr.HTML(elem_id="kd-notice", padding=False)
        controlled = gr.Checkbox(
            True, label=say("with_controls"), info=say("with_controls_info"), elem_id="kd-controls"
        )
    cost = gr.HTML(elem_id="kd-cost", min_height=120, padding=False)
    with gr.Accordion(say("advanced"), open=False, elem_id="kd-advanced", elem_classes="kd-fold"):
        _group("nets")
        teacher = gr.Dropdown(list(TEACHERS), value="denoiser", label=say("teacher"), info=say("teacher_info"),
                              allow_custom_value=True, elem_id="kd-teacher")  # fmt: skip
        student = gr.Radio([(say("student_preset"), ""), *((name, name) for name in SHARES)], value="",
                           label=say("student"), info=say("student_info"), elem_id="kd-student-size")  # fmt: skip
        family = gr.Dropdown(choices.families_of("denoiser"), value=None, label=say("family"),
                             info=say("family_info"))  # fmt: skip
        _group("transfer")
        methods = gr.CheckboxGroup(list(choices.METHODS["denoiser"]), label=say("methods"), info=say("methods_info"))
        with gr.Row():
            ratio = gr.Radio(list(RATIOS), value="fixed", label=say("ratio"), info=say("ratio_info"))
            alpha = gr.Slider(0, 1, 1, step=0.05, label=say("alpha"), info=say("alpha_info"))
        _group("length")
        with gr.Row():
            unit = gr.Radio([(say("seconds"), "seconds"), (say("steps"), "steps")], value="seconds", label=say("unit"),
                            info=say("unit_info"))  # fmt: skip
            amount = gr.Number(seconds["good"], label=say("amount"), info=say("amount_info"),
                               elem_id="kd-field-amount")  # fmt: skip
        fields = []
        for group, keys in choices.GROUPS.items():
            _group(group)
            known = {field.key: field for field in choices.fields()}
            with gr.Row(elem_classes="kd-fields"):
                fields += [_control(known[key]) for key in keys]
        _group("recipe")
        text = gr.Textbox(label=say("recipe"), info=say("recipe_info"), lines=12, max_lines=24, elem_id="kd-recipe")
    shown, composed, stamp = (
        gr.Textbox(visible="hidden", elem_id=f"kd-{name}", show_label=False) for name in ("shown", "composed", "stamp")
    )
    for each in (chosen, family, methods):
        _with_any_choice(each)
    timer = gr.Timer(UNMEASURED, active=False)
    return Setup(kind, chosen, length, controlled, teacher, student, family, methods, ratio, alpha, unit, amount,
                 fields, text, shown, composed, stamp, take, start, notice, time, cost, timer)  # fmt: skip


def connect(setup: Setup, runs: Runs, models: Models, estimates: Estimates, page: gr.Blocks) -> None:
    """Make the controls fill in one another, in the browser; and what follows from them, on the server."""

    def change(request: gr.Request, *values: Any) -> list[Any]:
        """The recipe, its cost and its time, as the controls stand."""
        words, session, chosen = words_for(request), session_of(request), Values.of(values)
        own = [f"run:{job.id}" for job in _finished(runs, session) if choices.kind_of(job.task) == chosen.kind]
        offered = gr.update(choices=list(dict.fromkeys([*TEACHERS, *own, chosen.teacher])))
        if mistakes := chosen.mistakes(runs, words):
            return [
                gr.skip(),
                gr.skip(),
                "",
                gr.skip(),
                offered,
                gr.Timer(active=False),
                setup_markup.notices(mistakes),
            ]
        try:
            recipe = composed(chosen, session, runs, models)
            shown = markup.costs(*choices.costs(recipe, models.get(chosen.teacher, session)), words)
        except UserError as error:
            return [gr.skip(), "", "", gr.skip(), offered, gr.Timer(active=False), markup.notice(str(error))]
        spans = estimates.spans(recipe)
        lengths = gr.update(choices=_lengths(chosen, recipe, runs, estimates, words))
        return [recipe.to_json(), shown, setup_markup.run_time(spans, words), lengths, offered,
                gr.Timer(active=spans is None), ""]  # fmt: skip

    quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden", "queue": False}
    filled = [*setup.chosen[2:], setup.stamp]
    setup.kind.input(None, [setup.kind, setup.length], [setup.preset, *filled], js="(a, b) => kd.kind(a, b)", **quiet)
    setup.preset.input(None, [setup.preset, setup.length], filled, js="(a, b) => kd.filled(a, b)", **quiet)
    setup.length.input(None, [setup.preset, setup.length], [setup.unit, setup.amount, setup.stamp],
                       js="(a, b) => kd.length(a, b)", **quiet)  # fmt: skip
    for control in (setup.unit, setup.amount):
        control.input(None, None, [setup.length, setup.stamp], js="() => [null, kd.stamp()]", **quiet)
    for control in [setup.controls, *setup.chosen[4:10], *setup.fields]:
        event = control.release if isinstance(control, gr.Slider) else control.input
        event(None, None, [setup.stamp], js="() => kd.stamp()", **quiet)
    setup.timer.tick(None, None, [setup.stamp], js="() => kd.stamp()", **quiet)
    setup.stamp.change(change, setup.chosen, [setup.composed, setup.cost, setup.time, setup.length, setup.teacher,
                       setup.timer, setup.notice], js="(...v) => kd.keep(...v)", trigger_mode="always_last",
                       **quiet).then(None, js="() => kd.settled()", **quiet)  # fmt: skip
    texts = [setup.text, setup.shown]
    setup.composed.change(
        None, [setup.composed, setup.text, setup.shown], texts, js="(...v) => kd.settle(...v)", **quiet
    )
    setup.take.click(None, [setup.composed], texts, js="(a) => kd.take(a)", **quiet)
    threading.Thread(target=count_ahead, args=(models,), daemon=True).start()
    page.load(
        None,
        None,
        [*setup.chosen, setup.stamp],
        js=f"() => {{ {page_data(runs)} kd.light(); return kd.recall(); }}",
        **quiet,
    )


def count_ahead(models: Models) -> None:
    """Count what the usual presets cost, so that the first visitor need not wait for it."""
    for kind in choices.KINDS:
        recipe = preset(choices.presets_of(kind)[0])
        with suppress(UserError):
            choices.costs(recipe, models.get(str(recipe.teacher), ""))


def submit(
    values: Sequence[Any], text: str, shown: str, request: gr.Request, runs: Runs, models: Models, estimates: Estimates
) -> Job:
    """Put a run into the line: by the recipe's text where that was edited, else by the controls.

    Args:
        values: those of ``Setup.chosen``, as they stand in the browser.
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
        recipe = composed(chosen, session, runs, models)
    accepted = accept(recipe, session, runs)
    job = runs.submit(accepted, session)
    estimates.note(accepted, runs.home(job))
    return job


def composed(chosen: Values, session: str, runs: Runs, models: Models) -> Recipe:
    """The recipe of the controls. Raises UserError for what does not fit together."""
    other = models.get(chosen.teacher, session) if chosen.teacher != preset(chosen.preset).teacher else None
    steps = chosen.unit == "steps"
    made: dict[str, Any] = {
        "teacher": chosen.teacher, "methods": chosen.methods or [], "ratio": chosen.ratio, "alpha": chosen.alpha,
        "steps": int(chosen.amount or 0) if steps else None, "seconds": None if steps else float(chosen.amount or 0),
        "settings": {**chosen.settings, "controls": chosen.controls}, "described": other.task if other else None,
    }  # fmt: skip
    recipe = choices.compose(chosen.preset, **made)
    if not (chosen.share or chosen.family):
        return recipe
    model = other or models.get(chosen.teacher, session)
    share = SHARES.get(chosen.share, SHARES["1/8"])
    use = choices.propose_for(recipe, model, share, chosen.family, runs.limits.folder / "cache")
    return choices.compose(chosen.preset, student=use, **made)


def _lengths(chosen: Values, recipe: Recipe, runs: Runs, estimates: Estimates, words: Words) -> list[tuple[str, str]]:
    """The lengths to choose from, each with the time of its whole run, or of its training while that is not known."""
    found = []
    for length, seconds in choices.seconds_of(chosen.preset, runs.limits.seconds).items():
        spans = estimates.spans(recipe.lasting(seconds=seconds))
        time = (words["training_of"].format(time=setup_markup.clock(seconds)) if spans is None
                else words["about_time"].format(time=setup_markup.roughly(sum(spans.values()))))  # fmt: skip
        found.append((f"{words[f'length_{length}']}\n{time}", length))
    return found


def _presets(kind: str) -> list[tuple[Any, str]]:
    return [(say(f"preset_{name}"), name) for name in choices.presets_of(kind)]


def _finished(runs: Runs, session: str) -> list[Job]:
    try:
        return [job for job in runs.owned_by(session) if job.state == "done"]
    except UserError:
        return []


def _with_any_choice(component: Any) -> None:
    """The browser changes its choices by itself: what is no choice is found where the recipe is composed."""
    component.__dict__["preprocess"] = lambda payload: payload


def _group(name: str) -> None:
    gr.HTML(say(f"group_{name}"), elem_classes="kd-group", padding=False)


def _control(field: choices.Field) -> Any:
    """A field of a recipe as a control that says what it does."""
    label, info, id = say(f"label_{field.key}"), say(f"field_{field.key}"), f"kd-field-{field.key}"
    if field.kind == "flag":
        return gr.Checkbox(label=label, info=info, elem_id=id)
    if field.kind == "choice":
        return gr.Radio(list(field.options), label=label, info=info, elem_id=id)
    return gr.Number(label=label, info=info, elem_id=id)


__all__ = ["SHARES", "Setup", "Values", "connect", "controls", "submit"]
