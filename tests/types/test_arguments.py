"""Arguments are held against the signature, by recipe and in Python, and are passed on as they are."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pytest
import torch
from pydantic import BeforeValidator, Field
from torch import nn

from kdgen import registry
from kdgen.registry import Spec, register
from kdgen.types import UserError
from kdgen.types.arguments import Channels, Count, CountOrZero, Counts, NonNegative, Positive, Share, Sigma, validated


def even(value: object) -> object:
    if isinstance(value, int) and value % 2:
        raise UserError("odd is no number of halves")
    return value


@validated("it")
def takes(
    count: Count = 1,
    classes: CountOrZero | None = None,
    channels: Channels = 1,
    share: Share = 1,
    positive: Positive = 1,
    weight: NonNegative = 0,
    sigma: Sigma = 25,
    below: Annotated[float, Field(ge=0, lt=1)] = 0,
    within: Annotated[float, Field(gt=0, le=2)] = 1,
    number: float = 0,
    flag: bool = False,
    text: str = "",
    loss: Literal["l1", "l2"] = "l1",
    widths: Counts = (1,),
    steps: Annotated[Sequence[Count], Field(min_length=1, description="a list like [1, 2, 4]")] = (1,),
    latent: Count | Sequence[Count] = 1,
    folder: Path = Path(),
    pair: tuple[int, int] = (1, 1),
    options: Mapping[str, float] | None = None,
    net: nn.Module | None = None,
    halves: Annotated[int, BeforeValidator(even)] = 2,
) -> None: ...


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"count": 0}, "it: count is a whole number of at least 1, not 0"),
        ({"count": True}, "it: count is a whole number of at least 1, not True"),
        ({"count": 2.0}, "it: count is a whole number of at least 1, not 2.0"),
        ({"count": "8"}, "it: count is a whole number of at least 1, not '8'"),
        ({"classes": -1}, "it: classes is a whole number of at least 0, not -1"),
        ({"channels": 2}, "it: channels is 1 (grey) or 3 (colour), not 2"),
        ({"share": 1.5}, "it: share is a share in [0, 1], not 1.5"),
        ({"share": float("nan")}, "it: share is a share in [0, 1], not nan"),
        ({"positive": 0}, "it: positive is a number above 0, not 0"),
        ({"weight": float("inf")}, "it: weight is a number of at least 0, not inf"),
        ({"sigma": 101}, "it: sigma is a number in [0, 100], not 101"),
        ({"below": 1}, "it: below is a number in [0, 1), not 1"),
        ({"within": 3}, "it: within is a number above 0 and at most 2, not 3"),
        ({"number": True}, "it: number is a number, not True"),
        ({"flag": 1}, "it: flag is true or false, not 1"),
        ({"text": 1}, "it: text is text, not 1"),
        ({"loss": "l3"}, "it: loss is one of l1, l2, not 'l3'"),
        ({"widths": []}, "it: widths is a list of at least one, each a whole number of at least 1, not []"),
        ({"widths": [1, 0]}, "it: each of widths is a whole number of at least 1, not 0"),
        ({"widths": "12"}, "it: widths is a list of at least one, each a whole number of at least 1, not '12'"),
        ({"steps": []}, "it: steps is a list like [1, 2, 4], not []"),
        ({"steps": [0]}, "it: each of steps is a whole number of at least 1, not 0"),
        ({"latent": 0}, "it: latent is a whole number of at least 1 or a list, each a whole number of at least 1, not 0"),
        ({"pair": [1, "2"]}, "it: pair is a list, not [1, '2']"),
        ({"options": 3}, "it: options is a mapping, not 3"),
        ({"net": 3}, "it: net is 3: Input should be an instance of Module"),
        ({"text": nn.Linear(1, 1), "count": 1}, "it: text is text, not Linear(in_features=1, out_features=1, bias=True)"),
        ({"text": nn.Sequential(nn.ReLU())}, "it: text is text, not a Sequential"),
        ({"halves": 3}, "it: odd is no number of halves"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_in_one_line(given: dict[str, Any], line: str) -> None:
    with pytest.raises(UserError) as refused:
        takes(**given)
    assert str(refused.value) == line


def test_what_a_recipe_or_a_program_holds_fits() -> None:
    takes(count=np.int64(3), share=np.float32(0.5), positive=1, widths=[1, 2], steps=(1, 2), latent=[4], classes=None)
    takes(folder="pictures", pair=[1, 2], text=Path("here"), net=nn.Linear(1, 1), options={"scale": 1}, number=3)
    with pytest.raises(TypeError, match="unexpected keyword argument 'counts'"):
        takes(counts=1)


def test_arguments_are_passed_on_as_they_are() -> None:
    @validated("it")
    def keep(
        x: torch.Tensor, nets: Sequence[nn.Module], options: Mapping[str, Any], number: float, draws: Iterator[int]
    ) -> tuple[Any, ...]:
        return x, nets, options, number, draws

    given = (torch.ones(2), [nn.Linear(1, 1)], {"a": [1]}, 3, iter([1, 2]))
    passed = keep(*given)
    assert all(a is b for a, b in zip(given, passed, strict=True))
    assert type(passed[3]) is int
    assert next(passed[4]) == 1


@pytest.fixture
def _empty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_registered", {})
    monkeypatch.setattr(registry, "_handles", {})


@pytest.mark.usefixtures("_empty")
def test_registered_classes_functions_and_dataclasses_are_checked_however_they_are_called() -> None:
    @register("method")
    class Own:
        def __init__(self, width: Count = 1) -> None:
            self.width = width

    @register("method")
    class Inherited(Own): ...

    @register("ratio")
    @dataclass(frozen=True)
    class Data:
        width: Count = 1

    @register("net")
    def made(width: Count = 1) -> int:
        return width

    things: list[tuple[registry.Kind, str, Callable[..., Any]]] = [
        ("method", "own", Own), ("method", "inherited", Inherited), ("ratio", "data", Data), ("net", "made", made)
    ]  # fmt: skip
    for kind, name, thing in things:
        line = rf"^{kind} {name}: width is a whole number of at least 1, not 0$"
        for call in (lambda: thing(0), lambda: thing(width=0), lambda: build(kind, name, width=0)):  # noqa: B023
            with pytest.raises(UserError, match=line):
                call()
        assert registry.arguments(kind, name) == ["width"]
        assert registry.default(kind, name, "width") == 1
    assert registry.get("method", "own") is Own


def build(kind: registry.Kind, name: str, **args: Any) -> Any:
    return registry.build(kind, Spec(name=name, args=args))


def test_what_only_a_type_checker_knows_is_passed_over() -> None:
    def free(count: "Unknown", other: int = 1) -> "Unknown":  # type: ignore[name-defined] # noqa: F821
        return count

    assert validated("it")(free)("any", other="text") == "any"
