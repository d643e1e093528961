"""The setup side of the Distill tab: what to distil, how, for how long; and what that costs, before it."""

from contextlib import suppress
from dataclasses import dataclass
from html import escape
from typing import Any

import gradio as gr

from kdgen.presets import preset
from kdgen.types import UserError
from kdgen.ui import bring, choices, markup, setup_markup
from kdgen.ui.at_hand import for_files
from kdgen.ui.bring import Bringing
from kdgen.ui.choices import SHARES
from kdgen.ui.composing import Values, composed, lengths, on_pictures
from kdgen.ui.estimates import Estimates
from kdgen.ui.job import Job
from kdgen.ui.limits import on_a_space
from kdgen.ui.models import Models
from kdgen.ui.page_data import page_data
from kdgen.ui.questions import Waiting
from kdgen.ui.runs import Runs
from kdgen.ui.sessions import session_of
from kdgen.ui.visitors import TEACHERS
from kdgen.ui.words import say, words_for

RATIOS = ("fixed", "linear", "cosine", "adaptive")
UNMEASURED, UNCOUNTED = 4.0, 1.0
"""Seconds between looks at whether the time of a run is known by now, and its cost."""

PATIENCE = 1.0
"""Seconds that the page waits for a cost, before it goes on and shows it when it comes."""


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
    bringing: Bringing

    @property
    def chosen(self) -> list[Any]:
        """The controls whose values make the recipe, in the order in which ``Values`` reads them."""
        return [self.kind, self.preset, self.length, self.controls, self.teacher, self.student, self.family,
                self.methods, self.ratio, self.alpha, self.unit, self.amount, *self.fields]  # fmt: skip

    @property
    def given(self) -> list[Any]:
        """These, and the pictures that the visitor brought."""
        return [*self.chosen, self.bringing.pictures]


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
    bringing = bring.panel(runs)
    if not on_a_space():
        with gr.Accordion(say("for_files"), open=False, elem_id="kd-for-files", elem_classes="kd-fold"):
            gr.HTML(say("for_files_info"), elem_classes="kd-hint", padding=False)
            gr.HTML(setup_markup.commands(for_files()), padding=False)
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
                 fields, text, shown, composed, stamp, take, start, notice, time, cost, timer, bringing)  # fmt: skip


def connect(setup: Setup, runs: Runs, models: Models, estimates: Estimates, page: gr.Blocks) -> None:
    """Make the controls fill in one another, in the browser; and what follows from them, on the server."""

    def change(request: gr.Request, *values: Any) -> list[Any]:
        """The recipe, its cost and its time, as the controls stand."""
        words, session, chosen = words_for(request), session_of(request), Values.of(values)
        own = [f"run:{job.id}" for job in _finished(runs, session) if choices.kind_of(job.task) == chosen.kind]
        mine = {name: about.name for name, about in runs.own.listed(session, "teacher").items()
                if choices.kind_of(about.task) == chosen.kind}  # fmt: skip
        names = {name: name for name in (*TEACHERS, *own, chosen.teacher)} | mine
        offered = gr.update(choices=[(name, reference) for reference, name in names.items()])
        idle, soon = gr.Timer(active=False), gr.Timer(UNCOUNTED, active=True)
        pending = f'<p class="kd-hint">{escape(words["counting"])}</p>'
        if mistakes := chosen.mistakes(runs, words):
            return [gr.skip(), gr.skip(), "", gr.skip(), offered, idle, setup_markup.notices(mistakes)]
        try:
            recipe = composed(chosen, session, models, wait=PATIENCE)
            try:
                cost = markup.costs(*models.costs(recipe, session, wait=PATIENCE), words)
            except Waiting:
                cost = ""
            text = on_pictures(recipe, chosen.pictures).to_json()
        except Waiting:
            return [gr.skip(), pending, gr.skip(), gr.skip(), offered, soon, ""]
        except UserError as error:
            return [gr.skip(), "", "", gr.skip(), offered, idle, markup.refusal(error, words)]
        spans = estimates.spans(recipe)
        listed = gr.update(choices=lengths(chosen, recipe, runs, estimates, words))
        timer = gr.Timer(UNMEASURED, active=spans is None) if cost else soon
        time = setup_markup.run_time(spans, words)
        return [text, (cost or pending) + setup_markup.prompts(recipe, words), time, listed, offered, timer, ""]

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
    setup.stamp.change(change, setup.given, [setup.composed, setup.cost, setup.time, setup.length, setup.teacher,
                       setup.timer, setup.notice], js="(...v) => kd.keep(...v)", trigger_mode="always_last",
                       **quiet).then(None, js="() => kd.settled()", **quiet)  # fmt: skip
    bring.connect(setup.bringing, models, [setup.kind, setup.preset, setup.length], filled, setup.stamp)
    texts = [setup.text, setup.shown]
    setup.composed.change(
        None, [setup.composed, setup.text, setup.shown], texts, js="(...v) => kd.settle(...v)", **quiet
    )
    setup.take.click(None, [setup.composed], texts, js="(a) => kd.take(a)", **quiet)
    for each in choices.KINDS:
        with suppress(UserError):  # counted ahead for the first visitor
            models.costs(preset(choices.presets_of(each)[0]), "", wait=0)
    page.load(
        None,
        None,
        [*setup.chosen, setup.stamp],
        js=f"() => {{ {page_data(runs)} kd.light(); return kd.recall(); }}",
        **quiet,
    )


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


__all__ = ["Setup", "connect", "controls"]
