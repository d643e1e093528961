"""What models undo, by what they say of their task: in words, how narrow it is, and whether there is more of it."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from kdgen.data.damages import make_damages
from kdgen.models.model import Model
from kdgen.types import UserError

Facts = Mapping[str, Any]


def generalists_last(models: Mapping[str, Model]) -> Mapping[str, Model]:
    """Models in their order, those that undo one damage of several at the end. Raises UserError for unknown damages."""
    return dict(sorted(models.items(), key=lambda each: _is_general(each[1].task)))


def specialists(tasks: Iterable[Facts]) -> list[Facts]:
    """What models that undo one damage of several say of their task is left out, unless all do. Raises the same."""
    found = list(tasks)
    return [each for each in found if not _is_general(each)] or found


def is_graded(facts: Facts) -> bool:
    """Whether the damage that a model undoes can be weak or strong; so where that is not said."""
    with suppress(UserError):
        return make_damages(_damages(facts)).graded if _damages(facts) else True
    return True


def in_words(facts: Facts) -> str:
    """What a model undoes, e.g. ``restore: blur (radius 0.5-2.5) + noise (sigma 2)``; empty where it is not said."""
    damages = _damages(facts)
    return f"{facts['name']}: {_called(damages)}" if damages else ""


def _damages(facts: Facts) -> list[Any]:
    damages = facts.get("damages")
    return damages if isinstance(damages, list) else []


def _is_general(facts: Facts) -> bool:
    return any(spec.name == "one_of" for spec in make_damages(_damages(facts)).specs)


def _called(damage: Any) -> str:
    """A damage, or a list of such in turn, as recipes describe them."""
    if isinstance(damage, list):
        return " + ".join(map(_called, damage))
    name, args = (damage["name"], damage.get("args") or {}) if isinstance(damage, Mapping) else (damage, {})
    if name == "one_of" and "damages" in args:
        return " / ".join(map(_called, args["damages"]))
    said = ", ".join(f"{key} {_amount(value)}" for key, value in args.items())
    return f"{name} ({said})" if said else str(name)


def _amount(value: Any) -> str:
    return "-".join(map(str, value)) if isinstance(value, Sequence) and not isinstance(value, str) else str(value)


__all__ = ["generalists_last", "in_words", "is_graded", "specialists"]
