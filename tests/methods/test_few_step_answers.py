"""Methods for few steps on data whose diffusion is known exactly: the answers that their students must reach."""

from copy import deepcopy

import pytest
import torch
from few_steps_nets import PIXEL, SQUARES, batches, coupled, noise, student, teach

from kdgen.diffusion import sample
from kdgen.diffusion.few_steps import sample_few, trailing_sigmas
from kdgen.methods.adversarial.drawn_adversarial import DrawnAdversarial
from kdgen.methods.few_step.consistency import Consistency
from kdgen.methods.few_step.distribution_matching import DistributionMatching
from kdgen.methods.few_step.mean_flow import MeanFlow
from kdgen.methods.few_step.progressive import Progressive
from kdgen.methods.few_step.rectified_flow import RectifiedFlow
from kdgen.methods.few_step.score_identity import ScoreIdentity

pytestmark = pytest.mark.usefixtures("one_thread")
COUNT = 4000


@torch.no_grad()
def draw(net, steps=1, sampler="consistency"):
    """Noise at the highest level and what a net makes of it."""
    sigmas = trailing_sigmas(steps)
    start = noise(COUNT, *(PIXEL.means if net.pixels == 1 else SQUARES.means).shape[1:])
    torch.manual_seed(5)
    return start * sigmas[0].float(), sample_few(net, start, sigmas=sigmas, sampler=sampler)


def check_map(net, steps=1, sampler="consistency", *, off, strayed):
    """Each pixel at its place in the distribution, on average within ``off``; no share of pixels wrong by more."""
    x, y = draw(net, steps, sampler)
    place, kept = PIXEL.cdf(x, float(trailing_sigmas(1)[0])), PIXEL.cdf(y, 0.0)
    assert float((place - kept).abs().mean()) < off
    check_distribution(y, strayed)


def check_distribution(y, strayed):
    """The largest difference of the distribution functions of pixels ``y`` and of the data (Kolmogorov-Smirnov)."""
    ranks = PIXEL.cdf(y, 0.0).flatten().sort().values
    assert float((ranks - torch.linspace(0, 1, len(ranks))).abs().max()) < strayed


def test_consistency_distillation_reaches_the_end_of_the_ode():
    net = teach(Consistency(source="teacher"), student(), PIXEL, batches(PIXEL), steps=600)
    check_map(net, off=0.03, strayed=0.07)
    _, y = draw(net, steps=2)
    check_distribution(y, 0.07)


def test_easy_consistency_tuning_reaches_it_without_asking_the_teacher():
    net = teach(Consistency(c=1.0, power=0.5), student(), PIXEL, batches(PIXEL), steps=600)
    check_map(net, off=0.07, strayed=0.14)


def test_reflow_straightens_and_one_step_is_learnt_from_pairs():
    net = teach(RectifiedFlow(), student(), PIXEL, coupled(PIXEL), steps=400)
    for steps in (1, 2, 4):
        check_map(net, steps, "euler", off=0.03, strayed=0.06)
    net = teach(RectifiedFlow(one_step=True), student(), PIXEL, coupled(PIXEL), steps=300)
    check_map(net, off=0.025, strayed=0.05)


def test_mean_flow_reaches_the_end_of_the_ode():
    net = teach(MeanFlow(power=0.5), student(), PIXEL, batches(PIXEL), steps=500)
    check_map(net, off=0.035, strayed=0.08)


def test_mean_flow_with_a_second_time_draws_in_any_number_of_steps():
    method = MeanFlow(power=0.5, until=True, instant=0.25)
    net = teach(method, student(until=True), PIXEL, batches(PIXEL), steps=600)
    for steps in (1, 2, 4):
        check_map(net, steps, "average", off=0.06, strayed=0.15)


def test_progressive_halves_the_steps_of_the_ode():
    """Rung by rung, each student's images are those of twice the steps of the one before."""
    teacher, draws = PIXEL, batches(PIXEL)
    for steps in (16, 8, 4):
        method, net = Progressive(steps), student() if teacher is PIXEL else deepcopy(teacher).train()
        learnt = teach(method, net, teacher, draws, steps=300, lr=6e-3 if teacher is PIXEL else 2e-3)
        x, mine = draw(learnt, steps, "euler")
        theirs = sample(teacher, x / trailing_sigmas(1)[0].float(), sigmas=trailing_sigmas(2 * steps), method="euler")
        assert float((mine - theirs).abs().detach().mean()) < 0.03
        teacher = learnt
    exact = sample(PIXEL, x / trailing_sigmas(1)[0].float(), sigmas=trailing_sigmas(32), method="euler")
    assert float((mine - exact).abs().detach().mean()) < 0.06


@pytest.mark.parametrize("pixels", [1, 4])
def test_distribution_matching_reaches_shares_means_and_variances(pixels):
    teacher = PIXEL if pixels == 1 else SQUARES
    method = DistributionMatching(critic="student")
    net = teach(method, student(pixels=pixels), teacher, batches(teacher), steps=350, lr=4e-3, discriminator_lr=8e-3)
    check_mixture(net, teacher)


def test_score_identity_reaches_shares_means_and_variances():
    net = teach(
        ScoreIdentity(critic="student"), student(), PIXEL, batches(PIXEL), steps=350, lr=2e-3, discriminator_lr=6e-3
    )
    check_mixture(net, PIXEL)


def check_mixture(net, teacher):
    """Shares within 0.08; means within 0.12, deviations within 40 % of the components'."""
    _, y = draw(net)
    away = (y[:, None] - teacher.means).flatten(2).square().sum(2) / teacher.std**2 / 2
    nearest = (away + y[0].numel() * teacher.std.log() - teacher.weights.log()).argmin(1)
    data, _ = teacher.draw(20_000, torch.Generator().manual_seed(0))
    away = (data[:, None] - teacher.means).flatten(2).square().sum(2) / teacher.std**2 / 2
    of_data = (away + y[0].numel() * teacher.std.log() - teacher.weights.log()).argmin(1)
    for k in range(len(teacher.means)):
        own, real = y[nearest == k], data[of_data == k]
        assert len(own) / len(y) == pytest.approx(len(real) / len(data), abs=0.08)
        torch.testing.assert_close(own.mean(0), real.mean(0), rtol=0, atol=0.12)
        torch.testing.assert_close(own.std(0), real.std(0), rtol=0.4, atol=0.02)


def test_a_game_over_drawn_images_moves_them_to_the_data():
    before = draw(student())[1]
    method = DrawnAdversarial(width=8)
    net = teach(method, student(), PIXEL, batches(PIXEL), steps=150, lr=2e-3, discriminator_lr=3e-3, betas=(0.0, 0.99))
    data = PIXEL.draw(COUNT, torch.Generator().manual_seed(0))[0].flatten().sort().values

    def apart(y):
        return float((y.flatten().sort().values - data).abs().mean())

    assert apart(draw(net)[1]) < min(0.2, apart(before) / 3)


# -- the parts -------------------------------------------------------------------------------------------------------
