"""Objectives against values worked out on their own, and what all of them keep to."""

from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.distributions import Normal, kl_divergence

from kdgen.metrics.fidelity import gradient_energy
from kdgen.objectives.adversarial import Adversarial
from kdgen.objectives.diversity import Diversity
from kdgen.objectives.kl import Kl
from kdgen.objectives.sharpness import Sharpness
from kdgen.registry import Spec, build, names, summary
from kdgen.types import Batch, LossInputs, UserError
from kdgen.utils.hooks import capture_outputs

ALL = ["adversarial", "diversity", "kl", "masked", "rotation", "sharpness", "two_views"]


class Autoencoder(nn.Module):
    def __init__(self, channels: int = 1) -> None:
        super().__init__()
        self.moments = nn.Conv2d(channels, 6, 4, stride=4)
        self.norm = nn.BatchNorm2d(6)
        self.decoder = nn.ConvTranspose2d(6, channels, 4, stride=4)

    def forward(self, x, **cond):
        return self.decoder(self.norm(self.moments(x)))


class Scale(nn.Module):
    """x -> a * x."""

    def __init__(self, a: float) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.tensor(a))

    def forward(self, x, **cond):
        return self.a * x


def inputs_of(net, batch, objective=None) -> LossInputs:
    with capture_outputs(net, objective.student_layers if objective else ()) as seen:
        out = net(batch.x, **batch.cond)
    return LossInputs(batch=batch, student_output=out, student_features=seen, student_net=net)


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(7)
    y, real = torch.rand(2, 4, 1, 8, 8, generator=generator) * 2 - 1
    return Batch(x=y + 0.1, y=y, real=real)


def test_all_objectives_are_registered():
    assert set(ALL) <= set(names("objective"))
    assert all(summary("objective", name).endswith(".") for name in ALL)


@pytest.mark.parametrize("name", ALL)
def test_loss_is_per_image_and_teaches_only_the_student(name, batch):
    torch.manual_seed(0)
    net = Autoencoder()
    before = deepcopy(net.state_dict())
    objective = build("objective", Spec(name=name))
    objective.attach(net, batch)
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    inputs = inputs_of(net, batch, objective)
    loss = objective.loss(inputs)
    assert loss.shape == (4,)
    assert loss.dtype == torch.float32
    assert torch.isfinite(loss).all()
    loss.mean().backward()
    assert net.moments.weight.grad.norm() > 0
    assert all(p.grad is None for p in objective.critics())
    net.zero_grad()
    critic = objective.discriminator_loss(inputs)
    assert (critic is None) == (not list(objective.critics()))
    if critic is not None:
        assert critic.shape == (4,)
        critic.mean().backward()
        assert all(p.grad is not None for p in objective.critics())
        assert all(p.grad is None for p in net.parameters())


@pytest.mark.parametrize("name", ALL)
def test_same_seed_same_loss(name, batch):
    def run():
        torch.manual_seed(3)
        net = Autoencoder()
        objective = build("objective", Spec(name=name, args={"augment": True} if name == "adversarial" else {}))
        objective.attach(net, batch)
        inputs = inputs_of(net, batch, objective)
        return objective.loss(inputs)

    assert torch.equal(run(), run())


@pytest.mark.parametrize("name", ["diversity", "kl", "sharpness"])
def test_attach_leaves_the_random_state_alone(name, batch):
    net = nn.ModuleDict({"moments": nn.Sequential(nn.Conv2d(1, 2, 1), nn.Dropout())})
    net.forward = lambda x, **cond: net["moments"](x)
    state = torch.get_rng_state()
    build("objective", Spec(name=name)).attach(net, batch)
    assert torch.equal(state, torch.get_rng_state())


# -- Kullback-Leibler --------------------------------------------------------------------------------------------------


def test_kl_is_that_of_normals_per_value_of_the_image(batch):
    torch.manual_seed(0)
    moments = torch.randn(4, 6, 2, 2)
    objective = Kl()
    inputs = LossInputs(
        batch=batch, student_output=batch.x, student_features={"moments": moments}, student_net=nn.Identity()
    )
    mean, log_variance = moments.chunk(2, 1)
    exact = kl_divergence(Normal(mean, (log_variance / 2).exp()), Normal(0.0, 1.0)).flatten(1).sum(1)
    torch.testing.assert_close(objective.loss(inputs), exact / 64)
    standard = LossInputs(
        batch=batch, student_output=batch.x, student_features={"moments": torch.zeros(4, 6)}, student_net=nn.Identity()
    )
    assert objective.loss(standard).tolist() == [0, 0, 0, 0]


def test_kl_refuses_what_is_no_moments(batch):
    with pytest.raises(UserError, match=r"no layer 'moment'.*nearest: moments"):
        Kl("moment").attach(Autoencoder(), batch)
    with pytest.raises(UserError, match=r"reads moments .* gives \(1, 8, 8\)"):
        Kl("decoder").attach(Autoencoder(), batch)
    with pytest.raises(UserError, match="for encoders of images"):
        Kl("0").attach(nn.Sequential(nn.Linear(4, 4)), Batch(x=torch.rand(2, 4)))


# -- sharpness -----------------------------------------------------------------------------------------------------


def test_gradient_energy_of_a_ramp_and_of_stripes():
    ramp = (torch.arange(5.0) * 0.5).expand(1, 1, 4, 5)  # four steps of 0.5 in a row of five pixels
    torch.testing.assert_close(gradient_energy(ramp), torch.tensor([0.25 * 4 / 5]))
    stripes = torch.tensor([1.0, -1.0, 1.0, -1.0]).view(1, 1, 4, 1).expand(1, 2, 4, 3)
    torch.testing.assert_close(gradient_energy(stripes), torch.tensor([4 * 3 / 4]))


def test_sharpness_is_the_relative_gradient_energy(batch):
    paired = Batch(x=batch.y, y=batch.y)
    energy = gradient_energy(batch.y)
    torch.testing.assert_close(Sharpness().loss(inputs_of(Scale(0.5), paired)), 0.75 * energy / energy.mean())
    flat = Batch(x=batch.y, y=torch.cat([torch.zeros(1, 1, 8, 8), batch.y[1:]]))
    assert Sharpness().loss(inputs_of(Scale(1.0), flat))[0] < 2
    torch.testing.assert_close(Sharpness().loss(inputs_of(Scale(1.0), paired)), torch.zeros(4))
    unpaired = Batch(x=batch.real.flip(0), real=batch.real)
    torch.testing.assert_close(Sharpness().loss(inputs_of(Scale(2.0), unpaired)), torch.full((4,), 3.0))


def test_sharpness_sees_blur_and_noise_and_takes_data_of_another_size_and_number(batch):
    real = torch.rand(7, 1, 16, 16)
    unpaired = Batch(x=F.interpolate(real, size=(8, 8), mode="bilinear", antialias=True)[:4], real=real)
    loss = Sharpness().loss(inputs_of(Scale(1.0), unpaired))
    assert (loss < 0.3).all()
    blurred = Batch(x=F.avg_pool2d(batch.y, 3, 1, 1), y=batch.y)
    noisy = Batch(x=batch.y + torch.randn(batch.y.shape), y=batch.y)
    for each in (blurred, noisy):
        assert (Sharpness().loss(inputs_of(Scale(1.0), each)) > 0.3).all()


def test_objectives_say_what_they_lack(batch):
    bare = Batch(x=batch.x)
    with pytest.raises(UserError, match="sharpness needs images of the data"):
        Sharpness().attach(Autoencoder(), bare)
    with pytest.raises(UserError, match="adversarial needs real images"):
        Adversarial().attach(Autoencoder(), bare)
    with pytest.raises(UserError, match="adversarial needs real images"):
        Adversarial().attach(Autoencoder(), Batch(x=batch.x, y=torch.zeros(4)))
    with pytest.raises(UserError, match="1 channels, the real ones 3"):
        Adversarial().attach(Autoencoder(), Batch(x=batch.x, real=torch.rand(4, 3, 8, 8)))
    with pytest.raises(UserError, match="batch_size to 2"):
        Diversity().attach(Autoencoder(), Batch(x=batch.x[:1]))
    with pytest.raises(UserError, match=r"looks at images .* gives \(3,\)"):
        Sharpness().attach(nn.Linear(4, 3), Batch(x=torch.rand(2, 4), real=batch.real))
    for epsilon in (0, float("nan"), True):
        with pytest.raises(UserError, match="epsilon is a number above 0"):
            Diversity(epsilon)
    with pytest.raises(UserError, match="loss is one of hinge, relativistic"):
        Adversarial(loss="l2")


# -- diversity -----------------------------------------------------------------------------------------------------


def test_diversity_of_a_linear_map_is_one_over_its_slope():
    x = torch.randn(5, 6)
    torch.testing.assert_close(Diversity(1e-6).loss(inputs_of(Scale(4.0), Batch(x=x))), torch.full((5,), 0.25))
    torch.testing.assert_close(Diversity(0.5).loss(inputs_of(Scale(1.5), Batch(x=x))), torch.full((5,), 0.5))


def test_diversity_of_a_collapsed_net_is_at_its_bound_and_finite():
    x = torch.randn(4, 6)
    torch.testing.assert_close(Diversity(0.01).loss(inputs_of(Scale(0.0), Batch(x=x))), torch.full((4,), 100.0))
    same = Diversity().loss(inputs_of(Scale(1.0), Batch(x=torch.ones(3, 6))))
    assert same.tolist() == [0, 0, 0]


def test_diversity_pairs_images_of_one_label():
    x = torch.tensor([[0.0], [10.0], [1.0], [12.0]])
    out = torch.tensor([[0.0], [1.0], [3.0], [5.0]]).view(4, 1, 1, 1)
    label = torch.tensor([0, 1, 0, 1])
    inputs = LossInputs(
        batch=Batch(x=x, cond={"label": label}), student_output=out, student_features={}, student_net=nn.Identity()
    )
    loss = Diversity(1e-9).loss(inputs)
    # sorted by label the order is 0, 2, 1, 3: the pairs are (0, 2), (2, 1), (1, 3), (3, 0)
    torch.testing.assert_close(loss, torch.tensor([1 / 3, 2 / 4, 9 / 2, 12 / 5]))


@pytest.mark.parametrize("name", ["adversarial", "diversity", "sharpness"])
def test_a_net_is_not_told_what_it_does_not_read(name, batch):
    class Blind(Scale):
        def forward(self, x):
            return self.a * x

    told = Batch(x=batch.x, y=batch.y, real=batch.real, cond={"sigma": torch.ones(len(batch.x))})
    build("objective", Spec(name=name)).attach(Blind(0.5), told)
