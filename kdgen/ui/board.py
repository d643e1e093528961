"""The board: students of a preset by quality against cost, and a start from the recipe of any of them."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from kdgen.hub.scan import without_paths
from kdgen.metrics.columns import lower_is_better
from kdgen.presets import preset as find_preset
from kdgen.report.report import Report, Row, count, heading, in_decibels, worded
from kdgen.types import UserError, text
from kdgen.ui import choices, markup, sharing
from kdgen.ui.composing import AGAIN
from kdgen.ui.markup import times
from kdgen.ui.plot import COLOURS, Axis, Series, plot
from kdgen.ui.progress import follow
from kdgen.ui.runs import Runs
from kdgen.ui.sessions import session_of
from kdgen.ui.showcase import EXAMPLE
from kdgen.ui.visitors import accept
from kdgen.ui.watch import View, look
from kdgen.ui.words import say, translated, words_for

MOST = 40
"""How many students of a preset are shown, the best of them."""

EXAMPLE_KEY = "example"
PRESET = choices.presets_of(next(iter(choices.KINDS)))[0]
"""Of the example, and the one that is shown first."""

Words = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Place:
    """A student on the board.

    Attributes:
        key: ``run:ID`` of one's own, ``share:TOKEN`` of one that its owner shows, or ``example``.
        preset: the name of its recipe.
        origin: ``mine``, ``shown_by_others`` or ``comes_with``.
        folder: of the run.
        report: its figures.
        address: of its page; empty where it has none.
    """

    key: str
    preset: str
    origin: str
    folder: Path
    report: Report
    address: str = ""

    @property
    def student(self) -> Row:
        """Its row."""
        found = self.report.find("student")
        assert found is not None
        return found

    @property
    def figure(self) -> float:
        """The figure that decides."""
        return self.student.metrics[self.report.primary_metric]


def places(runs: Runs, session: str) -> list[Place]:
    """All that a visitor may see: their own, those whose owners show them, and the one that comes with the app."""
    try:
        own = {job.id: job for job in runs.owned_by(session) if job.state == "done"}
    except UserError:
        own = {}
    shared = {each.job.id: each for each in sharing.all_shared(runs)}
    found = [Place(f"run:{id}", job.name, "mine", runs.home(job) / "run", report,
                   f"r/{shared[id].token}" if id in shared else "")
             for id, job in own.items() if (report := _sound(runs.home(job) / "run"))]  # fmt: skip
    found += [Place(f"share:{each.token}", each.job.name, "shown_by_others", runs.home(each.job) / "run", report,
                    f"r/{each.token}")
              for id, each in shared.items() if id not in own
              and (report := _sound(runs.home(each.job) / "run"))]  # fmt: skip
    report = _sound(EXAMPLE)
    return [*found, *([Place(EXAMPLE_KEY, PRESET, "comes_with", EXAMPLE, report)] if report else [])]


def ranked(found: Sequence[Place], preset: str) -> list[Place]:
    """Those of a preset that were measured alike, as it says where it is one that is offered, the best first."""
    chosen = [place for place in found if place.preset == preset]
    if not chosen:
        return []
    measured, key = chosen[-1].report.task, chosen[-1].report.primary_metric
    with suppress(UserError):
        measured = str(find_preset(preset).task)
    alike = [place for place in chosen if (place.report.task, place.report.primary_metric) == (measured, key)]
    return sorted(alike, key=lambda place: place.figure * (1 if lower_is_better(key) else -1))[:MOST]


def recipe_text(runs: Runs, key: str, session: str) -> str:
    """The recipe behind a place, without paths. Raises UserError where a visitor may not see it."""
    if key == EXAMPLE_KEY:
        folder = EXAMPLE
    elif key.startswith("share:"):
        folder = runs.home(sharing.shown_by(runs, key.removeprefix("share:"))) / "run"
    else:
        folder = runs.home(runs.get(key.removeprefix("run:"), session)) / "run"
    try:
        recipe, _ = without_paths((folder / "recipe.json").read_text(encoding="utf-8"))
    except OSError:
        raise UserError(text("run_deleted", "this run was deleted")) from None
    return recipe


def drawn(board: Sequence[Place], words: Words) -> str:
    """The board as a chart and a table; numbers stand for students in both."""
    if not board:
        return f"<p class=kd-hint>{escape(words['board_none'])}</p>"
    key, teacher = board[0].report.primary_metric, board[0].report.find("teacher")
    colours = {"mine": COLOURS[0], "shown_by_others": COLOURS[3], "comes_with": COLOURS[1]}
    spots: dict[tuple[int, str], list[int]] = {}
    for number, place in enumerate(board):
        if place.student.image_macs:
            spots.setdefault((place.student.image_macs, f"{place.figure:.4g}"), []).append(number)
    points = [Series(", ".join(str(number + 1) for number in numbers), [(float(macs), board[numbers[0]].figure)],
                     colours[board[numbers[0]].origin], width=0) for (macs, _), numbers in spots.items()]  # fmt: skip
    best = teacher.metrics.get(key) if teacher is not None else None
    level = (f"{words['teacher']} {best:.4g}", best) if best is not None else None
    name = translated(heading(key), words)
    chart = plot(points, Axis(words["macs_an_image"], log=True), Axis(name), words["tradeoff_alt"], level=level)
    rows = "".join(_row(number, place, words) for number, place in enumerate(board, start=1))
    heads = ("", name, words["macs_an_image"], words["number_cheaper"], words["number_faster"], "", "")
    head = "".join(f"<th scope=col>{escape(each)}</th>" if each else "<td></td>" for each in heads)
    board_name = escape(words["board"], quote=True)
    return (f'<div class="kd-figure">{chart}</div><div class="kd-figure"><div class="kd-scroll" tabindex="0" '
            f'role="region" aria-label="{board_name}"><table class="kd-five kd-board"><thead><tr>{head}</tr></thead>'
            f"<tbody>{rows}</tbody></table></div></div>")  # fmt: skip


def tab(runs: Runs, tabs: gr.Tabs, tab: gr.Tab, shown: View) -> None:
    """The tab.

    Args:
        runs: of all.
        tabs: of the page.
        tab: this one.
        shown: where a run that is begun here is watched.
    """
    gr.HTML(say("board_info"), elem_classes="kd-hint")
    with gr.Group(elem_classes="kd-card"):
        preset = gr.Dropdown([PRESET], value=PRESET, label=say("board_preset"), elem_id="kd-board-preset")
    picture = gr.HTML(elem_id="kd-board")
    with gr.Group(elem_classes="kd-card"):
        chosen = gr.Radio([], label=say("board_pick"), info=say("board_pick_info"), elem_id="kd-board-pick")
    message = gr.HTML(elem_id="kd-board-message")
    with gr.Row(elem_classes="kd-buttons"):
        begin = gr.Button(say("board_start"), variant="primary", elem_id="kd-board-start")

    def fill(name: str, request: gr.Request) -> list[Any]:
        words, found = words_for(request), places(runs, session_of(request))
        names = sorted({place.preset for place in found})
        name = name if name in names else names[0] if names else ""
        board = ranked(found, name)
        figures = [translated(worded(place.report.primary_metric, place.figure), words) for place in board]
        listed = [(f"{number}. {figure} · {words[place.origin]}", place.key)
                  for number, (place, figure) in enumerate(zip(board, figures, strict=True), start=1)]  # fmt: skip
        first = listed[0][1] if listed else None
        return [
            gr.update(choices=names, value=name or None),
            drawn(board, words),
            gr.update(choices=listed, value=first),
        ]

    def start(key: str | None, request: gr.Request) -> list[Any]:
        session = session_of(request)
        try:
            recipe = accept(recipe_text(runs, key or "", session), session, runs)
            job = runs.submit(recipe, session, again=AGAIN)
            return ["", gr.Tabs(selected="distill"), *look(runs, session, job.id, {}, request)]
        except UserError as error:
            return [markup.refusal(error, words_for(request)), gr.skip(), *[gr.skip()] * len(shown.outputs)]

    private: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden", "queue": False}
    for event in (tab.select, preset.input):
        event(fill, [preset], [preset, picture, chosen], **private)
    begin.click(start, [chosen], [message, tabs, *shown.outputs], **private)


def _sound(folder: Path) -> Report | None:
    """The report of a run whose student has the figure that decides."""
    report = follow(folder).report()
    student = report.find("student") if report is not None else None
    if report is None or student is None or student.fault or report.primary_metric not in student.metrics:
        return None
    return report


def _row(number: int, place: Place, words: Words) -> str:
    student, teacher = place.student, place.report.find("teacher")
    cheaper = times(teacher.image_macs / student.image_macs) if teacher and student.image_macs else "-"
    faster = times(teacher.image_ms / student.image_ms) if teacher and student.image_ms else "-"
    page = f'<a href="{escape(place.address, quote=True)}">{escape(words["open_page"])}</a>' if place.address else ""
    figure = f"{place.figure:.2f}" if in_decibels(place.report.primary_metric) else f"{place.figure:.4g}"
    cells = "".join(f"<td>{cell}</td>" for cell in (figure, count(student.image_macs), cheaper, faster,
                                                    escape(words[place.origin]), page))  # fmt: skip
    return f'<tr class="kd-{place.origin}"><th scope=row>{number}</th>{cells}</tr>'
