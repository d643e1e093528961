"""The teacher made cheap: few bits where they are exact enough."""

import pytest
import torch
from torch import Tensor, nn

from kdgen.data.augment import dihedral
from kdgen.models.model import build_net
from kdgen.registry import Spec, build
from kdgen.tasks import Denoise
from kdgen.training.teacher import BOUND, Teacher
from kdgen.training.tolerance import Bound
from kdgen.types import Batch, TeacherOutput
from kdgen.utils.conditions import call

CPU = torch.device("cpu")


def sample(size: int = 4, seed: int = 0) -> Batch:
    task: Denoise = build("task", Spec(name="denoise", args={"sigma": 25, "patch": 16}))
    return next(task.batches(batch_size=size, seed=seed))


def denoiser(**args: object) -> nn.Module:
    torch.manual_seed(0)
    return build_net(Spec(name="dncnn", args={"depth": 7, "width": 16, "norm": True, **args}), 1)[0]  # type: ignore[dict-item]


def error(a: TeacherOutput, b: TeacherOutput) -> float:
    return (a.output - b.output).square().mean().item()


def own_error(net: nn.Module, batch: Batch) -> float:
    assert batch.y is not None
    with torch.no_grad():
        return (call(net, batch.x, batch.cond) - batch.y).square().mean().item()


class Far(nn.Module):
    """Says ``scale * x`` by way of a number far from it, which 8 bits of mantissa hold badly."""

    def __init__(self, scale: float, away: float) -> None:
        super().__init__()
        self.conv, self.scale, self.away = nn.Conv2d(1, 1, 1), scale, away
        nn.init.ones_(self.conv.weight)
        nn.init.constant_(self.conv.bias, away)  # type: ignore[arg-type]

    def forward(self, x: Tensor, **cond: Tensor) -> Tensor:
        return self.scale * (self.conv(x).float() - self.away)


def test_bfloat16_answers_are_close() -> None:
    net, batch = denoiser(depth=5), sample()
    fast, exact = Teacher(net, batch, device=CPU, bfloat16=True), Teacher(net, batch, device=CPU)
    assert (fast.precision, exact.precision) == ("bfloat16", "float32")
    assert 0 < error(fast.answer(batch), exact.answer(batch)) < BOUND.own * own_error(net, batch)


@pytest.mark.parametrize("scale", [0.001, 1.0, 30.0])
@pytest.mark.parametrize(("away", "precision"), [(0.0, "bfloat16"), (30.0, "float32")])
def test_without_truth_an_error_counts_by_the_spread_of_the_output(scale: float, away: float, precision: str) -> None:
    torch.manual_seed(0)
    made = Teacher(Far(scale, away), Batch(x=torch.randn(4, 1, 16, 16)), device=CPU, bfloat16=True)
    assert made.precision == precision
    assert (
        f"in {precision}: against float32, bfloat16 {'is' if precision == 'bfloat16' else 'would be'}" in made.account()
    )
    assert "of the variance of its output" in made.account()


@pytest.mark.parametrize(("off", "precision"), [(0.0005, "float32"), (0.1, "bfloat16")])
def test_where_the_truth_is_known_an_error_counts_by_the_teachers_own(off: float, precision: str) -> None:
    torch.manual_seed(0)
    x = torch.randn(4, 1, 16, 16)
    made = Teacher(Far(1.0, 0.0), Batch(x=x, y=x + off), device=CPU, bfloat16=True)
    assert made.precision == precision
    assert "of its own squared error, where 2 % is the most" in made.account()


def test_errors_count_by_the_weights_of_their_examples() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 1, 16, 16)
    y = torch.stack([x[0] + 0.0005, x[1] + 0.5])
    for weight, precision in ((None, "bfloat16"), (torch.tensor([1.0, 0.0]), "float32")):
        assert Teacher(Far(1, 0), Batch(x=x, y=y, weight=weight), device=CPU, bfloat16=True).precision == precision


def test_the_teacher_holds_the_weights_of_its_net_and_nothing_twice() -> None:
    for name, args in (("dncnn", {"depth": 4, "width": 8}), ("unet", {"widths": [4, 6], "blocks": 1})):
        net, _ = build_net(Spec(name=name, args=args), 1)  # type: ignore[arg-type]
        before = {key: value.clone() for key, value in net.state_dict().items()}
        made = Teacher(net, sample(2), device=CPU, bfloat16=True)
        assert {p.data_ptr() for p in made.parameters()} == {p.data_ptr() for p in net.parameters()}
        assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
        assert all(p.requires_grad for p in net.parameters())
        assert not any(p.requires_grad for p in made.parameters())


def in_int8(net: nn.Module, ranges: Batch, judged: Batch) -> Teacher:
    """A teacher that was tried in 8-bit integers, however slow they are on this machine."""
    made = Teacher(net, judged, device=CPU)
    assert made.try_int8(ranges, judged, faster=0.0) == (made.precision == "int8")
    return made


def test_int8_is_judged_on_other_inputs_than_its_ranges_come_from() -> None:
    net, dark = denoiser(), sample(16)
    dim = Batch(x=0.05 * dark.x, y=None, cond=dark.cond)
    assert in_int8(net, dim, dim).precision == "int8"
    assert in_int8(net, dim, sample(4, seed=3)).precision == "float32"


def test_answers_in_int8_are_close_and_bad_ones_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    net, batch = denoiser(), sample(seed=1)
    whole = in_int8(net, sample(16), sample(8, seed=2))
    exact = Teacher(net, sample(2), device=CPU)
    assert whole.precision == "int8"
    assert 0 < error(whole.answer(batch), exact.answer(batch)) < BOUND.own * own_error(net, batch)
    assert torch.equal(whole(batch.x), exact(batch.x))  # as a net it is what it was, and can be differentiated
    larger = Batch(x=torch.randn(3, 1, 20, 28))
    assert 0 < error(whole.answer(larger), exact.answer(larger)) < 1e-3
    monkeypatch.setattr("kdgen.training.teacher.BOUND", Bound(own=1e-9, spread=1e-9))
    refused = in_int8(net, sample(16), sample(8, seed=2))
    assert refused.precision == "float32"
    assert "int8 would be off by" in refused.account()


def test_int8_serves_a_net_of_any_layers_with_conditions() -> None:
    torch.manual_seed(0)
    net, batch = (
        build_net(Spec(name="unet", args={"channels": 1, "widths": [8, 12], "blocks": 1}), 1)[0],
        sample(seed=1),
    )
    whole, exact = in_int8(net, sample(16), sample(8, seed=2)), Teacher(net, sample(2), device=CPU)
    assert whole.precision == "int8"
    assert 0 < error(whole.answer(batch), exact.answer(batch)) < BOUND.own * own_error(net, batch)


def test_a_teacher_that_integers_do_not_make_faster_goes_on_in_floats() -> None:
    made = Teacher(denoiser(), sample(4), device=CPU)
    assert not made.try_int8(sample(8), sample(4), faster=1e9)
    assert (made.precision, made.account()) == ("float32", "")


def test_layers_are_in_floats_whatever_the_answer_is_computed_in() -> None:
    net, batch = denoiser(), sample(seed=1)
    whole, exact = in_int8(net, sample(16), sample(8, seed=2)), Teacher(net, sample(2), device=CPU)
    relus = [name for name, layer in net.named_children() if isinstance(layer, nn.ReLU)]
    torch.testing.assert_close(whole.answer(batch, relus).features, exact.answer(batch, relus).features)


def test_the_teacher_answers_without_gradient_and_with_its_taps() -> None:
    class Negative(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.twice = nn.Conv2d(1, 1, 1, bias=False)
            nn.init.constant_(self.twice.weight, 2.0)

        def forward(self, x: Tensor, **cond: Tensor) -> Tensor:
            out: Tensor = -self.twice(x) / 2
            return out

    x = torch.randn(2, 1, 8, 8)
    answer = Teacher(Negative(), Batch(x=x), device=CPU).answer(Batch(x=x), ["twice"])
    assert not answer.output.requires_grad
    assert torch.equal(answer.features["twice"], 2 * x)
    assert torch.equal(dihedral(answer.output, 5), -dihedral(x, 5))
