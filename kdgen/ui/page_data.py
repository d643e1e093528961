"""What the browser is given to fill in the controls by itself, and what numbers may stand in them."""

import json
import math
from typing import Any

from kdgen.presets import preset
from kdgen.ui import choices
from kdgen.ui.markup import Words
from kdgen.ui.runs import Runs
from kdgen.ui.visitors import PROMPT
from kdgen.ui.words import CHINESE, ENGLISH


def mistake(field: choices.Field, value: Any, name: str, words: Words) -> str:
    """What is wrong with the value of a field, empty if nothing is."""
    if field.kind not in ("whole", "number") or (value is None and field.optional):
        return ""
    if not isinstance(value, int | float) or not math.isfinite(value):
        return words["bad_number"].format(name=name)
    if field.kind == "whole" and value != int(value):
        return words["bad_whole"].format(name=name)
    if not field.low <= value <= field.high:
        return words["bad_range"].format(name=name, low=_plain(field.low), high=_plain(field.high))
    return ""


def page_data(runs: Runs) -> str:
    """What the browser needs to fill in the controls by itself, as a line of JavaScript."""
    presets = {}
    for kind in choices.KINDS:
        for name in choices.presets_of(kind):
            recipe = preset(name)
            used = choices.methods_of(recipe)
            ratio, alpha = choices.ratio_of(recipe)
            presets[name] = {
                "seconds": choices.seconds_of(name, runs.limits.seconds), "controls": recipe.controls,
                "teacher": str(recipe.teacher), "families": _pairs(choices.families_of(kind)), "used": used,
                "methods": _pairs(dict.fromkeys([*used, *choices.METHODS[kind]])), "ratio": ratio, "alpha": alpha,
                "fields": [choices.value_at(recipe, key) for key in choices.ADVANCED],
            }  # fmt: skip
    said = {language: {"rules": _rules(runs, words), "kinds": _kinds(words),
                       "prompt": {"most": PROMPT, "full": words["prompt_full"].format(most=f"{PROMPT:,}")}}
            for language, words in (("en", ENGLISH), ("zh", CHINESE))}  # fmt: skip
    return (f"kd.presets = {json.dumps(presets)}; Object.assign(kd, "
            f"{json.dumps(said)}[navigator.language.startsWith('zh') ? 'zh' : 'en']);")  # fmt: skip


def _kinds(words: Words) -> dict[str, list[list[str]]]:
    """The presets of each kind as they are offered, in a language."""
    return {kind: [[words[f"preset_{name}"], name] for name in choices.presets_of(kind)] for kind in choices.KINDS}


def _rules(runs: Runs, words: Words) -> dict[str, Any]:
    """What each number may be, and what is said where it is not."""
    most = max(runs.limits.seconds, runs.limits.steps)
    named = {"amount": (choices.Field("amount", "number", "", low=1, high=most), words["amount"])}
    named |= {field.key: (field, words[f"label_{field.key}"]) for field in choices.fields()
              if field.kind in ("whole", "number")}  # fmt: skip
    return {
        key: {"low": field.low, "high": field.high, "whole": field.kind == "whole", "optional": field.optional,
              "number": words["bad_number"].format(name=name), "integer": words["bad_whole"].format(name=name),
              "range": words["bad_range"].format(name=name, low=_plain(field.low), high=_plain(field.high))}
        for key, (field, name) in named.items()
    }  # fmt: skip


def _pairs(names: Any) -> list[list[str]]:
    return [[name, name] for name in names]


def _plain(bound: float) -> str:
    """A bound as it is said: what is above 0 begins at 0, what is below 1 ends there."""
    return f"{round(bound, 6):,.6g}"


__all__ = ["mistake", "page_data"]
