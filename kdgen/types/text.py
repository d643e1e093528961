"""Sentences for people that can be said in another language: English with the key and the figures it was made of."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePath
from typing import Any, Self

from pydantic import BaseModel, GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

Figure = Any
"""What stands in a sentence: text, a number, another ``Text``, or a list of these."""


class Text(str):
    """English that carries what it says.

    Attributes:
        key: of the sentence; empty where it is known in English alone.
        figures: what stands in it, by name.
    """

    key: str
    figures: Mapping[str, Figure]

    def __new__(cls, english: str, key: str = "", figures: Mapping[str, Figure] | None = None) -> Self:
        """English with its key and figures."""
        made = super().__new__(cls, english)
        made.key, made.figures = key, figures or {}
        return made

    @classmethod
    def of(cls, sentence: str) -> "Text":
        """The same as a ``Text``."""
        return sentence if isinstance(sentence, Text) else Text(sentence)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """A string; one that is a ``Text`` already stays as it is."""
        return core_schema.no_info_wrap_validator_function(
            lambda value, validate: value if isinstance(value, Text) else Text(validate(value)),
            core_schema.str_schema(),
            serialization=core_schema.to_string_ser_schema(),
        )


def text(key: str, english: str, /, **figures: Figure) -> Text:
    """A sentence.

    Args:
        key: names it in every language.
        english: with a field in braces for each figure, as for ``str.format``; what follows the colon in the field of
            a list stands between its parts.
        figures: by name.
    """
    return Text(filled(english, figures, str), key, figures)


def filled(template: str, figures: Mapping[str, Figure], say: Callable[[Text], str]) -> str:
    """A template with its figures.

    Args:
        template: as for ``text``.
        figures: by name.
        say: what stands for a figure that is a sentence itself.

    Raises:
        KeyError, ValueError, TypeError: for figures that are not those of the template.
    """

    def shown(figure: Figure) -> Any:
        if isinstance(figure, Text):
            return say(figure)
        return _Parts(map(shown, figure)) if isinstance(figure, list | tuple) else figure

    return template.format(**{name: shown(figure) for name, figure in figures.items()})


def replaced(sentence: Text, old: str, new: str) -> Text:
    """A sentence with something else for a piece of it, in what stands in it too.

    Args:
        sentence: in any language that it is known in.
        old: the piece.
        new: what stands for it; a ``Text`` is said in the language of the sentence where the piece is a whole figure.
    """

    def changed(figure: Figure) -> Figure:
        if isinstance(figure, Text):
            return replaced(figure, old, new)
        if isinstance(figure, list | tuple):
            return [changed(each) for each in figure]
        if not isinstance(figure, str | PurePath) or old not in str(figure):
            return figure
        return new if str(figure) == old else str(figure).replace(old, new)

    figures = {name: changed(figure) for name, figure in sentence.figures.items()}
    return Text(sentence.replace(old, new), sentence.key, figures)


class _Parts(tuple[Any, ...]):
    """Parts of a sentence; a format is what stands between them."""

    def __format__(self, between: str) -> str:
        return between.join(map(str, self))


def texts_in(value: Any) -> dict[str, dict[str, Any]]:
    """Key and figures, as plain data, of every ``Text`` within nested data, by its English."""
    if isinstance(value, Text):
        return {str(value): _stored(value)} if value.key else {}
    if isinstance(value, BaseModel):
        value = dict(value)
    inner: Sequence[Any] = ()
    if isinstance(value, Mapping):
        inner = list(value.values())
    elif isinstance(value, list | tuple):
        inner = value
    return {english: stored for each in inner for english, stored in texts_in(each).items()}


def with_texts(data: Mapping[str, Any]) -> dict[str, Any]:
    """Plain data with what its sentences are made of beside them, as `texts`; the inverse of ``restored``."""
    texts = texts_in(data)
    return {**data, "texts": texts} if texts else {**data}


def restored(data: Mapping[str, Any]) -> dict[str, Any]:
    """Plain data with every sentence of its `texts` as a ``Text``; without them, as it is."""
    texts = data.get("texts")
    rest = {name: value for name, value in data.items() if name != "texts"}
    if not isinstance(texts, Mapping):
        return rest

    def spoken(value: Any) -> Any:
        if isinstance(value, str) and isinstance(stored := texts.get(value), Mapping):
            return _spoken({**stored, "text": value})
        if isinstance(value, Mapping):
            return {name: spoken(inner) for name, inner in value.items()}
        return type(value)(map(spoken, value)) if isinstance(value, list | tuple) else value

    return {name: spoken(value) for name, value in rest.items()}


def _stored(sentence: Text) -> dict[str, Any]:
    return {"key": sentence.key, "figures": {name: _plain(figure) for name, figure in sentence.figures.items()}}


def _plain(figure: Figure) -> Any:
    if isinstance(figure, Text):
        return {"text": str(figure), **_stored(figure)} if figure.key else str(figure)
    if isinstance(figure, list | tuple):
        return [_plain(each) for each in figure]
    return figure if isinstance(figure, str | int | float | None) else str(figure)


def _spoken(plain: Any) -> Any:
    """The inverse of ``_plain``."""
    if isinstance(plain, Mapping):
        figures = plain.get("figures")
        parts = {name: _spoken(each) for name, each in figures.items()} if isinstance(figures, Mapping) else {}
        return Text(str(plain.get("text", "")), str(plain.get("key", "")), parts)
    return [_spoken(each) for each in plain] if isinstance(plain, list) else plain


__all__ = ["Text", "filled", "replaced", "restored", "text", "texts_in", "with_texts"]
