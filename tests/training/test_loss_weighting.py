"""The distillation ratio."""

import json
import math

import pytest
import torch

from kdgen.registry import Spec, build, names
from kdgen.training.loss_weighting import LARGEST_SCALE, Statistics, Weights, gradient_norms
from kdgen.types import UserError


def make(name, **args):
    return build("ratio", Spec(name=name, args=args))


def test_registered():
    assert {"adaptive", "cosine", "fixed", "linear"} <= set(names("ratio"))
    assert [make(name).adaptive for name in ("adaptive", "cosine", "fixed", "linear")] == [True, False, False, False]
    assert make("adaptive", every=5, ema=0.5).every == 5


@pytest.mark.parametrize(
    ("name", "args", "alphas"),
    [
        ("fixed", {"alpha": 0.3}, (0.3, 0.3, 0.3, 0.3)),
        ("linear", {"start": 1.0, "end": 0.2}, (1.0, 0.8, 0.6, 0.2)),
        ("cosine", {"start": 1.0, "end": 0.2}, (1.0, 0.2 + 0.4 * (1 + math.sqrt(0.5)), 0.6, 0.2)),
        ("cosine", {"start": 0, "end": 1}, (0.0, 0.5 - math.sqrt(0.125), 0.5, 1.0)),
        ("adaptive", {"alpha": 0.7}, (0.7, 0.7, 0.7, 0.7)),
    ],
)
def test_alpha_over_progress(name, args, alphas):
    ratio = make(name, **args)
    for progress, alpha in zip((0, 0.25, 0.5, 1), alphas, strict=True):
        assert ratio(progress, {}).alpha == pytest.approx(alpha)
        assert ratio(progress, {}).scales == {}
    assert ratio(1.01, {}).alpha == pytest.approx(alphas[-1])


@pytest.mark.parametrize("bad", [1.5, -0.1, math.nan, math.inf, "0.5", None, True])
@pytest.mark.parametrize(
    ("name", "argument"),
    [
        ("fixed", "alpha"),
        ("adaptive", "alpha"),
        ("linear", "start"),
        ("linear", "end"),
        ("cosine", "start"),
        ("cosine", "end"),
    ],
)
def test_alpha_outside_is_refused(name, argument, bad):
    with pytest.raises(UserError, match=rf"ratio {name}: {argument} is a share in \[0, 1\]"):
        make(name, **{argument: bad})


@pytest.mark.parametrize("args", [{"every": 0}, {"every": 2.5}, {"ema": 1.0}, {"ema": math.nan}])
def test_adaptive_refuses_unfit_numbers(args):
    with pytest.raises(UserError, match="ratio adaptive"):
        make("adaptive", **args)


def test_adaptive_equalises_measured_norms():
    student = torch.randn(4, 1, 8, 8, requires_grad=True)
    tap = torch.randn(4, 3, 8, 8, requires_grad=True)
    output = student + tap.mean(1, keepdim=True)
    terms = {
        "task": output.square().flatten(1).mean(1),
        "output": 1e3 * (output - 1).abs().flatten(1).mean(1),
        "feature": 1e-2 * tap.pow(4).flatten(1).mean(1),
    }
    norms = gradient_norms(terms, [output, tap])
    weights = make("adaptive")(0.0, norms)
    scaled = gradient_norms({k: weights.scales.get(k, 1.0) * v for k, v in terms.items()}, [output, tap])
    assert scaled["output"] == pytest.approx(norms["task"], rel=1e-4)
    assert scaled["feature"] == pytest.approx(norms["task"], rel=1e-4)
    assert "task" not in weights.scales


def test_adaptive_without_a_task_follows_the_first_method():
    weights = make("adaptive", alpha=1.0)(0.0, {"output": 2.0, "feature": 8.0})
    assert weights == Weights(1.0, {"output": 1.0, "feature": 0.25})


def test_adaptive_is_bounded_and_ignores_what_has_no_gradient():
    scales = make("adaptive")(0.0, {"task": 1.0, "tiny": 1e-30, "huge": 1e30, "none": 0.0}).scales
    assert scales == {"tiny": LARGEST_SCALE, "huge": 1 / LARGEST_SCALE, "none": 1.0}
    assert make("adaptive")(0.0, {"task": 0.0, "output": 2.0, "feature": 4.0}).scales == {"output": 1.0, "feature": 0.5}


def test_gradient_norms_are_analytic():
    a = torch.tensor([3.0, 4.0], requires_grad=True)
    b = torch.ones(2, requires_grad=True, dtype=torch.bfloat16)
    unused = torch.ones(2, requires_grad=True)
    terms = {"task": a.square(), "both": 2 * a + b.float(), "constant": torch.ones(2), "elsewhere": 3 * unused}
    norms = gradient_norms(terms, [a, b, torch.zeros(2)])
    assert norms["task"] == pytest.approx(5.0)
    assert norms["both"] == pytest.approx(math.sqrt(1 + 1 + 0.25 + 0.25))
    assert norms["constant"] == norms["elsewhere"] == 0.0
    sum(term.mean() for term in terms.values()).backward()
    assert a.grad is not None


def test_statistics_average_and_round_trip():
    statistics = Statistics(decay=0.75)
    statistics.update({"task": 4.0, "output": 1.0}, 0)
    statistics.update({"task": 8.0, "output": math.nan, "late": 2.0}, 4)
    assert statistics.norms == {"task": 5.0, "output": 1.0, "late": 2.0}
    again = Statistics(decay=0.75)
    again.load_state_dict(json.loads(json.dumps(statistics.state_dict())))
    for one in (statistics, again):
        one.update({"task": 1 / 3}, 8)
    assert again.norms == statistics.norms
    assert list(again.norms) == list(statistics.norms)
    for one in (statistics, again):
        assert [one.due(["task"], 9, 2), one.due(["task"], 10, 2)] == [False, True]
        assert one.due(["task", "late"], 9, 5)
        assert one.due(["unknown"], 9, 100)


def test_bounds_of_alpha_are_found_by_trying():
    known = {"fixed": (1.0, 1.0), "linear": (0.0, 1.0), "cosine": (0.0, 1.0), "adaptive": (0.5, 0.5)}
    made = {"fixed": make("fixed", alpha=1), **{name: make(name) for name in ("linear", "cosine", "adaptive")}}
    assert {name: ratio.bounds() for name, ratio in made.items()} == known
