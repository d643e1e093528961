"""Data that describes itself: read as people write it, its fields in words, what does not fit it in one line."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, ValidationError, computed_field, model_validator

from kdgen.registry import Spec, nearest
from kdgen.types import Text, UserError, text
from kdgen.types.arguments import said
from kdgen.types.text import restored, texts_in


class Strict(BaseModel):
    """Frozen, and unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Spoken(Strict):
    """Data with sentences: what these are made of is written beside them, and read again where it is there."""

    @computed_field  # type: ignore[prop-decorator]
    @property
    def texts(self) -> dict[str, Any]:
        """Key and figures of its sentences, by their English."""
        return texts_in(self)

    @model_validator(mode="before")
    @classmethod
    def _restored(cls, data: Any) -> Any:
        return restored(data) if isinstance(data, Mapping) else data


def read_json_text(path: Path) -> str:
    """The text of a JSON file: UTF-8, or UTF-16 or UTF-32 as Windows writes them, with a byte order mark or without.

    Raises:
        UserError: for a file that cannot be read, and for text in another encoding, with how to save it.
    """
    try:
        data = path.read_bytes()
        return data.decode(json.detect_encoding(data))
    except OSError as error:
        raise UserError(text("cannot_read", "cannot read {path}: {error}", path=path, error=error.strerror)) from None
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise UserError(text("not_utf8", "{path} is not in UTF-8, see line {line}: save it as UTF-8 (in Notepad by "
                             "Save as, Encoding; in PowerShell by `| Out-File -Encoding utf8`)", path=path,
                             line=line)) from None  # fmt: skip


ALTERNATIVE = re.compile(r"str|Checkpoint|function-\w+\[.*\]")
"""What pydantic calls the alternatives of a field, which are no keys."""


def explain_error(error: ValidationError, model: type[BaseModel]) -> Text:
    """The first complaint of a validation in one line, with the nearest right key for an unknown one."""
    first = max(error.errors(), key=lambda e: len(e["loc"]))
    path = [part for part in first["loc"] if not (isinstance(part, str) and ALTERNATIVE.fullmatch(part))]
    where = ".".join(str(part) for part in path)
    if first["type"] == "extra_forbidden":
        owner = _model_at(model, path[:-1])
        return text("unknown_key", "unknown key {key!r}{nearest}", key=where,
                    nearest=nearest(str(path[-1]), owner.model_fields if owner else []))  # fmt: skip
    message = said(first)
    return text("at_key", "{key}: {message}", key=where, message=message) if where else message


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models_in(inner)


def _model_at(model: type[BaseModel], path: Sequence[int | str]) -> type[BaseModel] | None:
    for part in path:
        if isinstance(part, str) and part in model.model_fields:
            model = next(_models_in(model.model_fields[part].annotation), model)
    return model


def document(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str, str]]:
    """Every field of a model as ``(key, default, description)``, nested ones with a dotted key."""
    for name, field in model.model_fields.items():
        default = "required" if field.is_required() else _short(field.get_default(call_default_factory=True))
        yield prefix + name, default, field.description or ""
        for inner in _models_in(field.annotation):
            if inner is not Spec:
                yield from document(inner, f"{prefix}{name}.")


def _short(value: Any) -> str:
    if isinstance(value, tuple | BaseModel):
        return ""
    return json.dumps(value)


def flat(value: Any, key: str = "") -> dict[str, Any]:
    """What stands in nested plain data, by dotted key; empty containers stand for themselves."""
    if not isinstance(value, dict | list) or not value:
        return {key: value}
    inner = value.items() if isinstance(value, dict) else enumerate(value)
    return {path: leaf for name, each in inner for path, leaf in flat(each, f"{key}.{name}".lstrip(".")).items()}


def assign(data: Any, key: str, value: Any) -> None:
    """Set what a dotted key names in plain data, ``stages.0.lr``. Raises UserError for a key that leads nowhere."""
    *path, last = key.split(".")
    where = data
    for part in path:
        where = where[_entry(where, part, key)]
    if isinstance(where, dict):
        where[last] = value
    else:
        where[_entry(where, last, key)] = value


def _entry(where: Any, part: str, key: str) -> int | str:
    """The index or key that ``part`` of a dotted ``key`` stands for."""
    if isinstance(where, list):
        if not part.isdecimal() or int(part) >= len(where):
            raise UserError(text("set_no_entry", "--set {key}: {part!r} is not one of its {count} entries, counted "
                                 "from 0", key=key, part=part, count=len(where)))  # fmt: skip
        return int(part)
    if not isinstance(where, dict):
        raise UserError(text("set_nothing_under", "--set {key}: nothing lies under {part!r}", key=key, part=part))
    if part not in where:
        raise UserError(text("set_no_key", "--set {key}: no key {part!r}{nearest}", key=key, part=part,
                             nearest=nearest(part, where)))  # fmt: skip
    return part
