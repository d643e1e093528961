"""Small versions of the campaign in benchmarks/faults: the same inputs every time."""

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

from faults import fuzz, tiny

from kdgen.cli.arguments import register_all
from kdgen.models.model import load
from kdgen.registry import Spec, build
from kdgen.types import UserError


@pytest.fixture(autouse=True, scope="module")
def registered() -> None:
    register_all(None)


@pytest.mark.parametrize(
    ("kind", "count"), [("recipes", 120), ("students", 60), ("checkpoints", 60), ("images", 60)], ids=lambda v: str(v)
)
def test_damaged_inputs_are_refused_in_a_line_or_do_no_harm(kind: str, count: int, tmp_path: Path) -> None:
    more: list[Any] = [] if kind == "recipes" else [tmp_path]
    tally = getattr(fuzz, kind)(count, *more)
    assert sum(tally.ends.values()) >= count * 0.9
    assert not tally.defects, next(iter(tally.defects.values()))
    assert tally.ends["accepted"] > 0
    assert kind == "images" or tally.ends["refused"] > 0 or kind == "checkpoints"


def test_recipes_that_read_well_come_to_life_or_are_refused(tmp_path: Path) -> None:
    tally = fuzz.built(12, tiny.make(tmp_path / "tiny"), tmp_path)
    assert not tally.defects, next(iter(tally.defects.values()))


def test_the_campaign_sees_what_is_bad() -> None:
    def fails() -> bool:
        raise ZeroDivisionError

    def refuses() -> bool:
        raise UserError("a line")

    tally = fuzz.Tally("any")
    for case in (fails, refuses, lambda: False, lambda: True):
        tally.add(case)
    assert dict(tally.ends) == {"traceback": 1, "refused": 1, "wrong": 1, "accepted": 1}
    assert tally.bad == 2


@pytest.mark.parametrize(
    ("args", "words"),
    [({"depth": [1]}, "depth is"), ({"width": True}, "width is a whole number")],
)
def test_an_argument_of_another_type_is_named(args: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=f"net dncnn: {words}"):
        build("net", Spec(name="dncnn", args=args))


def test_a_configuration_of_other_channels_than_its_net_is_refused(tmp_path: Path) -> None:
    home = fuzz.a_student(tmp_path)
    config = home / "config.json"
    config.write_text(config.read_text().replace('"channels": 1,\n  "task"', '"channels": 3,\n  "task"'))
    with pytest.raises(UserError, match="3 channels of a net of 1"):
        load(home)
