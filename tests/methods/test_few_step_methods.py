"""Methods for few steps on data whose diffusion is known exactly: the answers that their students must reach."""

from copy import deepcopy
from itertools import pairwise

import pytest
import torch
from few_steps_nets import PIXEL, SQUARES, Student, batches, coupled, look, teach
from torch import nn

from kdgen.diffusion import GaussianMixture, sample
from kdgen.diffusion.few_steps import few_sigmas, sample_few
from kdgen.methods import (
    Consistency,
    DistributionMatching,
    DrawnAdversarial,
    MeanFlow,
    Progressive,
    RectifiedFlow,
    ScoreIdentity,
)
from kdgen.methods.rollout import drawn, remembered
from kdgen.registry import Use, build, summary
from kdgen.types import Batch, UserError

NAMES = ["consistency", "distribution_matching", "drawn_adversarial", "mean_flow", "progressive", "rectified_flow",
         "score_identity"]  # fmt: skip
SCORES = ["distribution_matching", "score_identity"]
COUNT = 4000


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def use(name, **args):
    return Use(name=name, args={"critic": "student", **args} if name in SCORES else args)


def noise(*shape, seed=99):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def draw(net, steps=1, sampler="consistency"):
    """Noise at the highest level and what a net makes of it."""
    sigmas = few_sigmas(steps)
    start = noise(COUNT, *(PIXEL.means if net.pixels == 1 else SQUARES.means).shape[1:])
    torch.manual_seed(5)
    return start * sigmas[0].float(), sample_few(net, start, sigmas=sigmas, sampler=sampler)


def check_map(net, steps=1, sampler="consistency", *, off, strayed):
    """Each pixel at its place in the distribution, on average within ``off``; no share of pixels wrong by more."""
    x, y = draw(net, steps, sampler)
    place, kept = PIXEL.cdf(x, float(few_sigmas(1)[0])), PIXEL.cdf(y, 0.0)
    assert float((place - kept).abs().mean()) < off
    check_distribution(y, strayed)


def check_distribution(y, strayed):
    """The largest difference of the distribution functions of pixels ``y`` and of the data (Kolmogorov-Smirnov)."""
    ranks = PIXEL.cdf(y, 0.0).flatten().sort().values
    assert float((ranks - torch.linspace(0, 1, len(ranks))).abs().max()) < strayed


def student(**args):
    torch.manual_seed(0)
    return Student(**args)


# -- the known answers -----------------------------------------------------------------------------------------------


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
        theirs = sample(teacher, x / few_sigmas(1)[0].float(), sigmas=few_sigmas(2 * steps), method="euler")
        assert float((mine - theirs).abs().detach().mean()) < 0.03
        teacher = learnt
    exact = sample(PIXEL, x / few_sigmas(1)[0].float(), sigmas=few_sigmas(32), method="euler")
    assert float((mine - exact).abs().detach().mean()) < 0.06


@pytest.mark.parametrize("pixels", [1, 4])
def test_distribution_matching_reaches_shares_means_and_variances(pixels):
    teacher = PIXEL if pixels == 1 else SQUARES
    method = DistributionMatching(critic="student")
    net = teach(method, student(pixels=pixels), teacher, batches(teacher), steps=350, lr=4e-3, critic_lr=8e-3)
    check_mixture(net, teacher)


def test_score_identity_reaches_shares_means_and_variances():
    net = teach(ScoreIdentity(critic="student"), student(), PIXEL, batches(PIXEL), steps=350, lr=2e-3, critic_lr=6e-3)
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
    net = teach(method, student(), PIXEL, batches(PIXEL), steps=150, lr=2e-3, critic_lr=3e-3, betas=(0.0, 0.99))
    data = PIXEL.draw(COUNT, torch.Generator().manual_seed(0))[0].flatten().sort().values

    def apart(y):
        return float((y.flatten().sort().values - data).abs().mean())

    assert apart(draw(net)[1]) < min(0.2, apart(before) / 3)


# -- the parts -------------------------------------------------------------------------------------------------------


def test_the_schedule_of_consistency_tuning():
    method = Consistency(q=2, k=8, b=1, stages=4)
    t = torch.tensor([0.01, 1.0, 5.0, 80.0])
    expected = t * (1 - 2.0**-3 * (1 + 8 * torch.sigmoid(-t)))
    torch.testing.assert_close(method.earlier(t, 0.6), expected.clamp_min(0))
    assert method.earlier(t, 0.0)[:2].tolist() == [0, 0]
    assert (method.earlier(t, 1.0) >= method.earlier(t, 0.0)).all()
    assert (method.earlier(t, 1.0) < t).all()


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
    view = look(net, PIXEL, batch, progress=0.9)
    net.calls.clear()
    loss = method.loss(view)
    (x, t, kept), (nearer, r, again) = net.calls
    assert torch.equal(kept, again)
    inside = method.earlier(t, 0.9) > 0
    assert inside.any()
    assert (loss[inside] < 2e-6 / (t - r)[inside]).all()
    if source == "truth":
        of_x, of_nearer = ((v - batch.y).flatten() / s for v, s in ((x, t), (nearer, r)))
        torch.testing.assert_close(of_x[inside], of_nearer[inside], rtol=1e-3, atol=1e-3)
    loss.mean().backward()
    assert net.scale.grad is not None


def test_without_dropout_the_students_own_answer_counts_and_randomness_goes_on():
    net, batch = student(), batches(PIXEL)(0)
    view = look(net, PIXEL, batch)
    method, state = Consistency(), torch.get_rng_state()
    method.loss(view).mean().backward()
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
        view = look(net, PIXEL, batch)
        method.loss(view).mean().backward()
        moved = sum(float(p.grad.abs().sum()) for p in own)
        assert (moved > 0) == (number != 1)
        assert all(p.grad is None for p in method.fake.parameters())
        net.zero_grad()
        method.critic_loss(view).mean().backward()
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
    view = look(net, PIXEL, batch)
    assert torch.isfinite(method.loss(view)).all()
    assert method.critic_loss(view).shape == (len(batch.x),)


def test_drawn_images_are_those_of_the_sampler():
    net = student()
    like, sigmas, made = torch.zeros(6, 1, 1, 1), few_sigmas(3), set()
    for seed in range(8):
        torch.manual_seed(seed)
        x, calls = drawn(net, like, {}, sigmas, "euler")
        made.add(calls)
        torch.manual_seed(seed)
        torch.randint(3, ())
        y = torch.randn(like.shape) * sigmas[0].float()
        for sigma, following in pairwise(sigmas[:calls]):
            said = net(y, sigma=sigma.float().expand(6))
            y = said + following / sigma * (y - said)
        torch.testing.assert_close(x, net(y.float(), sigma=sigmas[calls - 1].float().expand(6)), rtol=1e-4, atol=1e-4)
    assert made == {1, 2, 3}


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


# -- the contract ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_loss_is_per_image_float32_finite_teaches_and_repeats(name):
    method, net, batch = build("method", use(name)), student(), batches(PIXEL)(0)
    assert summary("method", name).endswith(".")
    before, state = deepcopy(net.state_dict()), torch.get_rng_state()
    method.attach(net, PIXEL, batch)
    if not list(method.parameters()):
        assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    values = []
    for _ in range(2):
        torch.manual_seed(3)
        view = look(net, PIXEL, batch, progress=0.5)
        method.load_state_dict(method.state_dict())
        values.append(method.loss(view))
    assert values[0].shape == (len(batch.x),)
    assert values[0].dtype == torch.float32
    assert torch.isfinite(values[0]).all()
    if name != "drawn_adversarial":
        assert torch.equal(*values)
    values[1].mean().backward()
    assert sum(p.grad.norm() for p in net.parameters() if p.grad is not None) > 0


@pytest.mark.parametrize("name", NAMES)
def test_batches_of_no_diffusion_are_refused(name):
    x = torch.zeros(2, 1, 1, 1)
    with pytest.raises(UserError, match="use it with the task few_steps"):
        build("method", use(name)).attach(student(), PIXEL, Batch(x=x, y=x))


@pytest.mark.parametrize("name", sorted(set(NAMES) - set(SCORES)))
def test_batches_without_clean_images_are_refused(name):
    batch = Batch(x=torch.zeros(2, 1, 1, 1), cond={"sigma": torch.ones(2)})
    with pytest.raises(UserError, match="needs clean images"):
        build("method", use(name)).attach(student(), PIXEL, batch)


@pytest.mark.parametrize("name", SCORES)
def test_scores_need_no_images_but_a_critic_that_can_learn(name):
    batch = Batch(x=torch.zeros(2, 1, 1, 1), cond={"sigma": torch.ones(2)})
    net, method = student(), build("method", use(name))
    method.attach(net, PIXEL, batch)
    assert torch.isfinite(method.loss(look(net, PIXEL, batch))).all()
    with pytest.raises(UserError, match='set critic "student"'):
        build("method", Use(name=name)).attach(net, PIXEL, batch)


@pytest.mark.parametrize("name", ["consistency", "mean_flow", "progressive", *SCORES])
def test_a_guided_teacher_is_another(name):
    class Told(Student):
        def forward(self, x, *, sigma, label=None, **cond):
            return super().forward(x, sigma=sigma)

    torch.manual_seed(0)
    net, plain = Told(), batches(PIXEL)(0)
    cond = {**plain.cond, "label": torch.randint(2, (len(plain.x),))}
    batch = Batch(x=plain.x, y=plain.y, cond=cond)
    own = {"source": "teacher"} if name == "consistency" else {"warmup": 0} if name == "mean_flow" else {}
    losses = []
    for guidance in (1.0, 3.0):
        torch.manual_seed(1)
        method = build("method", use(name, guidance=guidance, null_label=2, **own))
        method.attach(net, PIXEL, batch)
        torch.manual_seed(2)
        losses.append(method.loss(look(net, PIXEL, batch, progress=0.5)))
    assert torch.isfinite(torch.stack(losses)).all()
    assert not torch.allclose(*losses)
    with pytest.raises(UserError, match="guidance needs null_label"):
        build("method", use(name, guidance=2.0))


@pytest.mark.parametrize(
    ("name", "args", "message"),
    [
        ("consistency", {"source": "data"}, "source is one of truth, teacher"),
        ("consistency", {"q": 1}, "q is a number of at least"),
        ("consistency", {"power": 2}, r"power is a number in \[0, 1\]"),
        ("progressive", {"steps": 0}, "steps is a whole number of at least 1"),
        ("progressive", {"steps": 2, "table": "square"}, "one of linear, cosine"),
        ("rectified_flow", {"loss": "l3"}, "loss is one of l1, l2"),
        ("mean_flow", {"derivative": "backward"}, "derivative is one of forward, difference"),
        ("distribution_matching", {"every": 0}, "every is a whole number of at least 1"),
        ("score_identity", {"alpha": 3}, r"alpha is a number in \[0, 2\]"),
        ("score_identity", {"critic": "both"}, "critic is one of teacher, student"),
        ("drawn_adversarial", {"loss": "wasserstein"}, "loss is one of hinge, relativistic"),
    ],
)
def test_unfit_arguments_are_refused_in_one_line(name, args, message):
    with pytest.raises(UserError, match=message) as error:
        build("method", Use(name=name, args=args))
    assert "\n" not in str(error.value)
