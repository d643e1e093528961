"""The Gallery tab: finished runs, bundled teachers and published students as pictures with their key figures."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from kdgen import hub
from kdgen.models.config import read_config
from kdgen.models.loading import BUNDLED, bundled_names
from kdgen.models.task_arguments import task_class
from kdgen.recipe import read
from kdgen.report.report import Report
from kdgen.report.said import about_of
from kdgen.types import UserError
from kdgen.ui import choices, compare, markup
from kdgen.ui.job import Job
from kdgen.ui.models import Models
from kdgen.ui.own import FOLDER
from kdgen.ui.progress import follow
from kdgen.ui.runs import Runs
from kdgen.ui.sessions import session_of
from kdgen.ui.shelves import SHELVES, card, shelf_of
from kdgen.ui.showcase import FOLDER as SHOWCASE
from kdgen.ui.theme import backgrounds, inline
from kdgen.ui.words import say, words_for

SIDE = 320
HUB_FRESH = 300.0

PRELOADED = tuple(choices.KINDS)[-1]
"""Under which kind students of the Hub stand that the app has loaded before: the last, which draw in few steps."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A model in the gallery.

    Attributes:
        reference: as visitors name it.
        name: what it is called.
        kind: what it does, a key of ``SHELVES``.
        origin: ``yours``, ``bundled`` or ``on_hub``.
        figures: in a line.
        teacher: who taught it, by reference.
        picture: of what it does.
    """

    reference: str
    name: str
    kind: str
    origin: str
    figures: str
    teacher: str
    picture: str


def tab(runs: Runs, models: Models, tabs: gr.Tabs, comparing: compare.Comparing, tab: gr.Tab,
        students: Sequence[str]) -> None:  # fmt: skip
    """The tab."""
    gr.HTML(say("gallery_info"), elem_classes="kd-hint")
    with gr.Group(elem_classes="kd-card"):
        kinds = [(say("all"), "all"), *((say(f"kind_{kind}"), kind) for kind in SHELVES)]
        shown = gr.Radio(kinds, value="all", label=say("filter"), info=say("filter_info"))
        online = gr.Checkbox(False, label=say("hub_students"), info=say("hub_info"))
    listed = [(entry.name, entry.reference) for entry in bundled()]
    pictures = gr.Radio(listed, label=say("gallery"), info=say("gallery_hint"), elem_id="kd-gallery", value=None)
    looks = gr.HTML(_looks(bundled()), elem_id="kd-gallery-looks")
    with gr.Row(elem_classes="kd-buttons"):
        opened = gr.Button(say("open_compare"), variant="primary", visible=False, elem_id="kd-gallery-compare")
        deleted = gr.Button(say("delete"), variant="stop", visible=False, elem_id="kd-gallery-delete")
    details = gr.HTML(elem_id="kd-details")

    def fill(kind: str, online: bool, request: gr.Request) -> list[Any]:
        words = words_for(request)
        found, message = entries(runs, session_of(request), words, students), ""
        if online:
            try:
                found = [*found, *from_hub()]
            except UserError:
                message = markup.notice(words["hub_out"])
        found = [entry for entry in found if kind in ("all", entry.kind)]
        named = [("\n".join(filter(None, (f"{entry.name} · {words[entry.origin]}", entry.figures))), entry.reference)
                 for entry in found]  # fmt: skip
        return [gr.update(choices=named, value=None), _looks(found), message, gr.update(visible=False),
                gr.update(visible=False)]  # fmt: skip

    def choose(reference: str | None, request: gr.Request) -> list[Any]:
        words, session = words_for(request), session_of(request)
        candidates = [*entries(runs, session, words, students), *_cached_hub()]
        entry = next((each for each in candidates if each.reference == reference), None)
        if entry is None:
            return [markup.notice(words["details"]), gr.update(visible=False), gr.update(visible=False)]
        return [
            _details(entry, runs, session, words),
            gr.update(visible=True),
            gr.update(visible=entry.origin == "yours"),
        ]

    def remove(reference: str, kind: str, online: bool, request: gr.Request) -> list[Any]:
        try:
            runs.delete(reference.removeprefix("run:"), session_of(request))
            message = markup.notice(words_for(request)["deleted"], kind="good")
        except UserError as error:
            message = markup.refusal(error, words_for(request))
        pictures, looks, _, *rest = fill(kind, online, request)
        return [pictures, looks, message, *rest]

    def to_compare(reference: str, request: gr.Request) -> list[Any]:
        session = session_of(request)
        found = entries(runs, session, words_for(request), students)
        entry = next((each for each in found if each.reference == reference), None)
        pair = [entry.teacher if entry and entry.teacher else reference, reference]
        offered = compare.offered(runs, session, students)
        return [gr.Tabs(selected="compare"), gr.update(value=list(dict.fromkeys(pair)), choices=offered)]

    quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    outputs = [pictures, looks, details, opened, deleted]
    for event in (tab.select, shown.input, online.input):
        event(fill, [shown, online], outputs, **quiet)
    pictures.input(choose, [pictures], [details, opened, deleted], **quiet)
    deleted.click(remove, [pictures, shown, online], outputs, **quiet)
    opened.click(to_compare, [pictures], [tabs, comparing.models], **quiet).then(
        comparing.run, comparing.inputs, comparing.outputs, api_visibility="private"
    )


def entries(runs: Runs, session: str, words: markup.Words, students: Sequence[str] = ()) -> list[Entry]:
    """What is at hand: this session's finished runs, the bundled teachers, preloaded students."""
    try:
        jobs = [job for job in runs.owned_by(session) if job.state == "done"]
    except UserError:
        jobs = []
    own = [Entry(f"run:{job.id}", job.name, shelf_of(job.task), "yours",
                 markup.key_figures(follow(runs.home(job) / "run").report(), words), teacher_of(runs, job),
                 thumbnail(runs.home(job), job.task)) for job in jobs]  # fmt: skip
    preloaded = [Entry(name, name, PRELOADED, "on_hub", "", "", str(card(PRELOADED))) for name in students]
    return [*own, *bundled(words), *preloaded]


def bundled(words: markup.Words | None = None) -> list[Entry]:
    """The bundled teachers and students; with their figures where there are words for these."""
    return [Entry(name, name, kind, "bundled", markup.key_figures(report, words) if words else "",
                  taught_by(report), str(card(kind))) for name, (kind, report) in _shelf().items()]  # fmt: skip


@lru_cache(maxsize=1)
def _shelf() -> Mapping[str, tuple[str, Report | None]]:
    """The kind of each bundled model that the gallery has a place for, and of students their report."""
    kinds = {name: task_class({"name": str(read_config(BUNDLED / name).task.get("name"))}).group
             for name in bundled_names()}  # fmt: skip
    return {name: (kind, _report(name)) for name, kind in kinds.items() if kind in SHELVES}


def _report(bundled: str) -> Report | None:
    path = BUNDLED / bundled / "report.json"
    return Report.read(path) if path.is_file() else None


def taught_by(report: Report | None) -> str:
    """The name of a student's teacher."""
    teacher = report.find("teacher") if report else None
    return str(teacher.name) if teacher else ""


def from_hub() -> tuple[Entry, ...]:
    """Published students. Raises WorldError where the Hub cannot be reached."""
    return _fetch_hub(int(time.time() / HUB_FRESH))


def teacher_of(runs: Runs, job: Job) -> str:
    """The teacher of a run as visitors name it; nothing of a fault finder's, which is part of what finds them."""
    if about_of({"name": job.task}) == "faults":
        return ""
    try:
        teacher = str(read(runs.home(job) / "run" / "recipe.json").teacher)
    except UserError:
        return ""
    path, _, _ = teacher.partition("#")
    if not Path(path).is_relative_to(runs.folder.absolute()):
        return teacher
    _, *inside = Path(path).relative_to(runs.folder.absolute()).parts
    return f"own:{inside[1]}" if inside[0] == FOLDER else f"run:{Path(path).parent.name}"


def thumbnail(home: Path, task: str) -> str:
    """A square picture of what a run's student does, made once."""
    source = next(iter(sorted((home / SHOWCASE).glob("*-student.webp"))), home / "run" / "samples.png")
    path = home / f"thumbnail-{source.stem}.webp"
    if not path.is_file():
        try:
            with Image.open(source) as image:
                side = min(image.size)
                _square(image.convert("RGB"), side).save(path, "WEBP", quality=80)
        except OSError:
            return str(card(shelf_of(task)))
    return str(path)


def _square(image: Image.Image, side: int) -> Image.Image:
    side = min(side, 2 * SIDE)
    return image.crop((0, 0, side, side)).resize((SIDE, SIDE), Image.Resampling.LANCZOS)


def _looks(found: Sequence[Entry]) -> str:
    """The pictures of entries, as the background of the buttons that choose them."""
    return f"<style>{backgrounds('kd-gallery', [inline(entry.picture) for entry in found])}</style>"


_hub: dict[int, tuple[Entry, ...]] = {}


def _fetch_hub(period: int) -> tuple[Entry, ...]:
    if period not in _hub:
        found = tuple(
            Entry(student.id, student.id, shelf_of(student.task), "on_hub",
                  " · ".join(f"{key} {value:.4g}" for key, value in student.figures.items()), student.teacher,
                  str(card(shelf_of(student.task))))
            for student in hub.published(limit=50)
        )  # fmt: skip
        _hub.clear()
        _hub[period] = found
    return _hub[period]


def _cached_hub() -> tuple[Entry, ...]:
    return next(iter(_hub.values()), ())


def _details(entry: Entry, runs: Runs, session: str, words: markup.Words) -> str:
    head = f"<h2>{escape(entry.name)}</h2><p class=kd-hint>{words[entry.origin]}"
    head += f" · {escape(entry.figures)}</p>" if entry.figures else "</p>"
    if entry.origin != "yours":
        _, report = _shelf().get(entry.name, ("", None))
        return f'<div class="kd-figure">{head}{markup.table(report, words) if report else ""}</div>'
    job = runs.get(entry.reference.removeprefix("run:"), session)
    report = follow(runs.home(job) / "run").report()
    body = markup.table(report, words) if report else ""
    samples = runs.home(job) / "run" / "samples.png"
    image = markup.picture(samples, words["samples_alt"]) if samples.is_file() else ""
    return f'<div class="kd-figure">{head}{body}</div><div class="kd-figure kd-wide" tabindex="0">{image}</div>'
