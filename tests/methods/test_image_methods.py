"""Methods that judge a generator's images: perceptual and adversarial."""

import math
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from views import Generator, inputs_of

from kdgen.methods.adversarial.adversarial import Adversarial
from kdgen.methods.outputs.perceptual import Perceptual
from kdgen.metrics.perceptual import FeatureDistance
from kdgen.models.discriminators import Discriminator
from kdgen.models.nets.feature_net import feature_net
from kdgen.types import UserError


@pytest.fixture
def small_features(monkeypatch):
    torch.manual_seed(0)
    net = feature_net(width=4).eval()
    monkeypatch.setattr("kdgen.methods.outputs.perceptual.perceptual", lambda name: FeatureDistance(name, net))
    monkeypatch.setattr("kdgen.methods.adversarial.adversarial.load", lambda name: SimpleNamespace(net=net))
    return net


@pytest.mark.parametrize("channels", [1, 3])
def test_perceptual_is_the_metric_and_teaches(small_features, latents, channels):
    student, teacher = Generator(16, channels), Generator(32, channels)
    method = Perceptual()
    method.attach(student, teacher, latents)
    assert not list(method.parameters())
    assert not method.state_dict()
    out, answer = student(latents.x), teacher(latents.x).detach()
    loss = method.loss(inputs_of(out, answer, batch=latents))
    half = F.interpolate(answer, size=(16, 16), mode="bilinear", antialias=True)
    torch.testing.assert_close(loss, FeatureDistance("x", small_features)(out, half))
    loss.sum().backward()
    assert student.linear.weight.grad.norm() > 0
    assert all(p.grad is None for p in small_features.parameters())


def test_perceptual_refuses_other_channels_and_missing_weights(small_features, latents, monkeypatch):
    with pytest.raises(UserError, match="1 or 3 channels, not of 2"):
        Perceptual().attach(Generator(8, 2), Generator(8, 2), latents)
    monkeypatch.undo()
    with pytest.raises(UserError, match="no perceptual distance 'nowhere'"):
        Perceptual("nowhere").attach(Generator(), Generator(), latents)


@pytest.mark.parametrize(
    "args", [{}, {"loss": "relativistic", "penalty": 1.0}, {"augment": True, "penalty": 0.1}, {"projected": True}]
)
def test_each_side_of_the_game_learns_from_its_own_loss(small_features, latents, args):
    torch.manual_seed(0)
    student, teacher = Generator(8), Generator(16)
    method = Adversarial(width=4, every=1, **args)
    method.attach(student, teacher, latents)
    critics = list(method.critics())
    assert critics
    learning = {id(p) for p in method.parameters() if p.requires_grad}
    assert learning == {id(p) for p in critics}
    assert not any(p is q for p in method.parameters() for q in small_features.parameters())
    inputs = inputs_of(student(latents.x), teacher(latents.x).detach(), batch=latents)
    loss = method.loss(inputs)
    assert loss.shape == (6,)
    loss.mean().backward()
    assert student.linear.weight.grad.norm() > 0
    assert all(p.grad is None and p.requires_grad for p in critics)
    student.zero_grad()
    loss = method.discriminator_loss(inputs)
    assert loss.shape == (6,)
    loss.mean().backward()
    assert all(p.grad is not None for p in critics)
    assert student.linear.weight.grad is None
    assert all(p.grad is None for p in [*teacher.parameters(), *small_features.parameters()])


def test_a_critic_learns_to_tell_the_teacher_from_the_student(latents):
    torch.manual_seed(0)
    student, teacher = Generator(8), Generator(8)
    method = Adversarial(width=4)
    method.attach(student, teacher, latents)
    inputs = inputs_of(student(latents.x), teacher(latents.x).detach(), batch=latents)
    optimizer = torch.optim.AdamW(method.critics(), 1e-2, betas=(0.0, 0.99))
    losses = []
    for _ in range(30):
        loss = method.discriminator_loss(inputs).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    assert losses[0] == pytest.approx(2, abs=0.5)


@pytest.mark.parametrize("size", [(1, 8), (7, 5), (8, 8), (33, 20), (64, 64)])
def test_critics_judge_patches_and_the_whole_at_any_size(size):
    patches, whole = Discriminator(3, size, 4)(torch.rand(2, 3, *size))
    smallest = min(size)
    halvings = int(math.log2(smallest / 4)) if smallest >= 8 else 0
    assert patches.shape == (2, (size[0] >> halvings) * (size[1] >> halvings))
    assert whole.shape == (2, 1)
