"""Every method and objective as the loop takes its steps, with every value that the types of its arguments name."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import documented
import pytest
import torch
from torch import Tensor, nn
from worlds import WORLDS, World

import kdgen.training.registered  # noqa: F401
from kdgen import registry
from kdgen.training.train_step import Learner
from kdgen.types import UserError

KINDS: tuple[registry.Kind, ...] = ("method", "objective")
CASES = [(kind, name, args) for kind in KINDS for name, args in documented.cases(kind)]

pytestmark = pytest.mark.usefixtures("one_thread")


def copied(parameters: Sequence[Tensor]) -> list[Tensor]:
    return [p.detach().clone() for p in parameters]


def moved(before: Sequence[Tensor], now: Sequence[Tensor]) -> bool:
    return any(not torch.equal(was, p) for was, p in zip(before, now, strict=True))


def through_a_file(state: dict[str, Any]) -> dict[str, Any]:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    loaded: dict[str, Any] = torch.load(file, weights_only=True)
    return loaded


def assert_equal(ours: object, theirs: object, path: str = "") -> None:
    """Two states, of tensors and plain values, are the same to the last bit."""
    assert type(ours) is type(theirs), path
    if isinstance(ours, Tensor) and isinstance(theirs, Tensor):
        assert torch.equal(ours, theirs), path
    elif isinstance(ours, Mapping) and isinstance(theirs, Mapping):
        assert ours.keys() == theirs.keys(), path
        for key in ours:
            assert_equal(ours[key], theirs[key], f"{path}/{key}")
    elif isinstance(ours, list | tuple) and isinstance(theirs, list | tuple):
        assert len(ours) == len(theirs), path
        for place, pair in enumerate(zip(ours, theirs, strict=True)):
            assert_equal(*pair, f"{path}/{place}")
    else:
        assert ours == theirs, path


def step(learner: Learner, world: World, number: int, parts: int = 1) -> Mapping[str, Tensor | float]:
    learner.parts = parts
    return learner.step(world.batch(number + 1), None, number=number, progress=number / 4, retries=0)


def lesson(kind: str, use: dict[str, Any], world: World, **stage: Any) -> None:
    """Two steps, the second in two parts; saved and loaded into nets of other weights; the third is the same in both.

    The student moves in the two steps, unless the term gave no loss in either of them, which is how it says that the
    student is not to learn yet; its critics move in each.

    Raises:
        UserError: where the world is not for the term, before any step.
    """
    learner = world.learner(kind, use, **stage)
    learner.enter(0)
    first = copied(list(learner.student.parameters()))
    for number in (0, 1):
        critics, count = copied(learner.loss.critics), learner.average.count
        figures = step(learner, world, number, parts=number + 1)
        assert all(torch.isfinite(torch.as_tensor(value)) for value in figures.values()), figures
        assert not critics or moved(critics, learner.loss.critics)
        assert "loss" in figures or learner.average.count == count
    assert moved(first, list(learner.student.parameters())) or "loss" not in figures
    again = world.learner(kind, use, seed=1, **stage)
    again.load_state_dict(through_a_file(learner.state_dict()))
    assert_equal(*(step(each, world, 2, parts=2) for each in (learner, again)))
    assert_equal(learner.state_dict(), again.state_dict())


def taken(kind: str, use: dict[str, Any], worlds: Sequence[World]) -> list[str]:
    """The worlds that a term learns in; those that it refuses it refuses in one line."""
    names = []
    for world in worlds:
        try:
            lesson(kind, use, world)
        except UserError as error:
            refusal = str(error)
        else:
            names.append(world.name)
            continue
        assert "\n" not in refusal
    return names


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind in KINDS for name in documented.own(kind)])
def test_every_term_learns_in_some_world_and_refuses_the_others_in_one_line(kind: registry.Kind, name: str) -> None:
    assert taken(kind, {"name": name}, WORLDS), "no world takes it: tests/methods/worlds.py lacks what it needs"


@pytest.mark.parametrize(("kind", "name", "args"), [case for case in CASES if case[2]], ids=documented.label)
def test_every_documented_value_trains_in_the_loop(kind: registry.Kind, name: str, args: dict[str, Any]) -> None:
    assert any(taken(kind, {"name": name, "args": args}, [world]) for world in WORLDS)


@pytest.mark.parametrize(("name", "args"), documented.cases("ratio"), ids=documented.label)
def test_every_ratio_weighs_a_method_against_the_truth(name: str, args: dict[str, Any]) -> None:
    lesson("method", {"name": "output"}, WORLDS[0], ratio={"name": name, "args": args})


@pytest.mark.parametrize("name", [n for n in documented.own("method") if registry.accepts("method", n, "critic")])
@pytest.mark.parametrize("every", [2, 3])
def test_a_student_rests_in_the_steps_of_its_critic(name: str, every: int) -> None:
    world = WORLDS[0]
    learner = world.learner("method", {"name": name, "args": {"every": every}})
    learner.enter(0)
    for number in range(4):
        student, critics = copied(list(learner.student.parameters())), copied(learner.loss.critics)
        count = learner.average.count
        step(learner, world, number, parts=2 if number > 1 else 1)
        turn = number % every == 0
        assert learner.average.count - count == turn
        assert turn or not moved(student, list(learner.student.parameters()))
        assert moved(critics, learner.loss.critics)


def test_a_term_that_forgets_a_part_of_itself_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    from kdgen.types import DistillationInputs, Method

    class Forgetful(Method):
        """Counts its steps, and does not save the count."""

        count = 0

        def loss(self, inputs: DistillationInputs) -> Tensor:
            self.count += 1
            return self.count * (inputs.student - inputs.teacher).square().flatten(1).mean(1)

    monkeypatch.setitem(registry._registered["method"], "forgetful", Forgetful)
    with pytest.raises(AssertionError):
        lesson("method", {"name": "forgetful"}, WORLDS[0])


def test_the_nets_of_the_worlds_differ() -> None:
    assert all(isinstance(world.student(), nn.Module) and world.batch(0).x.shape for world in WORLDS)
    assert len({type(world.student()) for world in WORLDS}) == len(WORLDS)
