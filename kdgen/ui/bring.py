"""Your own, in the Distill tab: a teacher from the Hub, from files or from a path; pictures to train on."""

import inspect
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from kdgen import registry
from kdgen.models.task_arguments import task_class, task_name
from kdgen.types import UserError, text
from kdgen.ui import choices, markup
from kdgen.ui.markup import Words
from kdgen.ui.models import Models
from kdgen.ui.own import About
from kdgen.ui.runs import Runs
from kdgen.ui.sessions import session_of
from kdgen.ui.teacher_files import check_kinds
from kdgen.ui.words import say, translated, words_for

RESTORERS = ("dncnn", "ffdnet", "half_res", "unet", "patch_mlp")
GENERATORS = ("conv_generator", "mlp_generator")
FAMILIES = (*RESTORERS, *GENERATORS)
"""Nets that are declared with a few arguments."""

RANGES = {"[0, 1]": (0.0, 1.0), "[-1, 1]": (-1.0, 1.0)}
ARGUMENT = re.compile(r",\s*(?=\w+\s*=)")


@dataclass(slots=True)
class Bringing:
    """The controls."""

    source: gr.Radio
    hub: gr.Textbox
    path: gr.Textbox
    declared: gr.Column
    files: gr.File
    family: gr.Dropdown
    args: gr.Textbox
    range: gr.Radio
    predicts: gr.Radio
    prefix: gr.Textbox
    use: gr.Button
    notice: gr.HTML
    taken: gr.Textbox
    upload: gr.UploadButton
    without: gr.Button
    shown: gr.HTML
    pictures: gr.Textbox


def panel(runs: Runs) -> Bringing:
    """The accordion."""
    limits = runs.limits
    sources = ["hub", "file", *(["path"] if limits.trusted else [])]
    with gr.Accordion(say("own"), open=False, elem_id="kd-own", elem_classes="kd-fold"):
        gr.HTML(say("own_info"), elem_classes="kd-hint", padding=False)
        source = gr.Radio([(say(f"own_{each}"), each) for each in sources], value="file", label=say("own_teacher"),
                          info=say("own_teacher_info"), elem_id="kd-own-source")  # fmt: skip
        hub = gr.Textbox(label=say("own_hub"), info=say("own_hub_info"), visible=False, elem_id="kd-own-hub",
                         max_length=200)  # fmt: skip
        path = gr.Textbox(label=say("own_path"), info=say("own_path_info"), visible=False, elem_id="kd-own-path",
                          max_length=1000)  # fmt: skip
        with gr.Column() as declared:
            files = gr.File(label=say("own_file"), file_count="multiple", height=130, elem_id="kd-own-file")
            with gr.Accordion(say("own_declare"), open=False, elem_id="kd-own-declare", elem_classes="kd-fold"):
                with gr.Row():
                    family = gr.Dropdown([(say("own_by_config"), ""), *((name, name) for name in FAMILIES)], value="",
                                         label=say("own_family"), info=say("own_family_info"),
                                         elem_id="kd-own-family")  # fmt: skip
                    args = gr.Textbox(label=say("own_args"), info=say("own_args_info"), max_length=500,
                                      elem_id="kd-own-args")  # fmt: skip
                with gr.Row():
                    values = gr.Radio(list(RANGES), value="[0, 1]", label=say("own_range"), info=say("own_range_info"))
                    predicts = gr.Radio([(say("own_image"), "image"), (say("own_residual"), "residual")], value="image",
                                        label=say("own_predicts"), info=say("own_predicts_info"))  # fmt: skip
                    prefix = gr.Textbox(label=say("own_prefix"), info=say("own_prefix_info"), max_length=120)
        use = gr.Button(say("own_use"), elem_id="kd-own-use")
        notice = gr.HTML(elem_id="kd-own-notice", padding=False)
        taken = gr.Textbox(visible="hidden", elem_id="kd-own-taken", show_label=False)
        gr.HTML(say("own_pictures"), elem_classes="kd-group", padding=False)
        gr.HTML(say("own_pictures_info"), elem_classes="kd-hint", padding=False)
        with gr.Row(elem_classes="kd-buttons"):
            upload = gr.UploadButton(say("own_upload"), file_types=["image"], file_count="multiple", size="sm",
                                     elem_id="kd-own-upload")  # fmt: skip
            without = gr.Button(say("own_without"), size="sm", visible=False, elem_id="kd-own-without")
        shown = gr.HTML(elem_id="kd-own-pictures", padding=False)
        pictures = gr.Textbox(visible="hidden", elem_id="kd-own-set", show_label=False)
    return Bringing(source, hub, path, declared, files, family, args, values, predicts, prefix, use, notice, taken,
                    upload, without, shown, pictures)  # fmt: skip


def connect(bringing: Bringing, models: Models, setup: Sequence[Any], filled: Sequence[Any], stamp: gr.Textbox) -> None:
    """Let what is brought fill in the controls.

    Args:
        bringing: the controls of this room.
        models: that take it.
        setup: the controls of kind, preset and length.
        filled: the other controls, the stamp the last of them.
        stamp: changes when the recipe is to be composed anew.
    """

    def use(source: str, hub: str, path: str, files: list[str] | None, family: str, args: str, span: str,
            predicts: str, prefix: str, request: gr.Request) -> Iterator[list[Any]]:  # fmt: skip
        words, session = words_for(request), session_of(request)
        try:
            if source == "file" and not files:
                raise UserError(words["own_no_file"])
            yield [markup.notice(words["own_checking"], kind="good"), gr.skip(), gr.skip()]
            if source == "file":
                declared = declaration(family, args, span, predicts, prefix) if family else None
                reference, about = models.bring([Path(file) for file in files or ()], declared, session)
            else:
                reference = ((hub if source == "hub" else path) or "").strip()
                task = models.task(reference, session, wait=models.runs.limits.request_seconds)
                about = About("teacher", reference, task_name(task))
        except UserError as error:
            yield [markup.refusal(error, words), gr.skip(), gr.skip()]
            return
        kind, usual = choices.kind_of(about.task), task_class({"name": about.task}).usual_preset
        like = {"kind": kind, "preset": usual if usual in choices.presets_of(kind) else None}
        taken = json.dumps({"reference": reference, **like})
        yield [_taken(about, words), taken, None if source == "file" else gr.skip()]

    def take(files: list[str] | None, request: gr.Request) -> list[Any]:
        words = words_for(request)
        try:
            reference, about = models.bring_pictures([Path(file) for file in files or ()], session_of(request))
        except UserError as error:
            return [markup.refusal(error, words), gr.skip(), gr.skip()]
        said = markup.notice(words["own_have"].format(count=about.count), kind="good")
        return [said, reference, gr.update(visible=True)]

    def looked_at(files: list[str] | None, request: gr.Request) -> list[Any]:
        try:
            check_kinds([Path(file) for file in files or ()])
        except UserError as error:
            return [markup.refusal(error, words_for(request)), None]
        return ["", gr.skip()]

    private: dict[str, Any] = {"api_visibility": "private", "show_progress": "minimal"}
    quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden", "queue": False}
    parts = {"hub": bringing.hub, "path": bringing.path, "file": bringing.declared}
    bringing.source.input(
        lambda source: [gr.update(visible=source == name) for name in parts],
        [bringing.source],
        [*parts.values()],
        **quiet,
    )
    bringing.files.upload(looked_at, [bringing.files], [bringing.notice, bringing.files], **quiet)
    bringing.family.input(lambda family: arguments_of(family), [bringing.family], [bringing.args], **quiet)
    given = [bringing.source, bringing.hub, bringing.path, bringing.files, bringing.family, bringing.args,
             bringing.range, bringing.predicts, bringing.prefix]  # fmt: skip
    bringing.use.click(use, given, [bringing.notice, bringing.taken, bringing.files], concurrency_limit=2, **private)
    bringing.taken.change(None, [bringing.taken, *setup], [*setup[:2], *filled], js="(...v) => kd.own(...v)", **quiet)
    bringing.upload.upload(take, [bringing.upload], [bringing.shown, bringing.pictures, bringing.without],
                           concurrency_limit=2, **private)  # fmt: skip
    bringing.without.click(lambda: ["", "", gr.update(visible=False)], None,
                           [bringing.shown, bringing.pictures, bringing.without], **quiet)  # fmt: skip
    bringing.pictures.change(None, None, [stamp], js="() => kd.stamp()", **quiet)


def arguments_of(family: str) -> str:
    """The arguments of a family of nets with their defaults, as a visitor edits them."""
    if family not in FAMILIES:
        return ""
    parameters = inspect.signature(registry.get("net", family)).parameters
    named = {name: each.default for name, each in parameters.items() if name != "predicts"}
    return ", ".join(f"{name}={json.dumps(value)}" for name, value in named.items())


def declaration(family: str, args: str, span: str, predicts: str, prefix: str) -> Mapping[str, Any]:
    """A declaration as ``kdgen.recipe.Checkpoint`` says, without its file. Raises UserError for what is none."""
    if family not in FAMILIES or span not in RANGES:
        raise UserError(text("no_listed_net", "{family!r} is no net of the list: choose one, or upload a config.json",
                             family=family[:40]))  # fmt: skip
    found = {}
    for part in filter(None, ARGUMENT.split(args.strip())):
        name, equals, value = (each.strip() for each in part.partition("="))
        if not equals:
            raise UserError(text("no_net_arguments", "arguments are written NAME=VALUE, with commas between, not "
                                 "{part!r}", part=part[:40]))  # fmt: skip
        try:
            found[name] = json.loads(value)
        except (ValueError, RecursionError):
            found[name] = value
    return {"net": {"name": family, "args": found}, "range": RANGES[span], "predicts": predicts, "prefix": prefix,
            "task": {"name": registry.having("task", draws="latents")[0]} if family in GENERATORS else {}}  # fmt: skip


def _taken(about: About, words: Words) -> str:
    """What was taken, and what is to be known of it."""
    count = f" ({about.count:,} {words['parameters']})" if about.count else ""
    lines = "".join(f"<p>{escape(translated(note, words))}</p>" for note in about.notes)
    return markup.notice(words["own_taken"].format(name=about.name + count), kind="good") + lines


__all__ = ["Bringing", "arguments_of", "connect", "declaration", "panel"]
