"""A finished run for a colleague: a headline, three numbers, before and after, five rows; the rest is folded."""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from kdgen.metrics.columns import column_of, lower_is_better
from kdgen.report.captions import listed
from kdgen.report.loss_curves import points_of
from kdgen.report.report import Report, Role, Row, count, heading, in_decibels, outdoes
from kdgen.ui import markup
from kdgen.ui.charts import quality_chart, quick_note
from kdgen.ui.markup import times
from kdgen.ui.progress import Progress
from kdgen.ui.words import translated

Words = Mapping[str, str]
CONTROLS: tuple[Role, ...] = ("control_steps", "control_seconds")
SIDES = ("input", "teacher", "student")
"""What pictures of a showcase show; their files are ``NAME-SIDE.webp``."""

APART = ("fd_", "kd_", "fid", "kid", "perceptual")
"""How figures begin that say how far images lie from the teacher's."""

CAPTIONS = "captions.json"
"""Beside them, what each image of these sheets was asked for, where anything was asked."""


@dataclass(frozen=True, slots=True)
class Numbers:
    """What a result opens with, as text.

    Attributes:
        kept: of the quality, and what that is in figures.
        cheaper: multiply-accumulates of an image, the teacher's by the student's.
        faster: milliseconds of an image, the same way.
        lost: what quality the student lacks, e.g. ``0.06 dB``; empty where that cannot be told.
        gain: over the better control, with its sign; empty where there is none.
        helped: whether that is for the better.
    """

    kept: tuple[str, str]
    cheaper: str
    faster: str
    lost: str = ""
    gain: str = ""
    helped: bool = False


def numbers(report: Report, words: Words) -> Numbers | None:
    """The numbers of a report; None where it has no sound student beside a teacher."""
    teacher, student, key = report.find("teacher"), report.find("student"), report.primary_metric
    if teacher is None or student is None or student.fault or key not in student.metrics or not student.macs:
        return None
    lost, own, best = "", student.metrics[key], teacher.metrics.get(key)
    if best is not None and in_decibels(key):
        lost = f"{max(best - own, 0.0):.2f} dB"
    faster = times(teacher.image_ms / student.image_ms) if student.image_ms and teacher.image_ms else "-"
    control = _control(report)
    gain = _gain(report, student, control) if control is not None else ""
    helped = control is not None and outdoes(key, own, control.metrics[key])
    cheaper = times(teacher.image_macs / student.image_macs)
    return Numbers(_kept(report, student, teacher, words), cheaper, faster, lost, gain, helped)


def headline(found: Numbers, report: Report, words: Words) -> str:
    """The result in a sentence."""
    teacher, student, key = report.find("teacher"), report.find("student"), report.primary_metric
    figures = {"kept": found.kept[0], "cheaper": found.cheaper, "faster": found.faster, "lost": found.lost}
    assert teacher is not None
    assert student is not None
    if found.kept[0].endswith("%"):
        return words["headline_kept"].format(**figures)
    if found.lost:
        return words["headline_lost"].format(**figures)
    if key.startswith(APART):
        floor = f"{teacher.metrics[key]:.3g}" if key in teacher.metrics else "0"
        return words["headline_distance"].format(distance=f"{student.metrics[key]:.3g}", floor=floor, **figures)
    return words["headline_plain"].format(**figures)


def result(report: Report, words: Words, *, place: str, pictures: Path | None = None, coming: bool = False,
           run: Progress | None = None, curve: bool = False) -> str:  # fmt: skip
    """Everything about a finished run as HTML.

    Args:
        report: its figures.
        words: of the page.
        place: a word that no other result on the page has, of letters and digits.
        pictures: the folder of its showcase, if it has one.
        coming: whether its pictures are still being made.
        run: its progress, of which the curve comes.
        curve: whether the curve of its quality is shown.
    """
    found = numbers(report, words)
    parts = []
    if found is not None:
        parts.append(f'<p class="kd-headline">{escape(headline(found, report, words))}</p>')
        parts.append(_large(found, report.primary_metric, words))
        if found.gain:
            told = words["helped" if found.helped else "not_helped"].format(gain=found.gain)
            parts.append(f'<p class="kd-helped">{escape(told)}</p>')
    shown = slides(pictures, words, place=place) if pictures else ""
    parts.append(shown or (_coming(words) if coming else ""))
    parts.append(five_rows(report, words))
    if curve and run is not None:
        measured = points_of(run.curves.get("student", {}), report.primary_metric)
        chart = quality_chart(run.curves, report.primary_metric, words) if measured else ""
        parts.append(f"<figure class=kd-inner><figcaption>{escape(words['quality_title'])}</figcaption>{chart}"
                     f"{quick_note(run, words)}</figure>" if chart else "")  # fmt: skip
    parts.append(f"<details class=kd-rest><summary>{escape(words['all_figures'])}</summary>"
                 f"{markup.table(report, words)}</details>")  # fmt: skip
    return f'<div class="kd-result">{"".join(parts)}</div>'


def slides(folder: Path, words: Words, *, place: str) -> str:
    """Before and after on a picture of one's choice, within the page itself; nothing where there are no pictures."""
    names = pictures_of(folder)
    if not names:
        return ""
    lefts = [side for side in ("teacher", "input") if (folder / f"{names[0]}-{side}.webp").is_file()]
    stages = "".join(_stage(folder, name, lefts, words, first=not at) for at, name in enumerate(names))
    titles = {name: _named(name, words) for name in names}
    picks = _choice(f"{place}-picture", names, titles, words["pick_picture"], "kd-pictures")
    sides = _choice(
        f"{place}-left", lefts, {side: words[f"side_{side}"] for side in lefts}, words["pick_left"], "kd-lefts"
    )
    return (f'<div class="kd-slides" data-left="{lefts[0]}"><div class="kd-pick">{picks if len(names) > 1 else ""}'
            f'{sides if len(lefts) > 1 else ""}</div>{stages}<p class="kd-drag">{escape(words["drag"])} '
            f'<button type="button" class="kd-full">{escape(words["full_screen"])}</button></p></div>')  # fmt: skip


def asked_in(folder: Path) -> str:
    """What the images of a showcase's sheets were asked for; empty where nothing was."""
    path = folder / CAPTIONS
    return listed(json.loads(path.read_bytes())) if path.is_file() else ""


def _coming(words: Words) -> str:
    """In the place of the pictures, as large as they are."""
    return f'<div class="kd-coming" role="status"><p>{escape(words["pictures_coming"])}</p></div>'


def pictures_of(folder: Path) -> list[str]:
    """Names of the pictures of a showcase."""
    return sorted(path.name.removesuffix("-student.webp") for path in folder.glob("*-student.webp"))


def five_rows(report: Report, words: Words) -> str:
    """Quality, cost, time, parameters and size of the student, its teacher and the best control, the student first."""
    student, teacher = report.find("student"), report.find("teacher")
    if student is None:
        return ""
    key = report.primary_metric
    control = _control(report)
    shown = [(words["student"], student)]
    shown += [(words["teacher"], teacher)] if teacher is not None else []
    shown += [(words["without_teacher"], control)] if control is not None else []
    lines = [
        (translated(heading(key), words), [_figure(row, key) for _, row in shown]),
        (words["macs_an_image"], [count(row.image_macs) for _, row in shown]),
        (words["ms_an_image"], [f"{row.image_ms:.1f}" for _, row in shown]),
        (words["parameters"], [f"{row.num_params:,}" for _, row in shown]),
        (words["kilobytes"], [f"{row.size_bytes / 1000:,.0f}" for _, row in shown]),
    ]
    head = "".join(f"<th scope=col>{escape(name)}</th>" for name, _ in shown)
    rows = "".join(
        f"<tr><th scope=row>{escape(title)}</th>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>"
        for title, cells in lines
    )
    busy = words["busy"].format(cores=f"{report.busy_cores:.1f}") if report.busy_cores else ""
    note = f"<p class=kd-busy>{escape(busy)}</p>" if busy else ""
    return (f'<table class="kd-five"><caption>{escape(words["five_rows"])}</caption><thead><tr><td></td>{head}</tr>'
            f"</thead><tbody>{rows}</tbody></table>{note}")  # fmt: skip


def _kept(report: Report, student: Row, teacher: Row, words: Words) -> tuple[str, str]:
    """How much of the quality is kept: a share where a baseline and a teacher bound it, else the figure itself."""
    key, start = report.primary_metric, report.find("input")
    own, best = student.metrics[key], teacher.metrics.get(key)
    name = key.partition("@")[0]
    if best is None:
        return f"{own:.4g}", ""
    pair = words["of_teacher"].format(own=f"{own:.2f}" if in_decibels(name) else f"{own:.4g}",
                                      best=f"{best:.2f} dB" if in_decibels(name) else f"{best:.4g}")  # fmt: skip
    low = start.metrics.get(key) if start is not None else None
    if low is not None and outdoes(key, best, low):
        share = (own - low) / (best - low)
        return f"{100 * share:.0f} %" if share < 0.995 or share >= 1 else f"{100 * share:.1f} %", pair
    if key == "accuracy" and best > 0:
        return f"{100 * own / best:.0f} %", pair
    if in_decibels(name):
        return f"{own - best:+.2f} dB", pair
    return f"{own:.3g}", words["teacher_itself"].format(best=f"{best:.3g}")


def _control(report: Report) -> Row | None:
    """The better of the controls, if one is sound."""
    key = report.primary_metric
    sound = [row for role in CONTROLS if (row := report.find(role)) is not None
             and not row.fault and key in row.metrics]  # fmt: skip
    lower = lower_is_better(key)
    return min(sound, key=lambda row: row.metrics[key] * (1 if lower else -1), default=None)


def _gain(report: Report, student: Row, control: Row) -> str:
    """How much better the student is than the control, with its sign; empty where they are the same."""
    key = report.primary_metric
    own, other = student.metrics[key], control.metrics[key]
    if lower_is_better(key):
        share = (own - other) / other if other > 0 else 0.0
        return "" if abs(share) <= column_of(key).same else f"{share:+.0%}"
    name = key.partition("@")[0]
    if abs(own - other) <= column_of(name).same:
        return ""
    return f"{own - other:+.2f} dB" if in_decibels(name) else f"{name} {own - other:+.4f}"


def _large(found: Numbers, key: str, words: Words) -> str:
    name = words["number_distance"] if key.startswith(APART) else \
        translated(heading(key), words) if lower_is_better(key) else words["number_kept"]  # fmt: skip
    shown = [(found.kept[0], name if found.kept[1] else translated(heading(key), words), found.kept[1]),
             (found.cheaper, words["number_cheaper"], ""), (found.faster, words["number_faster"], "")]  # fmt: skip
    cells = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd>"
        f"{f'<dd class=kd-small>{escape(small)}</dd>' if small else ''}</div>"
        for value, name, small in shown
    )
    return f'<dl class="kd-numbers">{cells}</dl>'


def _figure(row: Row, key: str) -> str:
    if key not in row.metrics:
        return "-"
    return f"{row.metrics[key]:.2f}" if in_decibels(key) else f"{row.metrics[key]:.4g}"


def _named(name: str, words: Words) -> str:
    """What a picture of a showcase is called."""
    kind, _, number = name.partition(" ")
    return " ".join(filter(None, (words.get(f"picture_{kind}", kind), number)))


def _choice(group: str, values: Sequence[str], names: Mapping[str, str], legend: str, css: str) -> str:
    boxes = "".join(
        f'<label><input type="radio" name="{group}" value="{escape(value, quote=True)}"{" checked" * (not at)}>'
        f"<span>{escape(names[value])}</span></label>"
        for at, value in enumerate(values)
    )
    return f'<fieldset class="{css}"><legend>{escape(legend)}</legend>{boxes}</fieldset>'


def _stage(folder: Path, name: str, lefts: Sequence[str], words: Words, *, first: bool) -> str:
    asked = asked_in(folder)

    def image(side: str) -> str:
        data = base64.b64encode((folder / f"{name}-{side}.webp").read_bytes()).decode()
        told = words["slide_alt"].format(side=words[f"side_{side}"], name=_named(name, words))
        alt = escape(". ".join(filter(None, (told, asked))), quote=True)
        return f'<img class="kd-{side}" alt="{alt}" src="data:image/webp;base64,{data}">'

    images = "".join(image(side) for side in [*lefts, "student"])
    label = escape(words["slide_range"].format(name=_named(name, words)), quote=True)
    tags = "".join(
        f'<span class="kd-tag kd-{side}">{escape(words[f"side_{side}"])}</span>' for side in [*lefts, "student"]
    )
    return (f'<div class="kd-stage" data-name="{escape(name, quote=True)}"{"" if first else " hidden"}>{images}{tags}'
            f'<i></i><input type="range" min="0" max="100" value="50" aria-label="{label}"></div>')  # fmt: skip
