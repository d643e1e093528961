"""What a critic and its student play for."""

import math

import pytest
import torch
from torch import nn

from kdgen.data.diff_augment import augmented
from kdgen.models.discriminators import (
    Discriminator,
    GanLoss,
    ProjectedDiscriminator,
    known_labels,
    matched,
    squared_slope,
)
from kdgen.objectives.adversarial import Adversarial
from kdgen.types import Batch, LossInputs, UserError


class Linear(nn.Module):
    """``D(x) = w . x``, as a single judgement."""

    def __init__(self, weight: torch.Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, x):
        return [(x.flatten(1) @ self.weight)[:, None]]


@pytest.fixture
def constant():
    """Images of 2x2 whose judgement by a critic of ones is what is asked for."""
    return lambda *values: torch.tensor(values).view(-1, 1, 1, 1).expand(-1, 1, 2, 2) / 4


def test_hinge(constant):
    game = GanLoss(Linear(torch.ones(4)))
    fake, real = constant(0.5, -2.0), constant(0.25, 3.0)
    torch.testing.assert_close(game.student_loss(fake, real), torch.tensor([-0.5, 2.0]))
    torch.testing.assert_close(game.discriminator_loss(fake, real), torch.tensor([0.75 + 1.5, 0.0]))


def test_relativistic(constant):
    game = GanLoss(Linear(torch.ones(4)), loss="relativistic")
    fake, real = constant(0.5, -2.0), constant(0.25, 3.0)
    expected = torch.tensor([math.log1p(math.exp(-0.25)), math.log1p(math.exp(5.0))])
    torch.testing.assert_close(game.student_loss(fake, real), expected)
    expected = torch.tensor([math.log1p(math.exp(0.25)), math.log1p(math.exp(-5.0))])
    torch.testing.assert_close(game.discriminator_loss(fake, real), expected)


def test_penalty_of_a_linear_critic_is_its_squared_weight():
    torch.manual_seed(0)
    critic = Linear(torch.randn(4))
    images = torch.rand(3, 1, 2, 2, requires_grad=True)
    norm = critic.weight.square().sum()
    torch.testing.assert_close(squared_slope(critic(images), images), norm.expand(3))
    fake, real = torch.rand(2, 3, 1, 2, 2)
    for loss, sides in (("hinge", 1), ("relativistic", 2)):
        plain = GanLoss(critic, loss=loss).discriminator_loss(fake, real)
        game = GanLoss(critic, loss=loss, penalty=0.3, every=3)
        punished = [game.discriminator_loss(fake, real) for _ in range(4)]
        for number, each in enumerate(punished):
            extra = sides * 3 * 0.15 * norm if number % 3 == 0 else torch.tensor(0.0)
            torch.testing.assert_close(each, plain + extra)
        (slope,) = torch.autograd.grad(punished[0].mean() - plain.mean(), critic.weight)
        torch.testing.assert_close(slope, sides * 3 * 0.3 * critic.weight.detach(), atol=1e-5, rtol=1e-4)


def test_real_images_are_matched_in_number_and_size():
    real = torch.arange(3.0).view(3, 1, 1, 1).expand(3, 1, 8, 8)
    same = matched(real, torch.zeros(5, 1, 4, 4))
    assert same.shape == (5, 1, 4, 4)
    torch.testing.assert_close(same[:, 0, 0, 0], torch.tensor([0.0, 1, 2, 0, 1]))


def test_augmentation_is_differentiable_seeded_and_keeps_most_of_an_image():
    images = torch.full((64, 1, 16, 16), 0.8, requires_grad=True)
    torch.manual_seed(0)
    one = augmented(images)
    torch.manual_seed(0)
    assert torch.equal(one, augmented(images))
    assert one.shape == images.shape
    covered = (one == 0).float().mean((1, 2, 3))
    assert (covered <= 0.25 + 1 - (14 / 16) ** 2).all()
    assert covered.mean() > 0.05
    levels = one.flatten(1).max(1).values - 0.8
    assert (levels.abs() <= 0.5).all()
    assert levels.std() > 0.2
    one.sum().backward()
    assert torch.equal(images.grad, (images.grad > 0).float())
    assert augmented(torch.rand(2, 1, 1, 5)).shape == (2, 1, 1, 5)


def test_augmentation_shifts_by_whole_pixels():
    image = torch.zeros(200, 1, 16, 16)
    image[:, 0, 8, 8] = 5
    torch.manual_seed(0)
    spots = [torch.nonzero(each[0] > 3)[0].tolist() for each in augmented(image) if (each[0] > 3).any()]
    assert {row for row, _ in spots} == {column for _, column in spots} == {6, 7, 8, 9, 10}


@pytest.mark.parametrize("loss", ["hinge", "relativistic"])
def test_a_toy_gan_finds_both_modes(loss):
    """Images of 8x8 that are bright above or bright below: a generator that knows neither learns to give both."""
    torch.manual_seed(0)
    above = torch.cat([torch.full((4, 8), 0.8), torch.full((4, 8), -0.8)])
    modes = torch.stack([above, -above])[:, None]
    net = nn.Sequential(nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, 64), nn.Tanh(), nn.Unflatten(1, (1, 8, 8)))
    objective = Adversarial(width=8, loss=loss, penalty=0.1 if loss == "relativistic" else 0.0, every=2)

    def batch():
        return Batch(x=torch.randn(32, 2), real=modes[torch.randint(2, (32,))] + 0.05 * torch.randn(32, 1, 8, 8))

    def far(images):
        return (images[:, None] - modes).square().mean((2, 3, 4)).min(1).values

    objective.attach(net, batch())
    mine = torch.optim.AdamW(net.parameters(), 3e-3, betas=(0.0, 0.99))
    theirs = torch.optim.AdamW(objective.critics(), 3e-3, betas=(0.0, 0.99))
    held_out = torch.randn(256, 2)
    before = far(net(held_out)).mean().item()
    for _ in range(200):
        drawn = batch()
        inputs = LossInputs(batch=drawn, student_output=net(drawn.x), student_features={}, student_net=net)
        mine.zero_grad()
        objective.loss(inputs).mean().backward()
        mine.step()
        theirs.zero_grad()
        objective.discriminator_loss(inputs).mean().backward()
        theirs.step()
    images = net(held_out).detach()
    assert far(images).mean() < 0.2 * before
    share = (images[:, 0, :4].mean((1, 2)) > 0).float().mean()
    assert 0.1 < share < 0.9


def test_a_critic_of_classes_adds_the_projection_of_its_features():
    """Miyato & Koyama 2018, eq. 3: the judgement of one image as two classes differs by (v_a - v_b) . phi."""
    torch.manual_seed(0)
    critic = Discriminator(1, (8, 8), 4, normalized=False, classes=3)
    seen = []
    critic.mix.register_forward_hook(lambda module, args, out: seen.append(nn.functional.leaky_relu(out, 0.2)))
    x = torch.rand(5, 1, 8, 8)
    zero, two = (critic(x, torch.full((5,), label)) for label in (0, 2))
    torch.testing.assert_close(zero[0], two[0])
    vectors = critic.classes.weight
    torch.testing.assert_close((two[1] - zero[1])[:, 0], seen[0].mean((2, 3)) @ (vectors[2] - vectors[0]))
    plain = Discriminator(1, (8, 8), 4, normalized=False)
    assert len(critic.state_dict()) == len(plain.state_dict()) + 1


@pytest.mark.parametrize("projected", [False, True])
def test_a_conditional_game_tells_right_classes_from_wrong_ones(projected):
    """Bright images are of class 1 and dark ones of class 0: only a critic that sees classes minds their exchange."""
    torch.manual_seed(0)
    label = torch.arange(32) % 2
    real = (label.float().mul(1.6).sub(0.8)).view(-1, 1, 1, 1) + 0.05 * torch.randn(32, 1, 8, 8)
    critic = (
        ProjectedDiscriminator(lambda x: [x], real, 8, classes=2)
        if projected
        else Discriminator(1, (8, 8), 8, classes=2)
    )
    game = GanLoss(critic)
    optimizer = torch.optim.AdamW(game.learning(), 2e-2)
    for _ in range(60):
        optimizer.zero_grad()
        game.discriminator_loss(real.flip(0), real, label).mean().backward()
        optimizer.step()
    right, wrong = game.student_loss(real, real, label).mean(), game.student_loss(real, real, 1 - label).mean()
    assert wrong - right > 0.5


def test_labels_and_classes_must_agree():
    labelled = Batch(x=torch.zeros(2, 4), y=torch.zeros(2, 1, 8, 8), cond={"label": torch.tensor([0, 3])})
    net = nn.Sequential(nn.Linear(4, 64), nn.Unflatten(1, (1, 8, 8)))

    class Conditional(nn.Module):
        def forward(self, x, label):
            return net(x)

    for classes, message in ((None, "set `classes`"), (3, "a label is 3")):
        with pytest.raises(UserError, match=message):
            Adversarial(width=4, classes=classes).attach(Conditional(), labelled)
    with pytest.raises(UserError, match="carry no labels"):
        Adversarial(width=4, classes=3).attach(net, Batch(x=labelled.x, y=labelled.y))
    with pytest.raises(UserError, match="have no labels to judge them by"):
        Adversarial(width=4, classes=4).attach(Conditional(), Batch(x=labelled.x, real=labelled.y, cond=labelled.cond))
    Adversarial(width=4, classes=0).attach(Conditional(), labelled)
    assert known_labels("adversarial", labelled, 0) is None
    assert known_labels("adversarial", labelled, 4).tolist() == [0, 3]
