"""A run elsewhere: the recipe of a run as a job of the visitor's own account, followed in the page."""

from collections.abc import Callable
from html import escape
from typing import Any

import gradio as gr
from huggingface_hub import constants

from kdgen.hub import jobs
from kdgen.hub.hardware import Hardware, find_hardware, hardware
from kdgen.recipe import Recipe, read
from kdgen.types import UserError
from kdgen.ui import markup
from kdgen.ui.publish import signs_in
from kdgen.ui.runs import Runs
from kdgen.ui.sessions import session_of
from kdgen.ui.watch import View
from kdgen.ui.words import say, words_for
from kdgen.utils.durations import clock

EVERY = 6.0
"""Seconds between looks at a job."""

LONGEST = 24 * 3600
"""Longest training of a job, in seconds."""


def panel(runs: Runs, shown: View) -> None:
    """The accordion that runs a recipe on other hardware; where nobody can sign in, it says how else."""
    with gr.Accordion(say("away"), open=False, elem_id="kd-away", elem_classes="kd-fold") as opened:
        if not signs_in():
            gr.HTML(say("away_offline"), elem_classes="kd-hint")
            return
        gr.HTML(say("away_info"), elem_classes="kd-hint")
        with gr.Row():
            gr.LoginButton(size="sm")
            repo_id = gr.Textbox(label=say("push_name"), info=say("push_name_info"), max_length=96,
                                 elem_id="kd-away-name")  # fmt: skip
        with gr.Row():
            machine = gr.Dropdown([], label=say("away_hardware"), info=say("away_hardware_info"), elem_id="kd-hardware")
            seconds = gr.Number(600, label=say("away_seconds"), info=say("away_seconds_info"), minimum=1,
                                maximum=LONGEST, precision=0, elem_id="kd-away-seconds")  # fmt: skip
        price = gr.HTML(elem_id="kd-price")
        with gr.Row(elem_classes="kd-buttons"):
            go = gr.Button(say("away_go"), variant="primary", elem_id="kd-away-go")
            end = gr.Button(say("away_end"), visible=False, elem_id="kd-away-end")
            sure = gr.Button(say("away_sure"), variant="stop", visible=False, elem_id="kd-away-sure")
        status = gr.HTML(elem_id="kd-job")
        job, timer = gr.State(""), gr.Timer(EVERY, active=False)

    def enter(request: gr.Request, token: gr.OAuthToken | None) -> list[Any]:
        """The hardware with its prices, and the visitor's job that is at work, if there is one."""
        words = words_for(request)
        if token is None:
            return [gr.skip(), markup.notice(words["push_sign_in"]), *[gr.skip()] * 3]
        try:
            offered = [
                (f"{each.name} · ${each.dollars:.2f}/h · {each.details}", each.name) for each in hardware(token.token)
            ]
            current = next((each for each in jobs.jobs(token=token.token) if not each.over), None)
        except UserError as error:
            return [gr.skip(), markup.refusal(error, words_for(request)), *[gr.skip()] * 3]
        listed = gr.update(choices=offered, value=offered[0][1] if offered else None)
        if current is None:
            return [listed, "", *[gr.skip()] * 3]
        return [listed, "", current.id, gr.update(visible=True), gr.Timer(active=True)]

    def priced(
        id: str | None, name: str | None, seconds: float, request: gr.Request, token: gr.OAuthToken | None
    ) -> str:
        """What the job would cost at most."""
        try:
            if token is None or not name:
                return ""
            return _price(recipe_of(id, seconds, request), find_hardware(name, token.token), request)
        except UserError as error:
            return markup.refusal(error, words_for(request))

    def recipe_of(id: str | None, seconds: float, request: gr.Request) -> Recipe:
        try:
            home = runs.home(runs.get(id or "", session_of(request)))
            return read(home / "recipe.json").lasting(seconds=min(max(float(seconds or 1), 1.0), LONGEST))
        except (UserError, OSError, ValueError):
            raise UserError(words_for(request)["away_no_run"]) from None

    def begin(
        id: str | None, name: str | None, seconds: float, repo_id: str, request: gr.Request,
        token: gr.OAuthToken | None,
    ) -> list[Any]:  # fmt: skip
        words = words_for(request)
        if token is None:
            return [markup.notice(words["push_sign_in"]), *[gr.skip()] * 3]
        try:
            begun = jobs.begin(recipe_of(id, seconds, request), name or "", repo_id=repo_id.strip() or None,
                               token=token.token)  # fmt: skip
        except UserError as error:
            return [markup.refusal(error, words_for(request)), *[gr.skip()] * 3]
        return [_shown(jobs.Glance(begun, None, ()), request), begun.id, gr.update(visible=True), gr.Timer(active=True)]

    def look(id: str, request: gr.Request, token: gr.OAuthToken | None) -> list[Any]:
        if token is None or not id:
            return [gr.skip(), gr.skip(), gr.Timer(active=False)]
        try:
            seen = jobs.glance(id, token=token.token)
        except UserError as error:  # the Hub may be out of reach for a while: the job goes on
            return [markup.refusal(error, words_for(request)), gr.skip(), gr.skip()]
        return [_shown(seen, request), gr.update(visible=not seen.job.over), gr.Timer(active=not seen.job.over)]

    def ended(id: str, request: gr.Request, token: gr.OAuthToken | None) -> list[Any]:
        if token is None or not id:
            return [gr.skip()] * 4
        try:
            jobs.cancel(id, token=token.token)
            current = jobs.inspect(id, token=token.token)
        except UserError as error:
            return [markup.refusal(error, words_for(request)), gr.skip(), gr.update(visible=False), gr.skip()]
        return [
            _shown(jobs.Glance(current, None, ()), request),
            gr.update(visible=False),
            gr.update(visible=False),
            gr.Timer(active=False),
        ]

    options: dict[str, Any] = {"api_visibility": "private", "concurrency_limit": 4, "show_progress": "hidden"}
    opened.expand(enter, None, [machine, price, job, end, timer], **options)
    chosen: list[Any] = [shown.chosen, machine, seconds]
    listens: list[Callable[..., Any]] = [machine.change, seconds.change]
    for listen in listens:
        listen(priced, chosen, [price], **options)
    go.click(begin, [*chosen, repo_id], [status, job, end, timer], **options)
    timer.tick(look, [job], [status, end, timer], **options)
    end.click(lambda: gr.update(visible=True), None, [sure], **options)
    sure.click(ended, [job], [status, end, sure, timer], **options)


def _price(recipe: Recipe, machine: Hardware, request: gr.Request) -> str:
    limit = jobs.time_limit(recipe)
    text = words_for(request)["away_price"].format(price=f"${machine.dollars:.2f}", time=clock(limit),
                                                   most=f"${machine.dollars * limit / 3600:.2f}")  # fmt: skip
    return f"<p>{escape(text)}</p>"


def _shown(seen: jobs.Glance, request: gr.Request) -> str:
    """A job with its bar and its last lines."""
    words, job = words_for(request), seen.job
    title = words["away_stage"].format(id=job.id, hardware=job.hardware, stage=job.stage.lower())
    percent = 100 if job.stage == jobs.DONE else round(100 * seen.event.progress) if seen.event is not None else 0
    lines = "".join(f"<li>{escape(line)}</li>" for line in seen.lines)
    end = ""
    if job.stage == jobs.DONE:
        end = markup.notice(words["away_done"].format(url=f"{constants.ENDPOINT}/{job.repo_id}"), kind="good")
    elif job.stage == "CANCELED":
        end = markup.notice(words["away_ended"], kind="good")
    elif job.over:
        reason = seen.lines[-1] if seen.lines else job.message or job.stage.lower()
        end = markup.notice(words["failed_because"].format(reason=reason))
    return (
        f'<div class="kd-status" role="status"><p class="kd-title"><strong>{escape(title)}</strong> '
        f'<a href="{escape(job.url, quote=True)}" target="_blank" rel="noopener">{escape(words["away_link"])}</a></p>'
        f'<div class="kd-bar" role="progressbar" aria-label="{escape(title, quote=True)}" aria-valuemin="0" '
        f'aria-valuemax="100" aria-valuenow="{percent}"><i style="width:{percent}%"></i></div>'
        f'<ul class="kd-hint" style="overflow-wrap: anywhere">{lines}</ul></div>{end}'
    )
