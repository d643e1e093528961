"""Pieces of the setup side as HTML."""

from collections.abc import Mapping, Sequence
from html import escape

from kdgen.recipe import Checkpoint, Recipe
from kdgen.report.captions import shortened
from kdgen.ui.at_hand import files_of
from kdgen.ui.markup import Words
from kdgen.utils.durations import clock

CONTROLS = ("control_steps", "control_seconds")
APART = ("start", "images", "answers", *CONTROLS, "report")
"""Phases that are named by themselves; all others are training."""

PROMPTS = 6
"""Prompts of a recipe that are shown."""

ROUND = ((20.0, 5), (180.0, 10), (900.0, 30), (float("inf"), 60))
"""Up to how many seconds a duration is said in multiples of what: it is an estimate."""


def roughly(seconds: float) -> str:
    """A duration that is not known exactly, e.g. ``1:30``."""
    unit = next(unit for bound, unit in ROUND if seconds <= bound)
    return clock(max(unit * round(seconds / unit), unit))


def run_time(spans: Mapping[str, float] | None, words: Words) -> str:
    """How long a whole run takes, and what of it goes where."""
    if spans is None:
        return f'<p class="kd-whole">{escape(words["measuring_time"])}</p>'
    groups = {
        "start": spans.get("start", 0.0), "images": spans.get("images", 0.0), "answers": spans.get("answers", 0.0),
        "train": sum(seconds for name, seconds in spans.items() if name not in APART),
        "controls": sum(spans.get(name, 0.0) for name in CONTROLS), "report": spans.get("report", 0.0),
    }  # fmt: skip
    parts = [f"<span>{escape(words[f'span_{name}'].format(time=roughly(seconds)))}</span>"
             for name, seconds in groups.items() if seconds >= 1]  # fmt: skip
    whole = words["whole_time"].format(time=roughly(sum(spans.values())))
    return f'<p class="kd-whole">{whole}</p><p class="kd-spans">{" · ".join(parts)}</p>'


def prompts(recipe: Recipe, words: Words) -> str:
    """What a recipe's teacher is asked for, the first of it; nothing of a recipe without prompts."""
    asked = recipe.task.args.get("prompts")
    if not isinstance(asked, list) or not asked:
        return ""
    first = "; ".join(shortened(str(each)) for each in asked[:PROMPTS])
    more = " …" if len(asked) > PROMPTS else ""
    return f'<p class="kd-hint">{escape(words["trains_on"].format(count=f"{len(asked):,}", first=first + more))}</p>'


def commands(recipes: Sequence[Recipe]) -> str:
    """The commands of presets that need files first, each with the files, and where the teacher's is to be had."""
    lines = []
    for recipe in recipes:
        files = [f"<code>{escape(name)}</code>" for name in files_of(recipe)]
        if isinstance(recipe.teacher, Checkpoint) and recipe.teacher.url:
            files[0] = (
                f'<a href="{escape(recipe.teacher.url, quote=True)}" rel="noopener" target="_blank">{files[0]}</a>'
            )
        lines.append(f"<li><code>kdgen distill {escape(recipe.name)}</code><br>{', '.join(files)}</li>")
    return f'<ul class="kd-commands">{"".join(lines)}</ul>'


def notices(lines: Sequence[str]) -> str:
    """Mistakes to the visitor, read out at once."""
    inner = "".join(f"<p>{escape(line)}</p>" for line in lines)
    return f'<div class="kd-notice kd-error" role="alert">{inner}</div>' if lines else ""


__all__ = ["clock", "commands", "notices", "prompts", "roughly", "run_time"]
