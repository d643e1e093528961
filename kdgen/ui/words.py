"""The page's words in every language: in the browser by Gradio's I18n, in what the server writes by these tables."""

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from kdgen.types import Text, UserError
from kdgen.types.text import filled

FOLDER = Path(__file__).parent / "words"


def _read(name: str) -> dict[str, str]:
    words: dict[str, str] = json.loads((FOLDER / name).read_text(encoding="utf-8"))
    return words


ENGLISH, CHINESE = _read("en.json"), _read("zh-CN.json")
"""Of the page."""

PREFIX = "kdgen_"
"""Before every key in the browser, which would otherwise translate values that happen to be called like one."""

I18N = gr.I18n(
    **{
        locale: {PREFIX + key: text for key, text in words.items()}
        for locale, words in (("en", ENGLISH), ("zh-CN", CHINESE), ("zh", CHINESE))
    }
)


CHINESE |= {f"core_{key}": template for key, template in _read("core.zh-CN.json").items()}
"""Of what the rest of the package says, too; its English it says itself. No browser needs these."""


def say(key: str) -> Any:
    """What stands for a text wherever Gradio takes a label, an explanation or a value: the browser fills it in."""
    assert key in ENGLISH, f"no word {key!r}"
    assert key in CHINESE, f"no Chinese word {key!r}"
    return I18N(PREFIX + key)


def words_of(headers: Mapping[str, str]) -> dict[str, str]:
    """The words in the language that a browser asks for first, by the headers of its request."""
    return CHINESE if headers.get("accept-language", "").strip().lower().startswith("zh") else ENGLISH


def words_for(request: gr.Request | None) -> Mapping[str, str]:
    """The same of a request of the page's; English where there is none."""
    return words_of(request.headers) if request is not None else ENGLISH


def translated(message: str | UserError, words: Mapping[str, str]) -> str:
    """A sentence or a mistake in a visitor's words; in English where it is not known in them."""
    sentence = message.text if isinstance(message, UserError) else Text.of(message)
    template = words.get(f"core_{sentence.key}")
    if template is None:
        return str(sentence)
    try:
        return filled(template, sentence.figures, partial(translated, words=words))
    except (LookupError, ValueError, TypeError):  # figures of another version, read from a folder
        return str(sentence)
