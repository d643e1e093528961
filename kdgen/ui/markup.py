"""Pieces of the page as HTML: everything that comes from a run or a visitor is escaped."""

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from PIL import Image

from kdgen.report.captions import description
from kdgen.report.report import ROLES, Report, count, worded
from kdgen.types import UserError
from kdgen.ui.choices import Cost
from kdgen.ui.job import Job
from kdgen.ui.progress import Progress
from kdgen.ui.words import translated
from kdgen.utils.durations import clock

Words = Mapping[str, str]
WARNINGS = 3
"""How many of the last warnings of a run are shown."""


def notice(text: str, *, kind: str = "error") -> str:
    """A line to the visitor, read out at once; nothing for no text."""
    return f'<div class="kd-notice kd-{kind}" role="alert">{escape(text)}</div>' if text else ""


def refusal(error: UserError, words: Words) -> str:
    """What a visitor can mend, as a notice in their words, a paragraph for each line."""
    lines = "".join(f"<p>{escape(line)}</p>" for line in translated(error, words).splitlines())
    return f'<div class="kd-notice kd-error" role="alert">{lines}</div>' if lines else ""


def picture(image: Image.Image | Path, alt: str, *, width: int = 1600, css: str = "kd-picture") -> str:
    """A picture within the page itself: no file is served for it. What a file says that it is of is told, too."""
    if isinstance(image, Path):
        with Image.open(image) as opened:
            opened.load()
            image, alt = opened, " ".join(filter(None, (alt, description(opened))))
    return f'<img class="{css}" alt="{escape(alt, quote=True)}" src="{address(image, width=width)}">'


def address(image: Image.Image, *, width: int) -> str:
    """An address that holds a picture, at most so many pixels wide."""
    if image.width > width:
        image = image.resize((width, round(image.height * width / image.width)), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    image.convert("RGBA" if image.has_transparency_data else "RGB").save(file, "WEBP", quality=82, method=2)
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"


def animation(path: Path, words: Words, gif: str) -> str:
    """How a student learned, as an animated picture; ``gif`` is where it can be fetched as such."""
    data = base64.b64encode(path.read_bytes()).decode()
    return (f'<figure class="kd-figure kd-wide"><figcaption>{escape(words["learned_title"])}</figcaption><img '
            f'class="kd-picture" alt="{escape(words["learned_alt"], quote=True)}" '
            f'src="data:image/webp;base64,{data}">{saved_as_gif(gif, words)}</figure>')  # fmt: skip


def saved_as_gif(address: str, words: Words) -> str:
    """A link that saves the animation of how a student learned."""
    return f'<p><a href="{escape(address, quote=True)}" download>{escape(words["learned_gif"])}</a></p>'


def link(address: str, words: Words) -> str:
    """An address to open and to copy."""
    text = escape(address, quote=True)
    return (f'<p class="kd-link"><a id="kd-address" href="{text}" target="_blank" rel="noopener">{text}</a> '
            f"{copying('kd-address', words)}</p>")  # fmt: skip


def copying(id: str, words: Words) -> str:
    """A button that copies the text of an element."""
    done = escape(words["copied"], quote=True)
    return (f'<button type="button" class="kd-copy" data-copies="{id}" data-copied="{done}">{escape(words["copy"])}'
            "</button>")  # fmt: skip


def costs(teacher: Cost, student: Cost, words: Words) -> str:
    """What the student costs beside its teacher."""
    cheaper = teacher.macs * teacher.calls / max(student.macs * student.calls, 1)

    def line(name: str, cost: Cost) -> str:
        calls = f" &times; {cost.calls} {escape(words['calls'])}" if max(teacher.calls, student.calls) > 1 else ""
        return (f"<tr><th scope=row>{escape(name)}</th><td>{cost.num_params:,}</td>"
                f"<td>{count(cost.macs)}{calls}</td></tr>")  # fmt: skip

    return (
        f'<div class="kd-cost"><p class="kd-big">{times(cheaper)} <span>{escape(words["cheaper"])}</span></p>'
        f"<table><thead><tr><td></td><th scope=col>{escape(words['parameters'])}</th>"
        f"<th scope=col>{escape(words['macs'])}</th></tr></thead><tbody>{line(words['teacher'], teacher)}"
        f"{line(words['student'], student)}</tbody></table></div>"
    )


def times(ratio: float) -> str:
    """How many times, e.g. ``13.5x`` or ``49x``."""
    return f"{ratio:.0f}x" if ratio >= 19.95 else f"{ratio:.1f}x"


def status(job: Job | None, place: int, progress: Progress, words: Words, *, waits: bool = False) -> str:
    """Where a run stands: its state, a bar, its phases, time left and speed; ``waits`` for a visitor to hold it."""
    if job is None:
        return f'<div class="kd-status kd-empty"><p>{escape(words["nothing_yet"])}</p></div>'
    title = words[f"state_{job.state}"]
    facts = [words["waits_for_you"]] if waits else []
    if job.state == "queued" and not waits:
        facts.append(words["place"].format(place=place) if place else words["starting"])
    if job.state == "running":
        if progress.seconds_left is not None:
            facts.append(words["time_left"].format(time=clock(progress.seconds_left)))
        if progress.images_per_second:
            facts.append(words["speed"].format(speed=f"{progress.images_per_second:,.0f}"))
        facts += _terms(progress.terms, words)
        if progress.part is not None:
            name, done, total = progress.part
            what = words.get(f"part_{name}", words["part_assistant"])
            facts.insert(0, words["part_of"].format(what=what, done=f"{done:,}", total=f"{total:,}"))
        facts = facts or [words["starting"]]
    if job.state == "failed":
        facts.append(words["failed_because"].format(reason=translated(job.message, words)))
    if job.state == "stopped":
        facts += [translated(job.message, words)] if job.message else []
        facts.append(words["stopped_hint"])
    share = 1.0 if job.state == "done" else progress.overall
    percent = round(100 * share)
    steps = "".join(_phase(phase, progress, job, words) for phase in progress.phases)
    line = " &middot; ".join(f"<span>{escape(fact)}</span>" for fact in facts)
    notes = bullets([translated(line, words) for line in progress.warnings[-WARNINGS:]])
    phase = words.get(f"phase_{progress.phase}", progress.phase.replace("_", " ")) or words["starting"]
    told = words[f"told_{job.state}"].format(name=job.name, phase=phase)
    tab = words[f"title_{job.state}"].format(percent=percent) if f"title_{job.state}" in words else ""
    return (
        f'<div class="kd-status kd-{job.state}" data-state="{job.state}" data-told="{escape(told, quote=True)}" '
        f'data-title="{escape(tab, quote=True)}"><p class="kd-title"><strong>{escape(title)}</strong> '
        f"<span>{escape(job.name)}</span></p>"
        f'<div class="kd-bar" role="progressbar" aria-label="{escape(words["progress_of"].format(name=job.name))}" '
        f'aria-valuemin="0" aria-valuemax="100" aria-valuenow="{percent}"><i style="width:{percent}%"></i></div>'
        f'<p class="kd-facts">{line}</p>{f"<ol class=kd-phases>{steps}</ol>" if steps else ""}'
        f"{f'<div class=kd-hint>{notes}</div>' if notes else ''}</div>"
    )


def _terms(terms: Mapping[str, float], words: Words) -> list[str]:
    """The loss, and of its terms those that are not all of it."""
    whole = terms.get("loss")
    shown = [(key, value) for key, value in terms.items() if key == "loss" or value != whole]
    return [f"{words['loss'] if key == 'loss' else key} {value:.3g}" for key, value in shown[:4]]


def _phase(phase: str, progress: Progress, job: Job, words: Words) -> str:
    order = progress.phases
    at = order.index(progress.phase) if progress.phase in order else -1
    index = order.index(phase)
    done = job.state == "done" or index < at
    now = not done and index == at
    share = f" {progress.share:.0%}" if now and job.state != "done" else ""
    name = escape(words.get(f"phase_{phase}", phase.replace("_", " ")))
    css = "done" if done else "now" if now else "later"
    return f'<li class="{css}"{" aria-current=step" if now else ""}>{name}{share}</li>'


def table(report: Report, words: Words) -> str:
    """A report's table, a column for each net with the student's first, and its sentences."""
    header, cells = report.table()
    own = ROLES["student"]
    cells = sorted(cells, key=lambda line: line[0] != own)
    css = [" class=kd-own" if line[0] == own else "" for line in cells]

    def put(sentence: str) -> str:
        return escape(translated(sentence, words))

    head = "".join(f"<th scope=col{each}>{put(line[0])}<small>{put(line[1])}</small></th>"
                   for line, each in zip(cells, css, strict=True))  # fmt: skip
    rows = "".join(
        f"<tr><th scope=row>{put(title)}</th>"
        + "".join(f"<td{each}>{put(line[at])}</td>" for line, each in zip(cells, css, strict=True))
        + "</tr>"
        for at, title in enumerate(header)
        if at > 1
    )
    verdict = f'<p class="kd-verdict">{put(report.verdict)}</p>' if report.verdict else ""
    rest = "".join(f"<p>{put(each)}</p>" for each in report.sentences()[bool(report.verdict) :])
    return (
        f'{verdict}<div class="kd-scroll" tabindex="0" role="region" aria-label="{escape(words["table_of"])}">'
        f'<table class="kd-table kd-sticky"><caption>{escape(report.task)}</caption><thead><tr><td></td>{head}</tr>'
        f"</thead><tbody>{rows}</tbody></table></div><div class=kd-said>{rest}</div>"
    )


def key_figures(report: Report | None, words: Words) -> str:
    """The figures of a student in a line, e.g. ``29.72 dB · 13.5x fewer MACs``."""
    if report is None or (student := report.find("student")) is None:
        return ""
    parts = list[str]()
    if report.primary_metric in student.metrics:
        parts.append(translated(worded(report.primary_metric, student.metrics[report.primary_metric]), words))
    teacher = report.find("teacher")
    if teacher is not None and student.macs:
        parts.append(words["fewer_macs"].format(times=times(teacher.image_macs / student.image_macs)))
    parts.append(words["count_parameters"].format(count=f"{student.num_params:,}"))
    return " · ".join(parts)


def bullets(lines: Sequence[str]) -> str:
    """Lines as a list."""
    return "<ul>" + "".join(f"<li>{escape(line)}</li>" for line in lines) + "</ul>" if lines else ""
