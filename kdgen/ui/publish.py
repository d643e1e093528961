"""Take a run elsewhere: to another device, and to the Hub under the visitor's own login."""

import os
from typing import Any

import gradio as gr

from kdgen import hub
from kdgen.types import UserError
from kdgen.ui import markup
from kdgen.ui.job import SECRET
from kdgen.ui.limits import Limits, on_a_space
from kdgen.ui.runs import Runs
from kdgen.ui.sessions import Codes, session_of
from kdgen.ui.watch import View
from kdgen.ui.words import say, words_for

ADDRESS = "(path) => path && new URL(path, location.href).href"


def link(codes: Codes) -> None:
    """A link that shows the same runs on another device, good for a while."""
    with gr.Accordion(say("another_device"), open=False, elem_id="kd-follow", elem_classes="kd-fold") as opened:
        address = gr.Textbox(label=say("another_device"), info=say("another_device_info"), buttons=["copy"],
                             interactive=False, elem_id="kd-link")  # fmt: skip

    def fill(request: gr.Request) -> str:
        session = session_of(request)
        return f"enter/{codes.new(session)}" if SECRET.fullmatch(session) else ""

    quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden", "queue": False}
    opened.expand(fill, None, [address], **quiet).then(None, [address], [address], js=ADDRESS, **quiet)


def signs_in() -> bool:
    """Whether visitors can sign in here: on a Space with OAuth."""
    return on_a_space() and bool(os.environ.get("OAUTH_CLIENT_ID"))


def kept(limits: Limits) -> None:
    """A line on where runs are kept, and whether a restart loses them."""
    place = "kept_lost" if not limits.lasting else "kept_storage" if on_a_space() else "kept_here"
    gr.HTML(say(place), elem_classes="kd-hint", elem_id="kd-kept")


def panel(runs: Runs, shown: View) -> None:
    """The accordion that publishes a finished run; where nobody can sign in, it says how else."""
    with gr.Accordion(say("push"), open=False, elem_id="kd-push", elem_classes="kd-fold"):
        if not signs_in():
            gr.HTML(say("push_offline"), elem_classes="kd-hint")
            return
        gr.HTML(say("push_info"), elem_classes="kd-hint")
        with gr.Row():
            gr.LoginButton(size="sm")
            name = gr.Textbox(label=say("push_name"), info=say("push_name_info"), max_length=96)
        go = gr.Button(say("push"))
        message = gr.HTML()

    def push(id: str | None, name: str, request: gr.Request, token: gr.OAuthToken | None) -> Any:
        words = words_for(request)
        if token is None:
            return markup.notice(words["push_sign_in"])
        try:
            job = runs.get(id or "", session_of(request))
            done = hub.push_to_hub(runs.home(job) / "run", name, token=token.token)
        except UserError as error:
            return markup.refusal(error, words)
        return markup.notice(words["pushed"].format(url=done.url), kind="good")

    go.click(push, [shown.chosen, name], [message], api_visibility="private", concurrency_limit=2)
