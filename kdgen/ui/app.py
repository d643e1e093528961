"""The whole page, and the server behind it."""

import os
import signal
import sys
from collections.abc import Sequence
from typing import Any

import gradio as gr
from huggingface_hub import constants

from kdgen.presets import preset
from kdgen.types import UserError
from kdgen.ui import (
    board,
    choices,
    compare,
    composing,
    distill,
    elsewhere,
    exports,
    gallery,
    markup,
    publish,
    sharing,
    watch,
)
from kdgen.ui.api import endpoints
from kdgen.ui.at_hand import brings_pictures
from kdgen.ui.estimates import Estimates
from kdgen.ui.lent import LentRuns, hold_while_watched
from kdgen.ui.limits import Limits, switched_on
from kdgen.ui.models import Models
from kdgen.ui.page import Page
from kdgen.ui.preparing import Preparing, prepares
from kdgen.ui.process import Execute, environment
from kdgen.ui.routes import server_arguments
from kdgen.ui.runs import SERVED, Runs
from kdgen.ui.sessions import Codes, session_of
from kdgen.ui.theme import HEAD, css, theme
from kdgen.ui.uploads import Uploads
from kdgen.ui.words import I18N, say, words_for

TOGGLE = "() => kd.dark()"


def build(runs: Runs, models: Models, codes: Codes, estimates: Estimates, students: Sequence[str] = ()) -> Page:
    """The page.

    Args:
        runs: what visitors began.
        models: what they can name.
        codes: that hand a session to another browser.
        estimates: of the time that runs take.
        students: ids of the Hub that are offered by name.
    """
    page = Page(Uploads(runs.limits), title="kdgen", analytics_enabled=False, delete_cache=(600, 3600))
    with page:
        with gr.Row(elem_classes="kd-top"):
            with gr.Column(scale=8, min_width=260):
                gr.HTML('<div class="kd-brand"><h1>kdgen</h1></div>', padding=False)
                gr.HTML(say("tagline"), elem_classes="kd-hint", padding=False)
            gr.Button(say("theme"), size="sm", elem_id="kd-theme", scale=0).click(None, js=TOGGLE)
        with gr.Tabs(elem_id="kd-tabs") as tabs:
            with gr.Tab(say("tab_distill"), id="distill"):
                shown = _distill(page, runs, models, codes, estimates)
            with gr.Tab(say("tab_compare"), id="compare") as second:
                comparing = compare.tab(models, students)
            with gr.Tab(say("tab_gallery"), id="gallery") as third:
                gallery.tab(runs, models, tabs, comparing, third, students)
            with gr.Tab(say("board"), id="board") as fourth:
                board.tab(runs, tabs, fourth, shown)
        endpoints(runs, models)
        shown.student.keep_in_cache = exports.Downloads(runs)  # type: ignore[assignment]

        def to_compare(id: str | None, request: gr.Request) -> list[Any]:
            session = session_of(request)
            pair = [*filter(None, [runs_teacher(runs, id, session)]), f"run:{id}"]
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
        page.load(enter, None, [comparing.models, *shown.outputs], **PRIVATE)
    return page


SESSIONS = 200
"""Open pages whose last values are kept; of the others the browser alone knows."""

PRIVATE: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden", "queue": False}


def _distill(page: gr.Blocks, runs: Runs, models: Models, codes: Codes, estimates: Estimates) -> watch.View:
    """The Distill tab."""
    with gr.Row(equal_height=False, elem_classes="kd-columns"):
        with gr.Column(scale=5, min_width=420):
            setup = distill.controls(runs)
            publish.link(codes)
            publish.kept(runs.limits)
        with gr.Column(scale=6, min_width=420):
            shown = watch.view()
            publish.panel(runs, shown)
            elsewhere.panel(runs, shown)
            exports.panel(runs, shown)
    distill.connect(setup, runs, models, estimates, page)
    notice = setup.notice
    watched = shown.outputs

    def show(id: str, request: gr.Request) -> list[Any]:
        return ["", *watch.look(runs, session_of(request), id, {}, request)]

    def refused(error: UserError, request: gr.Request) -> list[Any]:
        return [markup.refusal(error, words_for(request)), *[gr.skip()] * len(watched)]

    def begin(request: gr.Request, text: str, composed: str, *values: Any) -> list[Any]:
        try:
            return show(composing.submit(values, text, composed, request, runs, models, estimates).id, request)
        except UserError as error:
            return refused(error, request)

    def act(what: str) -> Any:
        def acted(id: str | None, request: gr.Request) -> list[Any]:
            try:
                return show(getattr(runs, what)(id, session_of(request)).id, request)
            except UserError as error:
                return refused(error, request)

        return acted

    def remove(id: str | None, request: gr.Request) -> list[Any]:
        """Delete a run, and show the newest of those that are left."""
        session = session_of(request)
        try:
            runs.delete(id or "", session)
            left = runs.owned_by(session)
        except UserError as error:
            return refused(error, request)
        notice = markup.notice(words_for(request)["deleted"], kind="good")
        return [notice, *watch.look(runs, session, left[0].id if left else None, {}, request)]

    def tick(id: str | None, state: dict[str, Any], request: gr.Request) -> list[Any]:
        return watch.look(runs, session_of(request), id, state, request)

    def pick(id: str | None, request: gr.Request) -> list[Any]:
        return watch.look(runs, session_of(request), id, {}, request)

    setup.start.click(begin, [setup.text, setup.shown, *setup.given], [notice, *watched], **PRIVATE).then(
        None, js="() => kd.follow()", **PRIVATE
    )
    shown.stop.click(act("stop"), [shown.chosen], [notice, *watched], **PRIVATE)
    shown.resume.click(act("resume"), [shown.chosen], [notice, *watched], **PRIVATE)

    def show_others(id: str | None, request: gr.Request) -> list[Any]:
        try:
            job = runs.get(id or "", session_of(request))
            sharing.share(runs, job.id, session_of(request))
            return ["", *watch.link_to(runs, job, words_for(request), request)]
        except UserError as error:
            return [markup.refusal(error, words_for(request)), gr.skip(), gr.skip()]

    def take_back(id: str | None, request: gr.Request) -> list[Any]:
        try:
            sharing.revoke(runs, id or "", session_of(request))
        except UserError as error:
            return [markup.refusal(error, words_for(request)), gr.skip(), gr.skip()]
        return [markup.notice(words_for(request)["share_revoked"], kind="good"), "", gr.update(visible=False)]

    shown.make.click(show_others, [shown.chosen], [notice, shown.link, shown.revoke], **PRIVATE)
    shown.revoke.click(take_back, [shown.chosen], [notice, shown.link, shown.revoke], **PRIVATE)
    shown.delete.click(remove, [shown.chosen], [notice, *watched], **PRIVATE)
    shown.timer.tick(tick, [shown.chosen, shown.state], shown.outputs, **PRIVATE)
    shown.chosen.input(pick, [shown.chosen], shown.outputs, **PRIVATE)
    hold_while_watched(runs, shown, notice)
    return shown


def runs_teacher(runs: Runs, id: str | None, session: str) -> str:
    """The teacher of a run as visitors name it."""
    return gallery.teacher_of(runs, runs.get(id or "", session))


def serve(executing: Execute | None = None, students: Sequence[str] = (), **options: Any) -> None:
    """Build the page and serve it until interrupted.

    Args:
        executing: how a run's process is run on an accelerator that is lent; by default runs train on this machine.
        students: ids of the Hub that are offered by name.
        options: of ``gradio.Blocks.launch``.
    """
    try:
        limits = Limits.read()
    except UserError as error:
        sys.exit(f"kdgen: {error}")
    if not switched_on("TOKEN"):
        constants.HF_HUB_DISABLE_IMPLICIT_TOKEN = True
    os.environ["GRADIO_TEMP_DIR"] = str(limits.folder.resolve() / SERVED)
    runs, codes = LentRuns(limits, executing) if executing else Runs(limits), Codes()
    models = Models(runs)
    models.worker.start()
    preparing = Preparing(environment(limits.folder / "cache"), runs.busy, enabled=prepares(executing))
    estimates = Estimates(limits.folder / "cache", preparing)
    runs.on_done = estimates.learn
    offered = [[preset(name) for name in choices.presets_of(kind)] for kind in choices.KINDS]
    firsts, others = [made[:1] for made in offered], [made[1:] for made in offered]
    preparing.want(*(recipe for made in firsts + others for recipe in made if not brings_pictures(recipe)))
    page = build(runs, models, codes, estimates, students)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    try:
        page.queue(default_concurrency_limit=4, max_size=200).launch(**launching(runs, codes, page.uploads), **options)
    finally:
        models.end()
        preparing.close()
        runs.close()


def launching(runs: Runs, codes: Codes, uploads: Uploads) -> dict[str, Any]:
    """How the page is launched."""
    largest = max(runs.limits.upload_bytes, runs.limits.teacher_bytes)
    return {
        "theme": theme(), "css": css(), "head": HEAD, "i18n": I18N, "ssr_mode": False, "show_error": False,
        "footer_links": ["api", "settings"], "max_file_size": largest, "quiet": False,
        "mcp_server": switched_on("MCP"), "enable_monitoring": False, "share": False,
        "run_history": False, "app_kwargs": server_arguments(runs, codes, uploads), "state_session_capacity": SESSIONS,
    }  # fmt: skip
