"""The teacher made cheap: few bits where they are exact enough."""

import pytest
import torch
from torch import Tensor, nn

from kdgen.data.augment import dihedral
from kdgen.model import build_net
from kdgen.quantised import int8_pays
from kdgen.registry import Use, build
from kdgen.tasks import Denoise
from kdgen.teacher import TOLERANCE, Teacher
from kdgen.types import Answer, Batch

CPU = torch.device("cpu")
in_int8 = pytest.mark.skipif(not int8_pays(CPU), reason="8-bit integers are not faster on this machine")


def sample(size: int = 4, seed: int = 0) -> Batch:
    task: Denoise = build("task", Use(name="denoise", args={"sigma": 25, "patch": 16}))
    return next(task.batches(batch_size=size, seed=seed))


def denoiser(**args: object) -> nn.Module:
    torch.manual_seed(0)
    return build_net(Use(name="dncnn", args={"depth": 7, "width": 16, "norm": True, **args}), 1)[0]  # type: ignore[dict-item]


def error(a: Answer, b: Answer) -> float:
    return (a.output - b.output).square().mean().sqrt().item()


def test_bfloat16_answers_are_close_and_bad_ones_refused() -> None:
    net, batch = denoiser(depth=5), sample()
    fast, exact = Teacher(net, batch, device=CPU, bfloat16=True), Teacher(net, batch, device=CPU)
    assert (fast.precision, exact.precision) == ("bfloat16", "float32")
    assert 0 < error(fast.answer(batch), exact.answer(batch)) < TOLERANCE["bfloat16"]
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(6.0)
    assert Teacher(net, batch, device=CPU, bfloat16=True).precision == "float32"


@in_int8
def test_answers_in_int8_are_close_and_bad_ones_refused() -> None:
    net, batch = denoiser(), sample(seed=1)
    whole = Teacher(net, sample(2), device=CPU, calibration=lambda: sample(16))
    exact = Teacher(net, sample(2), device=CPU)
    assert whole.precision == "int8"
    assert 0 < error(whole.answer(batch), exact.answer(batch)) < TOLERANCE["int8"]
    assert torch.equal(whole(batch.x), exact(batch.x))  # as a net it is what it was, and can be differentiated
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(4.5)
    assert Teacher(net, sample(2), device=CPU, calibration=lambda: sample(16)).precision == "float32"


@in_int8
def test_taps_are_in_floats_whatever_the_answer_is_computed_in() -> None:
    net, batch = denoiser(), sample(seed=1)
    whole = Teacher(net, sample(2), device=CPU, calibration=lambda: sample(16))
    exact = Teacher(net, sample(2), device=CPU)
    relus = [name for name, layer in net.named_children() if isinstance(layer, nn.ReLU)]
    seen, wanted = whole.answer(batch, relus).taps, exact.answer(batch, relus).taps
    assert list(seen) == list(wanted) == relus
    for path in relus[1:]:
        assert 0 < (seen[path] - wanted[path]).square().mean() < 1e-3 * wanted[path].square().mean()
    norms = [name for name, layer in net.named_children() if isinstance(layer, nn.BatchNorm2d)]
    hidden = whole.answer(batch, norms)  # computed with the ReLU in int8, so the answer is not asked for in int8
    torch.testing.assert_close(hidden.taps, exact.answer(batch, norms).taps)


def test_a_net_without_chains_is_not_calibrated() -> None:
    def never() -> Batch:
        raise AssertionError

    net = build_net(Use(name="unet", args={"widths": [4, 6], "blocks": 1}), 1)[0]
    assert Teacher(net, sample(2), device=CPU, calibration=never).precision == "float32"


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
    assert torch.equal(answer.taps["twice"], 2 * x)
    assert torch.equal(dihedral(answer.output, 5), -dihedral(x, 5))
