"""The whole page, and the server behind it."""

import os
import signal
import sys
from collections.abc import Sequence
from typing import Any

import gradio as gr
from huggingface_hub import constants

from kdgen.types import UserError
from kdgen.ui import compare, distill, gallery, markup, publish, sharing, watch
from kdgen.ui.api import endpoints
from kdgen.ui.limits import Limits, switched_on
from kdgen.ui.models import Models
from kdgen.ui.process import Execute
from kdgen.ui.routes import server_arguments
from kdgen.ui.runs import SERVED, Runs
from kdgen.ui.sessions import Codes, session_of
from kdgen.ui.theme import HEAD, css, scripts, theme
from kdgen.ui.words import I18N, say, words_for

TOGGLE = "() => { document.body.classList.toggle('dark'); }"


def build(runs: Runs, codes: Codes, students: Sequence[str] = ()) -> gr.Blocks:
    """The page.

    Args:
        runs: what visitors began.
        codes: that hand a session to another browser.
        students: ids of the Hub that are offered by name.
    """
    models = Models(runs)
    page = gr.Blocks(title="kdgen", analytics_enabled=False, delete_cache=(600, 3600))
    with page:
        with gr.Row(elem_classes="kd-top"):
            with gr.Column(scale=8, min_width=260):
                gr.HTML('<div class="kd-brand"><h1>kdgen</h1></div>')
                gr.HTML(say("tagline"), elem_classes="kd-hint")
            gr.Button(say("theme"), size="sm", elem_id="kd-theme", scale=0).click(None, js=TOGGLE)
        with gr.Tabs(elem_id="kd-tabs") as tabs:
            with gr.Tab(say("tab_distill"), id="distill"):
                fill, filled, shown, setup = _distill(runs, models, codes)
            with gr.Tab(say("tab_compare"), id="compare") as second:
                comparing = compare.tab(models, students)
            with gr.Tab(say("tab_gallery"), id="gallery") as third:
                gallery.tab(runs, models, tabs, comparing, third, students)
        endpoints(runs, models)

        def to_compare(id: str | None, request: gr.Request) -> list[Any]:
            session = session_of(request)
            pair = [runs_teacher(runs, id, session), f"run:{id}"]
            return [
                gr.Tabs(selected="compare"),
                gr.update(value=pair, choices=compare.offered(runs, session, students)),
            ]

        shown.compare.click(to_compare, [shown.chosen], [tabs, comparing.models], **PRIVATE).then(
            comparing.run, comparing.inputs, comparing.outputs, api_visibility="private"
        )

        def enter(request: gr.Request) -> list[Any]:
            """A visitor comes, or comes back: the newest run is shown as it stands."""
            session = session_of(request)
            try:
                jobs = runs.owned_by(session)
            except UserError:
                jobs = []
            latest = next((job for job in jobs if not job.over), jobs[0] if jobs else None)
            id = latest.id if latest else None
            return [comparing_update(request), *watch.look(runs, session, id, {}, request)]

        def comparing_update(request: gr.Request) -> Any:
            return gr.update(choices=compare.offered(runs, session_of(request), students))

        second.select(comparing_update, None, [comparing.models], **PRIVATE)
        page.load(enter, None, [comparing.models, *shown.outputs], **PRIVATE).then(
            fill, [setup.preset], filled, **PRIVATE
        )
    return page


PRIVATE: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden", "queue": False}


def _distill(runs: Runs, models: Models, codes: Codes) -> tuple[Any, list[Any], watch.View, distill.Setup]:
    """The Distill tab."""
    with gr.Row(equal_height=False):
        with gr.Column(scale=5, min_width=320):
            setup = distill.controls(runs)
            start = gr.Button(say("start"), variant="primary", size="lg", elem_id="kd-start")
            notice = gr.HTML(elem_id="kd-notice")
            publish.link(codes)
        with gr.Column(scale=6, min_width=320):
            shown = watch.view()
            publish.panel(runs, shown)
    fill, filled = distill.connect(setup, notice, runs, models)
    watched = shown.outputs

    def show(id: str, request: gr.Request) -> list[Any]:
        return ["", *watch.look(runs, session_of(request), id, {}, request)]

    def refused(error: UserError) -> list[Any]:
        return [markup.notice(str(error)), *[gr.skip()] * len(watched)]

    def begin(text: str, request: gr.Request) -> list[Any]:
        try:
            return show(distill.submit(text, session_of(request), runs), request)
        except UserError as error:
            return refused(error)

    def act(what: str) -> Any:
        def acted(id: str | None, request: gr.Request) -> list[Any]:
            try:
                return show(getattr(runs, what)(id, session_of(request)).id, request)
            except UserError as error:
                return refused(error)

        return acted

    def remove(id: str | None, request: gr.Request) -> list[Any]:
        """Delete a run, and show the newest of those that are left."""
        session = session_of(request)
        try:
            runs.delete(id or "", session)
            left = runs.owned_by(session)
        except UserError as error:
            return refused(error)
        notice = markup.notice(words_for(request)["deleted"], kind="good")
        return [notice, *watch.look(runs, session, left[0].id if left else None, {}, request)]

    def tick(id: str | None, state: dict[str, Any], request: gr.Request) -> list[Any]:
        return watch.look(runs, session_of(request), id, state, request)

    def pick(id: str | None, request: gr.Request) -> list[Any]:
        return watch.look(runs, session_of(request), id, {}, request)

    start.click(begin, [setup.recipe], [notice, *watched], **PRIVATE)
    shown.stop.click(act("stop"), [shown.chosen], [notice, *watched], **PRIVATE)
    shown.resume.click(act("resume"), [shown.chosen], [notice, *watched], **PRIVATE)

    def show_others(id: str | None, request: gr.Request) -> list[Any]:
        try:
            job = runs.get(id or "", session_of(request))
            sharing.share(runs, job.id, session_of(request))
            return ["", *watch.link_to(runs, job, words_for(request), request)]
        except UserError as error:
            return [markup.notice(str(error)), gr.skip(), gr.skip()]

    def take_back(id: str | None, request: gr.Request) -> list[Any]:
        try:
            sharing.revoke(runs, id or "", session_of(request))
        except UserError as error:
            return [markup.notice(str(error)), gr.skip(), gr.skip()]
        return [markup.notice(words_for(request)["share_revoked"], kind="good"), "", gr.update(visible=False)]

    shown.make.click(show_others, [shown.chosen], [notice, shown.link, shown.revoke], **PRIVATE)
    shown.revoke.click(take_back, [shown.chosen], [notice, shown.link, shown.revoke], **PRIVATE)
    shown.delete.click(remove, [shown.chosen], [notice, *watched], **PRIVATE)
    shown.timer.tick(tick, [shown.chosen, shown.state], shown.outputs, **PRIVATE)
    shown.chosen.input(pick, [shown.chosen], shown.outputs, **PRIVATE)
    return fill, filled, shown, setup


def runs_teacher(runs: Runs, id: str | None, session: str) -> str:
    """The teacher of a run as visitors name it."""
    return gallery.teacher_of(runs, runs.get(id or "", session))


def serve(executing: Execute | None = None, students: Sequence[str] = (), **options: Any) -> None:
    """Build the page and serve it until interrupted. Options are those of ``gradio.Blocks.launch``."""
    try:
        limits = Limits.read()
    except UserError as error:
        sys.exit(f"kdgen: {error}")
    if not switched_on("TOKEN"):
        constants.HF_HUB_DISABLE_IMPLICIT_TOKEN = True
    os.environ["GRADIO_TEMP_DIR"] = str(limits.folder.resolve() / SERVED)
    runs, codes = Runs(limits, executing), Codes()
    page = build(runs, codes, students)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    try:
        page.queue(default_concurrency_limit=4, max_size=200).launch(**launching(runs, codes), **options)
    finally:
        runs.close()


def launching(runs: Runs, codes: Codes) -> dict[str, Any]:
    """How the page is launched."""
    limits = runs.limits
    return {
        "theme": theme(), "css": css(), "head": HEAD + scripts(), "i18n": I18N, "ssr_mode": False, "show_error": False,
        "footer_links": ["api", "settings"], "max_file_size": limits.upload_bytes, "quiet": False,
        "allowed_paths": [str((limits.folder / SERVED).resolve())],
        "mcp_server": switched_on("MCP"), "enable_monitoring": False, "share": False,
        "run_history": False, "app_kwargs": server_arguments(runs, codes),
    }  # fmt: skip
