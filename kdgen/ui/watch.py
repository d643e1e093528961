"""The right side of the Distill tab: a run as its folder shows it, again and again."""

import shutil
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from kdgen.hub.scan import without_paths
from kdgen.types import UserError
from kdgen.ui import markup
from kdgen.ui.charts import loss_chart, quality_chart, signs_chart
from kdgen.ui.progress import Progress, follow
from kdgen.ui.runs import SERVED, Job, Runs
from kdgen.ui.words import say, words_for

EVERY = 2.0
"""Seconds between looks at a run."""

CURVES_EVERY = 4.0
"""Seconds between new curves."""

_packing = threading.Lock()


@dataclass(slots=True)
class View:
    """The components that show a run, in the order in which ``look`` returns their values."""

    chosen: gr.Dropdown
    status: gr.HTML
    buttons: gr.Row
    stop: gr.Button
    resume: gr.Button
    curves: gr.HTML
    preview: gr.HTML
    results: gr.Column
    table: gr.HTML
    student: gr.DownloadButton
    recipe: gr.DownloadButton
    compare: gr.Button
    state: gr.State
    timer: gr.Timer

    @property
    def outputs(self) -> list[Any]:
        """All that ``look`` sets."""
        return [self.status, self.stop, self.resume, self.curves, self.preview, self.results, self.table, self.student,
                self.recipe, self.state, self.timer]  # fmt: skip


def view() -> View:
    """The components."""
    with gr.Group(elem_classes="kd-card"):
        chosen = gr.Dropdown([], value=None, label=say("your_runs"), info=say("your_runs_info"), visible=False,
                             elem_id="kd-runs")  # fmt: skip
        status = gr.HTML(elem_id="kd-status")
        with gr.Row(elem_classes="kd-buttons") as buttons:
            stop = gr.Button(say("stop"), variant="stop", visible=False, elem_id="kd-stop")
            resume = gr.Button(say("resume"), variant="secondary", visible=False, elem_id="kd-resume")
    with gr.Column(visible=False, elem_classes="kd-card", elem_id="kd-results") as results:
        gr.HTML(say("result"), elem_classes="kd-heading")
        table = gr.HTML(elem_id="kd-table")
        with gr.Row(elem_classes="kd-buttons"):
            student = gr.DownloadButton(say("download_student"), variant="primary", elem_id="kd-student")
            recipe = gr.DownloadButton(say("download_recipe"), elem_id="kd-download-recipe")
            compare = gr.Button(say("open_compare"), elem_id="kd-open-compare")
    curves = gr.HTML(elem_id="kd-curves")
    preview = gr.HTML(elem_id="kd-preview")
    state = gr.State({})
    timer = gr.Timer(EVERY, active=False)
    return View(chosen, status, buttons, stop, resume, curves, preview, results, table, student, recipe, compare, state,
                timer)  # fmt: skip


def look(
    runs: Runs, session: str, id: str | None, previous: Mapping[str, Any], request: gr.Request | None
) -> list[Any]:
    """What has changed about a run since it was seen last: values for ``View.outputs``, others are left as they are."""
    words = words_for(request)
    try:
        job = runs.get(id, session) if id else None
    except UserError:
        job = None
    if job is None:
        return [markup.status(None, 0, Progress(Path()), words), gr.update(visible=False), gr.update(visible=False),
                "", "", gr.update(visible=False), "", gr.skip(), gr.skip(), {}, gr.Timer(active=False)]  # fmt: skip
    state = dict(previous) if previous.get("id") == id else {"id": id}
    fresh = state == {"id": id}
    progress = follow(runs.home(job) / "run")
    values: list[Any] = [markup.status(job, runs.place(job.id), progress, words, waits=runs.waits(job))]
    values.append(gr.update(visible=not job.over) if state.get("state") != job.state else gr.skip())
    resumable = job.state in ("stopped", "failed") and progress.phase != ""
    values.append(gr.update(visible=resumable) if state.get("state") != job.state else gr.skip())
    values.append(_curves(progress, state, job, words))
    values.append(_preview(progress, state, words))
    values += _results(runs, job, progress, state, words, fresh=fresh)
    state["state"] = job.state
    return [*values, state, gr.Timer(active=not job.over)]


def _curves(progress: Progress, state: dict[str, Any], job: Job, words: Mapping[str, str]) -> Any:
    count = sum(len(each) for phase in progress.curves.values() for each in phase.values())
    recent = time.time() - state.get("drawn", 0) < CURVES_EVERY and not job.over
    if count == state.get("count", -1) or (recent and count):
        return gr.skip()
    state["count"], state["drawn"] = count, time.time()
    charts = [("loss_title", loss_chart(progress.curves, words)),
              ("quality_title", quality_chart(progress.curves, progress.primary_metric, words)),
              ("signs_title", signs_chart(progress.curves, words))]  # fmt: skip
    return "".join(f"<figure class=kd-figure><figcaption>{words[title]}</figcaption>{svg}</figure>"
                   for title, svg in charts if svg)  # fmt: skip


def _preview(progress: Progress, state: dict[str, Any], words: Mapping[str, str]) -> Any:
    path = progress.preview
    try:
        stamp = (path.name, path.stat().st_mtime_ns) if path else None
        if stamp == state.get("preview", ()):
            return gr.skip()
        state["preview"] = stamp
        if path is None:
            return ""
        alt = words["samples_alt" if path.name == "samples.png" else "preview_alt"]
        image = markup.picture(path, alt)
    except (OSError, SyntaxError):
        return gr.skip()
    title = words["samples_title" if path.name == "samples.png" else "preview_title"]
    return f'<figure class="kd-figure kd-wide" tabindex="0"><figcaption>{title}</figcaption>{image}</figure>'


def _results(
    runs: Runs, job: Job, progress: Progress, state: dict[str, Any], words: Mapping[str, str], *, fresh: bool
) -> list[Any]:
    """The results group, its table and the two files."""
    if job.state != "done":
        hidden = gr.update(visible=False) if fresh or state.get("results") else gr.skip()
        state["results"] = False
        return [hidden, gr.skip(), gr.skip(), gr.skip()]
    if state.get("results"):
        return [gr.skip()] * 4
    report = progress.report()
    state["results"] = True
    table = markup.table(report, words) if report else ""
    try:
        student, recipe = packed(runs, job)
    except UserError:
        return [gr.skip()] * 4
    return [gr.update(visible=True), table, gr.update(value=str(student)), gr.update(value=str(recipe))]


def packed(runs: Runs, job: Job) -> tuple[Path, Path]:
    """A finished run's student as a zip and its recipe, where they may be served from.

    Raises:
        UserError: for a run that is being deleted.
    """
    run, place = runs.home(job) / "run", served(runs) / job.id
    student, recipe = place / f"{job.name}-student.zip", place / f"{job.name}.json"
    try:
        with _packing:
            if not student.is_file():
                place.mkdir(parents=True, exist_ok=True)
                made = shutil.make_archive(str(place / "partial"), "zip", run / "student")
                Path(made).replace(student)
            text, _ = without_paths((run / "recipe.json").read_text(encoding="utf-8"))
            recipe.write_text(text, encoding="utf-8")
    except FileNotFoundError:
        raise UserError("this run was deleted") from None
    return student, recipe


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
