"""The right side of the Distill tab: a run as its folder shows it, again and again."""

import shutil
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, fields
from functools import lru_cache
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from kdgen.hub.scan import without_paths
from kdgen.report.said import about_of
from kdgen.types import UserError, text
from kdgen.ui import markup, sharing
from kdgen.ui.browser_student import element
from kdgen.ui.charts import figures
from kdgen.ui.job import Job
from kdgen.ui.origin import origin
from kdgen.ui.progress import Progress, follow
from kdgen.ui.result import numbers, result
from kdgen.ui.runs import SERVED, Runs
from kdgen.ui.showcase import EXAMPLE, FOLDER
from kdgen.ui.words import CHINESE, ENGLISH, say, words_for

BUTTONS = ("stop", "resume", "student", "recipe", "compare", "delete", "share")

SHOWN_WITHIN = 120.0
"""Seconds after a run in which its pictures are waited for."""

EVERY = 2.0
"""Seconds between looks at a run."""

CURVES_EVERY = 4.0
"""Seconds between new curves."""

_packing = threading.Lock()


@dataclass(slots=True)
class View:
    """The components that show a run; up to ``timer`` in the order in which ``look`` returns their values."""

    chosen: gr.Dropdown
    status: gr.HTML
    table: gr.HTML
    stop: gr.Button
    resume: gr.Button
    student: gr.DownloadButton
    recipe: gr.DownloadButton
    compare: gr.Button
    delete: gr.Button
    share: gr.Accordion
    link: gr.HTML
    revoke: gr.Button
    curves: gr.HTML
    local: gr.HTML
    learned: gr.HTML
    preview: gr.HTML
    example: gr.HTML
    state: gr.State
    timer: gr.Timer
    make: gr.Button

    @property
    def outputs(self) -> list[Any]:
        """All that ``look`` sets."""
        return [self.chosen, *(getattr(self, name) for name in LOOKED)]


LOOKED = tuple(field.name for field in fields(View))[1:-1]


def view() -> View:
    """The components."""
    with gr.Group(elem_classes="kd-card"):
        chosen = gr.Dropdown([], value=None, label=say("your_runs"), info=say("your_runs_info"), visible=False,
                             elem_id="kd-runs")  # fmt: skip
        status = gr.HTML(elem_id="kd-status")
    table = gr.HTML(elem_id="kd-table", elem_classes="kd-card")
    local = gr.HTML(elem_id="kd-local")
    with gr.Row(elem_classes="kd-buttons"):
        stop = gr.Button(say("stop"), variant="stop", visible=False, elem_id="kd-stop")
        resume = gr.Button(say("resume"), variant="primary", visible=False, elem_id="kd-resume")
        student = gr.DownloadButton(say("download_student"), variant="primary", visible=False, elem_id="kd-student")
        compare = gr.Button(say("open_compare"), visible=False, elem_id="kd-open-compare")
        recipe = gr.DownloadButton(say("download_recipe"), visible=False, elem_id="kd-download-recipe")
        delete = gr.Button(say("delete"), visible=False, elem_id="kd-delete")
    with gr.Accordion(say("share"), open=False, visible=False, elem_id="kd-share", elem_classes="kd-fold") as share:
        gr.HTML(say("share_info"), elem_classes="kd-hint")
        link = gr.HTML(elem_id="kd-share-link")
        with gr.Row(elem_classes="kd-buttons"):
            make = gr.Button(say("share_make"), variant="primary", elem_id="kd-share-make")
            revoke = gr.Button(say("share_revoke"), visible=False, elem_id="kd-share-revoke")
    curves = gr.HTML(elem_id="kd-curves")
    learned, preview = gr.HTML(elem_id="kd-learned"), gr.HTML(elem_id="kd-preview")
    example = gr.HTML(elem_id="kd-example", elem_classes="kd-card")
    state, timer = gr.State({}), gr.Timer(EVERY, active=False)
    return View(chosen, status, table, stop, resume, student, recipe, compare, delete, share, link, revoke, curves,
                local, learned, preview, example, state, timer, make)  # fmt: skip


def look(
    runs: Runs, session: str, id: str | None, previous: Mapping[str, Any], request: gr.Request | None
) -> list[Any]:
    """What has changed about a run since it was seen last: values for ``View.outputs``, others are left as they are."""
    words = words_for(request)
    try:
        job = runs.get(id, session) if id else None
    except UserError:
        job = None
    listed = choices_of(runs, session, words)
    state: dict[str, Any] = dict(previous) if job and previous.get("id") == id else {"id": id}
    values: dict[str, Any] = dict.fromkeys(LOOKED, gr.skip())
    runs_listed = gr.skip()
    if listed != state.get("listed"):
        state["listed"] = listed
        runs_listed = gr.update(choices=listed, value=job.id if job else None, visible=bool(listed))
    if job is None:
        hidden = dict.fromkeys(BUTTONS, gr.update(visible=False))
        values |= {**hidden, **dict.fromkeys(("table", "curves", "local", "learned", "preview"), ""),
                   "status": markup.status(None, 0, Progress(Path()), words), "example": example(words)}  # fmt: skip
        if id and previous.get("id") == id:
            values["status"] = markup.notice(words["run_lost"])
        return [runs_listed, *(values | {"state": state, "timer": gr.Timer(active=False)}).values()]
    progress = follow(runs.home(job) / "run")
    values["status"] = markup.status(job, runs.place(job.id), progress, words, waits=runs.waits(job))
    pictures = _pictures(runs, job)
    if (job.state, pictures) != (state.get("state"), state.get("pictures")):
        values["table"] = _result(runs, job, progress, words, pictures)
    if job.state != state.get("state"):
        values["example"] = ""
        values["link"], values["revoke"] = link_to(runs, job, words, request)
        values |= _buttons(runs, job, progress)
        values["local"] = element(f"browser/{job.id}/", job.task, words) if job.state == "done" else ""
    values["curves"] = _curves(progress, state, job, words)
    values["preview"] = _preview(progress, state, words)
    values["learned"] = _learned(runs, job, state, words)
    state |= {"state": job.state, "pictures": pictures}
    values |= {"state": state, "timer": gr.Timer(active=not job.over or pictures == "coming")}
    return [runs_listed, *values.values()]


@lru_cache(maxsize=4)
def _example(chinese: bool) -> str:
    words = CHINESE if chinese else ENGLISH
    run = follow(EXAMPLE)
    report = run.report()
    found = numbers(report, words) if report else None
    if report is None or found is None:
        return ""
    about = words["example_about"].format(cheaper=found.cheaper, lost=found.lost)
    shown = result(report, words, place="example", pictures=EXAMPLE / FOLDER, run=run, curve=True)
    return f'<div class="kd-about-example"><h2>{escape(words["example_title"])}</h2><p>{escape(about)}</p></div>{shown}'


def example(words: Mapping[str, str]) -> str:
    """A finished run that comes with the app, for those who have none yet."""
    return _example(words is CHINESE)


def link_to(runs: Runs, job: Job, words: Mapping[str, str], request: gr.Request | None) -> tuple[str, Any]:
    """The read-only link of a run, where it has one, and whether it can be taken back."""
    token = sharing.token_of(runs, job)
    return markup.link(address_of(token, request), words) if token else "", gr.update(visible=bool(token))


def address_of(token: str, request: gr.Request | None) -> str:
    """The address of a shared run."""
    asked = request.request if request is not None else None
    return f"{origin(asked.scope) if asked is not None else ''}/r/{token}"


def showcase_of(runs: Runs, job: Job) -> Path:
    """The folder of a run's pictures before and after."""
    return runs.home(job) / FOLDER


def _buttons(runs: Runs, job: Job, progress: Progress) -> dict[str, Any]:
    """What can be done with a run as it stands."""
    has_student = job.over and student_of(runs.home(job) / "run") is not None
    files: tuple[Path, Path] | None = None
    if has_student:
        with suppress(UserError):
            files = packed(runs, job)
    done = job.state == "done"
    name = say("download_student" if done else "so_far")
    return {
        "stop": gr.update(visible=not job.over),
        "resume": gr.update(visible=job.state == "stopped" or (job.state == "failed" and progress.phase != "")),
        "student": gr.update(visible=True, value=str(files[0]), label=name) if files else gr.update(visible=False),
        "recipe": gr.update(visible=True, value=str(files[1])) if files else gr.update(visible=False),
        "compare": gr.update(visible=has_student),
        "delete": gr.update(visible=job.over),
        "share": gr.update(visible=done),
    }


def _pictures(runs: Runs, job: Job) -> str:
    """Whether the pictures of a finished run are ``there`` or ``coming``; empty where there are none."""
    there, recent = showcase_of(runs, job).is_dir(), time.time() - job.ended < SHOWN_WITHIN
    coming = recent and about_of({"name": job.task}) is None
    return "" if job.state != "done" else "there" if there else "coming" if coming else ""


def _result(runs: Runs, job: Job, progress: Progress, words: Mapping[str, str], pictures: str) -> str:
    """The result of a finished run."""
    report = progress.report() if job.state == "done" else None
    return "" if report is None else result(report, words, place=job.id, pictures=showcase_of(runs, job),
                                            coming=pictures == "coming")  # fmt: skip


def _learned(runs: Runs, job: Job, state: dict[str, Any], words: Mapping[str, str]) -> Any:
    """The animation of how the student learned, once."""
    path = showcase_of(runs, job) / "learned.webp"
    shown = job.state == "done" and path.is_file()
    if state.get("learned") == shown:
        return gr.skip()
    state["learned"] = shown
    return markup.animation(path, words, f"learned/{job.id}.gif") if shown else ""


def _curves(progress: Progress, state: dict[str, Any], job: Job, words: Mapping[str, str]) -> Any:
    count = sum(len(each) for phase in progress.curves.values() for each in phase.values())
    recent = time.time() - state.get("drawn", 0) < CURVES_EVERY and not job.over
    if count == state.get("count", -1) or (recent and count):
        return gr.skip()
    state |= {"count": count, "drawn": time.time()}
    return figures(progress, words)


def _preview(progress: Progress, state: dict[str, Any], words: Mapping[str, str]) -> Any:
    path = progress.preview
    try:
        stamp = (path.name, path.stat().st_mtime_ns) if path else None
        if stamp == state.get("preview", ()):
            return gr.skip()
        state["preview"] = stamp
        if path is None:
            return ""
        kind = "samples" if path.name == "samples.png" else "preview"
        image = markup.picture(path, words[f"{kind}_alt"])
    except (OSError, SyntaxError):
        return gr.skip()
    title = words[f"{kind}_title"]
    return f'<figure class="kd-figure kd-wide" tabindex="0"><figcaption>{title}</figcaption>{image}</figure>'


def student_of(run: Path) -> Path | None:
    """The folder of a run's student, or of its best so far where it has not ended; None where there is none yet."""
    best = run / "best" / "student"
    return run / "student" if (run / "student").is_dir() else best if (best / "config.json").is_file() else None


def packed(runs: Runs, job: Job) -> tuple[Path, Path]:
    """A run's student as a zip, as far as it has learned, and its recipe, where they may be served from.

    Raises:
        UserError: for a run that is being deleted, or has no student yet.
    """
    run, place = runs.home(job) / "run", served(runs) / job.place
    student = student_of(run)
    if student is None:
        raise UserError(text("no_student_yet", "this run has no student yet") if run.is_dir() else
                        text("run_deleted", "this run was deleted"))  # fmt: skip
    try:
        kept = student / "best.json"
        stamp = f"-so-far-{kept.stat().st_mtime_ns // 10**6:x}" if student.parent.name == "best" else ""
        zipped = place / f"{job.name.removesuffix('-student')}-student{stamp}.zip"
        recipe = place / f"{job.name}.json"
        with _packing:
            if not zipped.is_file():
                place.mkdir(parents=True, exist_ok=True)
                for older in place.glob("*.zip"):
                    older.unlink()
                made = shutil.make_archive(str(place / "partial"), "zip", student)
                Path(made).replace(zipped)
            recipe.write_text(without_paths((run / "recipe.json").read_text(encoding="utf-8"))[0], encoding="utf-8")
    except FileNotFoundError:
        raise UserError(text("run_deleted", "this run was deleted")) from None
    return zipped, recipe


def served(runs: Runs) -> Path:
    """The only folder whose files the page may send."""
    return (runs.limits.folder / SERVED).resolve()


def choices_of(runs: Runs, session: str, words: Mapping[str, str]) -> list[tuple[str, str]]:
    """The runs of a session as a list to choose from."""
    try:
        jobs = runs.owned_by(session)
    except UserError:
        return []
    return [(f"{job.name} · {time.strftime('%H:%M:%S', time.localtime(job.created))} · {words[f'state_{job.state}']}",
             job.id) for job in jobs]  # fmt: skip
