"""The whole page, and the server behind it."""

import os
import signal
import sys
from collections.abc import Sequence
from typing import Any

import gradio as gr
from huggingface_hub import constants

from kdgen.types import UserError
from kdgen.ui import compare, distill, gallery, markup, publish, watch
from kdgen.ui.api import endpoints
from kdgen.ui.lent import LentRuns, hold_while_watched
from kdgen.ui.limits import Limits, switched_on
from kdgen.ui.models import Models
from kdgen.ui.process import Execute
from kdgen.ui.runs import SERVED, Runs, new_session
from kdgen.ui.theme import HEAD, css, theme
from kdgen.ui.words import I18N, say, words_for

SESSION = r"""(kept) => {
  const found = location.hash.match(/session=([\w-]{20,64})/);
  if (found) history.replaceState(null, "", location.pathname + location.search);
  return found ? found[1] : kept;
}"""
"""The session of a link that was opened, and out of the address bar with it; otherwise the one this browser keeps."""

LINK = "(s) => location.origin + location.pathname + '#session=' + s"
TOGGLE = "() => { document.body.classList.toggle('dark'); }"


def build(limits: Limits, executing: Execute | None = None, students: Sequence[str] = ()) -> tuple[gr.Blocks, Runs]:
    """The page and the runs behind it.

    Args:
        limits: what visitors may ask for.
        executing: how a run's process is run on an accelerator that is lent; by default runs train on this machine.
        students: ids of the Hub that are offered by name.
    """
    runs = LentRuns(limits, executing) if executing else Runs(limits)
    models = Models(runs)
    with gr.Blocks(title="kdgen", analytics_enabled=False, delete_cache=(600, 3600)) as page:
        session = gr.BrowserState("", storage_key="kdgen-session", secret="kdgen")
        with gr.Row(elem_classes="kd-top"):
            with gr.Column(scale=8, min_width=260):
                gr.HTML('<div class="kd-brand"><h1>kdgen</h1></div>')
                gr.HTML(say("tagline"), elem_classes="kd-hint")
            gr.Button(say("theme"), size="sm", elem_id="kd-theme", scale=0).click(None, js=TOGGLE)
        with gr.Tabs(elem_id="kd-tabs") as tabs:
            with gr.Tab(say("tab_distill"), id="distill"):
                fill, filled, shown, setup = _distill(runs, models, session)
            with gr.Tab(say("tab_compare"), id="compare") as second:
                comparing = compare.tab(models, session, students)
            with gr.Tab(say("tab_gallery"), id="gallery") as third:
                gallery.tab(runs, models, session, tabs, comparing, third, students)
        endpoints(runs, models)

        def to_compare(id: str | None, session: str) -> list[Any]:
            pair = [runs_teacher(runs, id, session), f"run:{id}"]
            return [
                gr.Tabs(selected="compare"),
                gr.update(value=pair, choices=compare.offered(runs, session, students)),
            ]

        shown.compare.click(to_compare, [shown.chosen, session], [tabs, comparing.models], **PRIVATE).then(
            comparing.run, comparing.inputs, comparing.outputs, api_visibility="private"
        )

        def enter(session: str, request: gr.Request) -> list[Any]:
            """A visitor comes, or comes back: the newest run is shown as it stands."""
            try:
                jobs = runs.owned_by(session)
            except UserError:
                session, jobs = new_session(), []
            latest = next((job for job in jobs if not job.over), jobs[0] if jobs else None)
            id = latest.id if latest else None
            listed = watch.choices_of(runs, session, words_for(request))
            return [session, gr.update(choices=listed, value=id, visible=bool(listed)), comparing_update(session),
                    *watch.look(runs, session, id, {}, request)]  # fmt: skip

        def comparing_update(session: str) -> Any:
            return gr.update(choices=compare.offered(runs, session, students))

        second.select(comparing_update, [session], [comparing.models], **PRIVATE)
        page.load(
            enter, [session], [session, shown.chosen, comparing.models, *shown.outputs], js=SESSION, **PRIVATE
        ).then(fill, [session, setup.preset], filled, **PRIVATE)
    return page, runs


PRIVATE: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden", "queue": False}


def _distill(runs: Runs, models: Models, session: gr.BrowserState) -> tuple[Any, list[Any], watch.View, distill.Setup]:
    """The Distill tab."""
    with gr.Row(equal_height=False):
        with gr.Column(scale=5, min_width=320):
            setup = distill.controls(runs)
            start = gr.Button(say("start"), variant="primary", size="lg", elem_id="kd-start")
            notice = gr.HTML(elem_id="kd-notice")
            publish.link(session, LINK)
            publish.kept(runs.limits)
        with gr.Column(scale=6, min_width=320):
            shown = watch.view()
            publish.panel(runs, session, shown)
    fill, filled = distill.connect(setup, session, notice, runs, models)
    watched = [shown.chosen, *shown.outputs]

    def show(id: str, session: str, request: gr.Request) -> list[Any]:
        listed = watch.choices_of(runs, session, words_for(request))
        return ["", gr.update(choices=listed, value=id, visible=True), *watch.look(runs, session, id, {}, request)]

    def refused(error: UserError) -> list[Any]:
        return [markup.notice(str(error)), *[gr.skip()] * len(watched)]

    def begin(text: str, session: str, request: gr.Request) -> list[Any]:
        try:
            return show(distill.submit(text, session, runs), session, request)
        except UserError as error:
            return refused(error)

    def act(what: str) -> Any:
        def acted(id: str | None, session: str, request: gr.Request) -> list[Any]:
            try:
                return show(getattr(runs, what)(id, session).id, session, request)
            except UserError as error:
                return refused(error)

        return acted

    def tick(id: str | None, session: str, state: dict[str, Any], request: gr.Request) -> list[Any]:
        return watch.look(runs, session, id, state, request)

    def pick(id: str | None, session: str, request: gr.Request) -> list[Any]:
        return watch.look(runs, session, id, {}, request)

    start.click(begin, [setup.recipe, session], [notice, *watched], **PRIVATE)
    shown.stop.click(act("stop"), [shown.chosen, session], [notice, *watched], **PRIVATE)
    shown.resume.click(act("resume"), [shown.chosen, session], [notice, *watched], **PRIVATE)
    shown.timer.tick(tick, [shown.chosen, session, shown.state], shown.outputs, **PRIVATE)
    shown.chosen.input(pick, [shown.chosen, session], shown.outputs, **PRIVATE)
    hold_while_watched(runs, shown, session, notice)
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
    page, runs = build(limits, executing, students)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    try:
        page.queue(default_concurrency_limit=4, max_size=200).launch(**launching(limits), **options)
    finally:
        runs.close()


def launching(limits: Limits) -> dict[str, Any]:
    """How the page is launched."""
    return {
        "theme": theme(), "css": css(), "head": HEAD, "i18n": I18N, "ssr_mode": False, "show_error": False,
        "footer_links": ["api", "settings"], "max_file_size": limits.upload_bytes, "quiet": False,
        "allowed_paths": [str((limits.folder / SERVED).resolve())],
        "mcp_server": switched_on("MCP"), "enable_monitoring": False, "share": False,
    }  # fmt: skip
