"""Methods for few steps: their losses and targets against values worked out on their own."""

from itertools import pairwise

import pytest
import torch
from few_steps_nets import PIXEL, SCORES, batches, look, noise, student, use
from torch import nn

from kdgen.diffusion import GaussianMixture
from kdgen.diffusion.few_steps import trailing_sigmas
from kdgen.methods.few_step.consistency import UNSEEN, Consistency
from kdgen.methods.few_step.distribution_matching import DistributionMatching
from kdgen.methods.few_step.mean_flow import MeanFlow
from kdgen.methods.few_step.progressive import Progressive
from kdgen.methods.few_step.rollout import backward_simulation, remembered
from kdgen.methods.few_step.score_identity import ScoreIdentity
from kdgen.registry import build
from kdgen.types import Batch

pytestmark = pytest.mark.usefixtures("one_thread")


def test_the_schedule_of_consistency_tuning():
    method = Consistency(q=2, k=8, b=1, stages=4)
    t = torch.tensor([0.01, 1.0, 5.0, 80.0])
    expected = t * (1 - 2.0**-3 * (1 + 8 * torch.sigmoid(-t)))
    torch.testing.assert_close(method.earlier(t, 0.6), expected.clamp(0, 40))
    assert method.earlier(t, 0.0)[:2].tolist() == [0, 0]
    late = Consistency(q=2, k=8, b=1, stages=4, start=0.5)
    for progress, same in ((0.3, 0.0), (0.5, 0.0), (0.8, 0.6), (1.0, 1.0)):
        assert torch.equal(late.earlier(t, progress), method.earlier(t, same))
    assert (method.earlier(t, 1.0) >= method.earlier(t, 0.0)).all()
    assert (method.earlier(t, 1.0) < t).all()


def test_the_weight_of_karras_does_not_vanish_at_the_highest_levels():
    inputs = look(student(), PIXEL, batches(PIXEL)(0), progress=0.5)
    t = inputs.batch.cond["sigma"]
    plain = Consistency(power=0)
    norm = plain.loss(inputs)
    weighted = Consistency(weight="edm", sigma_data=0.5).loss(inputs)
    torch.testing.assert_close(weighted, norm * (t**2 + 0.25) / (0.5 * t) ** 2)
    torch.testing.assert_close(Consistency(power=1).loss(inputs), norm / (t - plain.earlier(t, 0.5)))


def test_one_answer_to_everything_is_no_consistency_however_late():
    """A net that says the image by itself could: what it is shown almost without noise holds it to the image."""

    class Constant(nn.Module):
        def forward(self, x, *, sigma, **cond):
            return torch.zeros_like(x).requires_grad_()

    net, batch = Constant(), batches(PIXEL, first=0)(0)
    sigma = torch.full_like(batch.cond["sigma"], 0.02)
    noise = torch.randn(batch.y.shape, generator=torch.Generator().manual_seed(0))
    batch = Batch(x=batch.y + 0.02 * noise, y=batch.y, cond={**batch.cond, "sigma": sigma})
    method = Consistency()
    method.attach(net, PIXEL, batch)
    assert (method.earlier(sigma, 0.99) > 0).all()
    assert method.loss(look(net, PIXEL, batch, progress=0.99)).mean() > 0.01


@pytest.mark.parametrize("source", ["truth", "teacher"])
def test_consistency_shares_noise_and_dropout(source):
    """A net of dropout alone says the same at ``x_t`` and ``x_r`` only if the same is dropped."""

    class Dropping(nn.Module):
        def __init__(self):
            super().__init__()
            self.drop, self.scale, self.calls = nn.Dropout(0.5), nn.Parameter(torch.ones(())), []

        def forward(self, x, *, sigma, **cond):
            kept = self.drop(torch.ones_like(x))
            self.calls.append((x.detach(), sigma, kept))
            return self.scale * kept

    net, batch = Dropping(), batches(PIXEL, first=0)(0)
    method = Consistency(source=source)
    method.attach(net, PIXEL, batch)
    inputs = look(net, PIXEL, batch, progress=0.9)
    net.calls.clear()
    loss = method.loss(inputs)
    (x, t, kept), (nearer, r, again) = net.calls
    assert torch.equal(kept, again)
    inside = method.earlier(t, 0.9) > UNSEEN
    assert inside.any()
    assert (loss[inside] < 2e-6 / (t - r)[inside]).all()
    if source == "truth":
        of_x, of_nearer = ((v - batch.y).flatten() / s for v, s in ((x, t), (nearer, r)))
        torch.testing.assert_close(of_x[inside], of_nearer[inside], rtol=1e-3, atol=1e-3)
    loss.mean().backward()
    assert net.scale.grad is not None


def test_without_dropout_the_students_own_answer_counts_and_randomness_goes_on():
    net, batch = student(), batches(PIXEL)(0)
    inputs = look(net, PIXEL, batch)
    method, state = Consistency(), torch.get_rng_state()
    method.loss(inputs).mean().backward()
    assert net.layers[0].weight.grad.abs().sum() > 0
    assert torch.equal(state, torch.get_rng_state())
    back = remembered(torch.device("cpu"))
    first = torch.randn(3)
    back()
    assert torch.equal(first, torch.randn(3))


def test_the_target_of_progressive_is_two_steps_of_ddim():
    """In the form of Salimans & Ho 2022, algorithm 2: z = alpha x, with alpha^2 + s^2 = 1."""
    method, mixture = Progressive(4), PIXEL
    step = torch.tensor([0, 1, 2, 3])
    levels = [method.halves[2 * step + i] for i in range(3)]
    x = levels[0].view(-1, 1, 1, 1) * noise(4, 1, 1, 1)
    alpha = [(1 + level**2).rsqrt().view(-1, 1, 1, 1) for level in levels]
    spread = [level.view(-1, 1, 1, 1) * a for level, a in zip(levels, alpha, strict=True)]
    z = alpha[0] * x
    for i in (0, 1):
        said = mixture(z / alpha[i], sigma=levels[i])
        z = alpha[i + 1] * said + spread[i + 1] / spread[i] * (z - alpha[i] * said)
    ratio = spread[2] / spread[0]
    expected = (z - ratio * alpha[0] * x) / (alpha[2] - ratio * alpha[0])
    got = method.target(mixture, x, step, {})
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(got[3:], z[3:], rtol=1e-4, atol=1e-5)


def test_a_student_that_says_the_target_has_no_loss():
    """One Gaussian: its two steps from the last level but one are linear, so a linear student is exact."""
    alone = GaussianMixture(torch.zeros(1, 1, 1, 1), std=0.5)
    method = Progressive(1)
    batch = batches(alone)(0)

    class Exact(nn.Module):
        def forward(self, x, *, sigma, **cond):
            return method.target(alone, x, torch.zeros(len(x), dtype=torch.long), {})

    torch.testing.assert_close(method.loss(look(Exact(), alone, batch)), torch.zeros(len(batch.x)), atol=1e-10, rtol=0)


def test_distribution_matching_follows_the_difference_of_the_scores():
    """Teacher and critic are single Gaussians, whose answers are worked out by hand."""
    method = DistributionMatching(critic="student")
    teacher, method.fake = (GaussianMixture(torch.full((1, 1, 1, 2), mean), std=0.5) for mean in (0.5, -0.25))
    x = torch.tensor([[[[0.3, -0.1]]], [[[1.0, 0.2]]]], requires_grad=True)
    sigma, fresh = torch.tensor([0.5, 2.0]), noise(2, 1, 1, 2)
    method.of_student(teacher, x, sigma, fresh, {}).sum().backward()
    share = (0.25 / (0.25 + sigma**2)).view(-1, 1, 1, 1)
    seen = x.detach() + sigma.view(-1, 1, 1, 1) * fresh
    real, fake = 0.5 + share * (seen - 0.5), -0.25 + share * (seen + 0.25)
    torch.testing.assert_close(fake - real, -0.75 * (1 - share).expand_as(seen))
    scale = (x.detach() - real).abs().mean((1, 2, 3), keepdim=True)
    least = 0.25 * sigma * 0.5 / (sigma**2 + 0.25).sqrt()
    assert (scale.flatten() > least).all()
    torch.testing.assert_close(x.grad, (fake - real) / scale / 2)


def test_score_identity_is_zero_where_teacher_and_critic_agree_and_flows_through_both():
    method = ScoreIdentity(critic="student", alpha=1.2)
    teacher, method.fake = (GaussianMixture(torch.full((1, 1, 1, 1), mean), std=0.5) for mean in (0.5, 0.5))
    x = torch.tensor([0.3, -0.2]).view(2, 1, 1, 1).requires_grad_()
    sigma, fresh = torch.tensor([0.5, 2.0]), noise(2, 1, 1, 1)
    assert method.of_student(teacher, x, sigma, fresh, {}).abs().max() == 0
    method.fake = GaussianMixture(torch.full((1, 1, 1, 1), -0.25), std=[0.4])
    method.of_student(teacher, x, sigma, fresh, {}).sum().backward()
    real_slope, fake_slope = 0.25 / (0.25 + sigma**2), 0.16 / (0.16 + sigma**2)
    seen = x.detach().flatten() + sigma * fresh.flatten()
    real, fake = 0.5 + real_slope * (seen - 0.5), -0.25 + fake_slope * (seen + 0.25)
    gap, slope, home = real - fake, real_slope - fake_slope, real - x.detach().flatten()
    scale = torch.maximum(home.abs(), 0.25 * sigma * 0.5 / (sigma**2 + 0.25).sqrt())
    by_hand = (slope * (home - 1.2 * gap) + gap * (real_slope - 1 - 1.2 * slope)) / scale
    torch.testing.assert_close(x.grad.flatten(), by_hand)


@pytest.mark.parametrize("name", SCORES)
def test_the_critic_learns_alone_and_the_student_in_its_turn(name):
    method, net, batch = build("method", use(name, every=2, steps=2)), student(), batches(PIXEL)(0)
    method.attach(net, PIXEL, batch)
    own = list(net.parameters())
    for number in range(3):
        inputs = look(net, PIXEL, batch)
        loss = method.loss(inputs)
        assert (loss is None) == (number == 1)
        if loss is not None:
            loss.mean().backward()
            assert sum(float(p.grad.abs().sum()) for p in own) > 0
        assert all(p.grad is None for p in method.fake.parameters())
        net.zero_grad()
        method.discriminator_loss(inputs).mean().backward()
        assert all(p.grad is None or not p.grad.any() for p in own)
        assert sum(float(p.grad.abs().sum()) for p in method.fake.parameters()) > 0
        method.fake.zero_grad(set_to_none=True)
    fakes = {id(p) for p in method.fake.parameters()}
    assert {id(p) for p in method.critics()} == fakes


def test_an_adversarial_head_adds_its_critic():
    method = DistributionMatching(critic="student", adversarial=0.1, width=4)
    net, batch = student(), batches(PIXEL)(0)
    method.attach(net, PIXEL, batch)
    assert len(list(method.critics())) > len(list(method.fake.parameters()))
    inputs = look(net, PIXEL, batch)
    assert torch.isfinite(method.loss(inputs)).all()
    assert method.discriminator_loss(inputs).shape == (len(batch.x),)


@pytest.mark.parametrize(("sampler", "calls"), [("euler", {3}), ("consistency", {1, 2, 3})])
def test_drawn_images_are_those_of_the_sampler(sampler, calls):
    net = student()
    like, sigmas, made = torch.zeros(6, 1, 1, 1), trailing_sigmas(3), set()
    for seed in range(8):
        torch.manual_seed(seed)
        x, number = backward_simulation(net, like, {}, sigmas, sampler)
        made.add(number)
        torch.manual_seed(seed)
        if sampler == "consistency":
            torch.randint(3, ())
        y = torch.randn(like.shape) * sigmas[0].float()
        for sigma, following in pairwise(sigmas[:number]):
            said = net(y, sigma=sigma.float().expand(6))
            y = said + following / sigma * (y - said) if sampler == "euler" else said + following * torch.randn_like(y)
        expected = net(y.float(), sigma=sigmas[number - 1].float().expand(6))
        torch.testing.assert_close(x, expected, rtol=1e-4, atol=1e-4)
    assert made == calls


def test_derivatives_of_mean_flow_agree():
    net, batch = student().double(), batches(PIXEL, first=0)(0)
    batch = Batch(x=batch.x[:64], y=batch.y[:64], cond={"sigma": batch.cond["sigma"][:64].clamp(0.1, 5)})
    losses = []
    for args in ({"derivative": "forward"}, {"derivative": "difference", "step": 1e-3}):
        method = MeanFlow(power=0, warmup=0, **args)
        net.float()
        losses.append(method.loss(look(net, PIXEL, batch)))
    torch.testing.assert_close(*losses, rtol=0.05, atol=0.02)


def test_the_exact_average_velocity_has_no_loss():
    """One Gaussian: the end of the ODE is ``mean + std / sqrt(std^2 + sigma^2) (x - mean)``."""
    alone = GaussianMixture(torch.full((1, 1, 1, 1), 0.2), std=0.5)

    class End(nn.Module):
        def forward(self, x, *, sigma, **cond):
            return 0.2 + 0.5 * (0.25 + sigma.view(-1, 1, 1, 1) ** 2).rsqrt() * (x - 0.2)

    batch = batches(alone, first=0)(0)
    loss = MeanFlow(derivative="forward", power=0, warmup=0).loss(look(End(), alone, batch))
    assert float(loss.max()) < 1e-5


def test_a_net_that_is_rough_in_its_level_has_a_target_at_the_highest():
    """The exact student but for ripples of 0.003, at levels up to the cosine table's 20,291."""
    alone = GaussianMixture(torch.full((1, 1, 1, 1), 0.2), std=0.5)

    class Rough(nn.Module):
        def forward(self, x, *, sigma, **cond):
            level = sigma.view(-1, 1, 1, 1)
            return 0.2 + 0.5 * (0.25 + level**2).rsqrt() * (x - 0.2) + 0.003 * torch.cos(20 * level.log())

    sigma = torch.tensor([1.0, 10.0, 157.0, 2000.0, float(trailing_sigmas(1, "cosine")[0])]).repeat_interleave(50)
    y, noise = 0.2 + 0.5 * torch.randn(250, 1, 1, 1), torch.randn(250, 1, 1, 1)
    batch = Batch(x=y + sigma.view(-1, 1, 1, 1) * noise, y=y, cond={"sigma": sigma})
    loss = MeanFlow(step=0.1, power=0, warmup=0).loss(look(Rough(), alone, batch))
    assert float(loss.view(5, 50).mean(1).max()) < 0.02


# -- the contract ----------------------------------------------------------------------------------------------------
