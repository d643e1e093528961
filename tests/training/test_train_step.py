"""One step of what learns: what its terms are shown, when the student rests, what is left where memory ran out."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from support import learner_of
from torch import Tensor, nn

import kdgen.methods
import kdgen.objectives  # noqa: F401
from kdgen import registry
from kdgen.training.train_step import Learner
from kdgen.types import Batch, DistillationInputs, Method, Task, UserError


class Sometimes(Method):
    """Be as dark as can be, once in so many steps; a critic learns in all of them."""

    reads = frozenset({"student"})

    def __init__(self, every: int = 1) -> None:
        super().__init__()
        self.every, self.critic = every, nn.Parameter(torch.zeros(()))
        self.register_buffer("count", torch.zeros((), dtype=torch.long))

    def critics(self) -> Iterator[nn.Parameter]:
        return iter([self.critic])

    def loss(self, inputs: DistillationInputs) -> Tensor | None:
        self.count += 1
        return inputs.student.square().flatten(1).mean(1) if int(self.count - 1) % self.every == 0 else None

    def discriminator_loss(self, inputs: DistillationInputs) -> Tensor:
        return (self.critic - 1).square().expand(len(inputs.batch.x))


class Asks(Method):
    """Read an output that no term says it reads."""

    reads = frozenset()

    def __init__(self, what: str = "student") -> None:
        super().__init__()
        self.what = what

    def loss(self, inputs: DistillationInputs) -> Tensor:
        shown: Tensor = getattr(inputs, self.what)
        return shown.flatten(1).mean(1)


class Truth(Task):
    """A task with ground truth."""

    def loss(self, out: Tensor, batch: Batch) -> Tensor:
        return (out - batch.y).square().flatten(1).mean(1)


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {**registry._registered["method"], "sometimes": Sometimes, "asks": Asks}
    monkeypatch.setitem(registry._registered, "method", known)


def batch_of(number: int) -> Batch:
    y = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(number)) * 2 - 1
    return Batch(x=y + 0.1, y=y)


def net(*widths: int) -> nn.Sequential:
    torch.manual_seed(0)
    layers = [nn.Conv2d(a, b, 3, padding=1) for a, b in zip((1, *widths), (*widths, 1), strict=True)]
    return nn.Sequential(*(part for layer in layers for part in (layer, nn.ReLU())))[:-1]


class Told(nn.Module):
    """A chain that takes conditions and has no use for them."""

    def __init__(self, *widths: int) -> None:
        super().__init__()
        self.chain = net(*widths)

    def forward(self, x: Tensor, **cond: Tensor) -> Tensor:
        out: Tensor = self.chain(x)
        return out


def made(*methods: dict[str, Any], **more: Any) -> Learner:
    plain = {"optimizer": "adamw", "lr": 1e-2, "betas": (0.0, 0.99), "warmup": 0, "decay": "none"}
    return learner_of({"methods": methods, **plain, **more}, Told(4), Told(6), batch_of(99), Truth())


def step(learner: Learner, number: int) -> dict[str, Any]:
    return dict(learner.step(batch_of(number), None, number=number, progress=0.1, retries=0))


@pytest.mark.parametrize("what", ["student", "teacher"])
def test_an_output_that_was_not_computed_is_absent_and_asking_for_it_is_an_error(what: str) -> None:
    learner = made({"name": "asks", "args": {"what": what}})
    with pytest.raises(UserError, match=f'reads the {what}\'s output, .* names "{what}" in its `reads`'):
        step(learner, 0)


def test_a_student_that_rests_is_as_if_the_step_had_not_been() -> None:
    resting, plain = made({"name": "sometimes", "args": {"every": 3}}), made({"name": "sometimes"})
    for number in range(5):
        figures = step(resting, number)
        if number % 3 == 0:
            known = figures
            step(plain, number)
        assert (figures["loss"], figures["sometimes"]) == (known["loss"], known["sometimes"])
    ours, theirs = resting.state_dict(), plain.state_dict()
    for key in ("student", "average", "optimizer"):
        torch.testing.assert_close(ours[key], theirs[key], atol=0, rtol=0)
    assert ours["critics"]["state"][0]["step"] == 5


def test_the_student_rests_only_where_all_terms_agree() -> None:
    learner = made({"name": "sometimes", "args": {"every": 3}}, ratio={"name": "fixed", "args": {"alpha": 0.5}})
    for number in range(4):
        assert step(learner, number)["task"] > 0
    assert learner.average.count == 4


def test_gradients_of_critics_do_not_outlive_a_step_that_ran_out_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    learner = made({"name": "adversarial", "args": {"width": 4}})
    learner.enter(0)
    learner.parts = 2
    looks, look = iter((False, True)), learner._look

    def greedy(*args: Any) -> Any:
        if next(looks, False):
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes.")
        return look(*args)

    monkeypatch.setattr(learner, "_look", greedy)
    assert step(learner, 0) == {}
    assert learner.exhausted
    assert learner.optimizer is not None
    assert [p.grad for p in (*learner.loss.critics, *learner.optimizer.parameters) if p.grad is not None] == []


def test_an_adaptive_ratio_sees_methods_that_ask_the_student_themselves() -> None:
    ratio = {"name": "adaptive", "args": {"alpha": 0.5}}
    pairs = {"pairs": [["chain.0", "chain.0"]]}
    methods = [{"name": "jacobian"}, {"name": "upcycling"}, {"name": "output"}, {"name": "feature", "args": pairs}]
    learner = made(*methods, ratio=ratio)
    step(learner, 0)
    layers = [learner.student.chain[2].weight, learner.student.chain[0].weight]
    assert [id(weight) for weight in learner.loss.compared] == [id(weight) for weight in layers]
    norms = learner.loss.statistics.norms
    assert list(norms) == ["task", "0.0.jacobian", "0.1.upcycling", "0.2.output", "0.3.feature"]
    assert all(norm > 0 for norm in norms.values())
