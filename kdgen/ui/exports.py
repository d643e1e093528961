"""A finished run's student for other runtimes: made in a process of its own, kept, and shown with its parity."""

import json
import shutil
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from html import escape
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import gradio as gr

from kdgen.export.parity import Parity
from kdgen.models.task_arguments import changes_images
from kdgen.types import Text, UserError, text
from kdgen.types.text import replaced
from kdgen.ui import markup
from kdgen.ui.job import Job, not_done
from kdgen.ui.process import complaint, environment, execute
from kdgen.ui.runs import Runs
from kdgen.ui.sessions import session_of
from kdgen.ui.watch import View, served
from kdgen.ui.words import say, words_for

FORMATS = {"onnx": ".onnx", "onnx-fp16": "-fp16.onnx", "int8": "-int8.onnx", "ncnn": "-ncnn",
           "safetensors-fp16": "-fp16"}  # fmt: skip
"""What students are exported to, and how the files end; a folder is packed."""

SECONDS = 300.0
"""Longest time of an export."""

_making = threading.Lock()


class Downloads:
    """The files of runs that may be sent. They go with their runs, not an hour after they were sent like all others.

    Args:
        runs: whose they are.
    """

    def __init__(self, runs: Runs) -> None:
        self.runs = runs

    def __iter__(self) -> Iterator[str]:
        """Their paths, as Gradio knows them."""
        for job in self.runs.all():
            yield from map(str, (served(self.runs) / job.place).glob("*"))


def offered(task: str = "") -> list[str]:
    """The formats that make sense for a student and can be written here: ncnn is for nets that change pictures.

    Args:
        task: the name of the student's task.
    """
    ncnn = has_ncnn() and bool(task) and changes_images({"name": task})
    return [format for format in FORMATS if format != "ncnn" or ncnn]


def has_ncnn() -> bool:
    """Whether what writes ncnn files is installed here."""
    return all(find_spec(name) is not None for name in ("ncnn", "pnnx"))


def exported(runs: Runs, job: Job, format: str) -> tuple[Path, dict[str, Any]]:
    """A student in another format, where it may be served from, and its parity as `kdgen export` measured it.

    Raises:
        UserError: for a run that is not done or deleted, an unknown format, and whatever `kdgen export` refuses.
    """
    if not isinstance(format, str) or format not in FORMATS:
        raise UserError(text("no_format", "a student is exported as {formats:, }, not as {format!r}",
                             formats=list(FORMATS),
                             format=str(format)[:40]))  # fmt: skip
    if job.state != "done":
        raise UserError(not_done(job))
    name = f"{job.name}{FORMATS[format]}"
    place = served(runs) / job.place
    file = place / (name if "." in FORMATS[format] else f"{name}.zip")
    parity = place / f"{name}.parity.json"
    if not _making.acquire(timeout=SECONDS):
        raise UserError(text("exports_busy", "many others are exporting at the moment: try again in a while"))
    try:
        if not (file.is_file() and parity.is_file()):
            with TemporaryDirectory(prefix="export-", dir=runs.limits.folder) as temporary:
                made = _made(runs, job, format, Path(temporary), name)
                place.mkdir(parents=True, exist_ok=True)
                made.with_name(f"{name}.parity.json").replace(parity)
                if made.is_dir():
                    made = Path(shutil.make_archive(str(made), "zip", made))
                made.replace(file)
        figures: dict[str, Any] = json.loads(parity.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(text("run_deleted", "this run was deleted")) from None
    finally:
        _making.release()
    if not (runs.home(job) / "job.json").is_file():
        shutil.rmtree(place, ignore_errors=True)
        raise UserError(text("run_deleted", "this run was deleted"))
    return file, figures


def _made(runs: Runs, job: Job, format: str, folder: Path, name: str) -> Path:
    """What `kdgen export` writes into a folder, in a process bounded in time and memory."""
    run = (runs.home(job) / "run").resolve()
    arguments = [sys.executable, "-m", "kdgen", "export", str(run), "--format", format, "--out", name, "--json"]
    env = environment(runs.limits.folder / "cache")
    code = execute(arguments, folder, SECONDS, env=env, memory=runs.limits.memory_bytes)
    if code != 0:
        raise UserError(replaced(Text.of(complaint(folder, code)), f"{run}", text("the_student", "the student")))
    return folder / name


def panel(runs: Runs, shown: View) -> None:
    """The accordion that exports the run that is shown."""
    with gr.Accordion(say("export"), open=False, elem_id="kd-export", elem_classes="kd-fold"):
        format = gr.Radio(_choices(offered()), value="onnx", label=say("export_format"), info=say("export_info"),
                          elem_id="kd-export-format")  # fmt: skip
        if not has_ncnn():
            gr.HTML(say("export_without_ncnn"), elem_classes="kd-hint", padding=False)
        go = gr.Button(say("export_go"), elem_id="kd-export-go")
        table = gr.HTML(elem_id="kd-parity")
        file = gr.DownloadButton(say("export_download"), visible=False, elem_id="kd-export-file")

    def make(id: str | None, format: str, request: gr.Request) -> list[Any]:
        try:
            path, parity = exported(runs, runs.get(id or "", session_of(request)), format)
        except UserError as error:
            return [markup.refusal(error, words_for(request)), gr.update(visible=False)]
        return [parity_table(parity, words_for(request)), gr.update(value=str(path), visible=True)]

    go.click(make, [shown.chosen, format], [table, file], api_visibility="private", concurrency_limit=2)

    def other(id: str | None, request: gr.Request) -> list[Any]:
        task = ""
        with suppress(UserError):
            task = runs.get(id or "", session_of(request)).task
        return [gr.update(choices=_choices(offered(task)), value="onnx"), "", gr.update(visible=False)]

    shown.chosen.change(other, [shown.chosen], [format, table, file], api_visibility="private",
                        show_progress="hidden", queue=False)  # fmt: skip


def _choices(formats: Sequence[str]) -> list[tuple[Any, str]]:
    return [(say(f"export_{format.replace('-', '_')}"), format) for format in formats]


def parity_table(figures: Mapping[str, Any], words: Mapping[str, str]) -> str:
    """How near an export comes to its student, and what it saves."""
    parity = Parity.model_validate(figures)
    rows = [
        (words["export_size"], *(f"{size / 1000:,.0f} kB" for size in parity.bytes)),
        (words["export_time"], *(f"{ms:.2f} ms" for ms in parity.latency_ms)),
        *((key, *(f"{value:.4g}" for value in pair)) for key, pair in parity.quality.items()),
        *((words[f"export_{key}"], "", figure) for key, figure in parity.near.items()),
    ]
    body = "".join(f"<tr><th scope=row>{escape(title)}</th><td>{escape(student)}</td><td>{escape(export)}</td></tr>"
                   for title, student, export in rows)  # fmt: skip
    head = f"<td></td><th scope=col>{escape(words['student'])}</th><th scope=col>{escape(parity.file)}</th>"
    return (f'<div class="kd-scroll" tabindex="0" role="region" aria-label="{escape(words["export"], quote=True)}">'
            f"<table class=kd-table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>")  # fmt: skip
