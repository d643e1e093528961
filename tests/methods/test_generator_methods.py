"""Methods for encoders, classifiers and channels, against values worked out on their own."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.distributions import Categorical, Normal, kl_divergence
from views import inputs_of

from kdgen.methods.features.channel import Channel
from kdgen.methods.outputs.gaussian_kl import GaussianKl
from kdgen.methods.outputs.logits import Logits
from kdgen.types import Batch, UserError


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_logits_kl_is_that_of_categoricals(temperature):
    torch.manual_seed(0)
    student, teacher = 3 * torch.randn(5, 7), 3 * torch.randn(5, 7)
    p, q = Categorical(logits=teacher / temperature), Categorical(logits=student / temperature)
    kl = Logits(temperature).loss(inputs_of(student, teacher))
    torch.testing.assert_close(kl, temperature**2 * kl_divergence(p, q))
    cross = Logits(temperature, "cross_entropy").loss(inputs_of(student, teacher))
    torch.testing.assert_close(cross, kl + temperature**2 * p.entropy())
    torch.testing.assert_close(Logits(temperature).loss(inputs_of(teacher, teacher)), torch.zeros(5))


def test_logits_gradient_at_high_temperature_is_that_of_matched_logits():
    torch.manual_seed(0)
    student, teacher = (each - each.mean(1, keepdim=True) for each in torch.randn(2, 4, 5, dtype=torch.float64))
    student.requires_grad_()
    Logits(1e3).loss(inputs_of(student, teacher)).sum().backward()
    torch.testing.assert_close(student.grad, (student - teacher).detach() / 5, rtol=1e-2, atol=1e-3, check_dtype=False)


def test_logits_per_pixel_are_averaged_and_resampled():
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    each = Logits().loss(inputs_of(student.movedim(1, -1).flatten(0, 2), teacher.movedim(1, -1).flatten(0, 2)))
    torch.testing.assert_close(Logits().loss(inputs_of(student, teacher)), each.view(2, -1).mean(1))
    flat = torch.tensor([0.0, 1.0, 3.0]).view(1, 3, 1, 1)
    larger = Logits().loss(inputs_of(flat.expand(2, 3, 4, 4), flat.expand(2, 3, 8, 8)))
    torch.testing.assert_close(larger, torch.zeros(2), atol=1e-6, rtol=0)


def test_logits_want_classes_of_one_kind():
    x = torch.rand(2, 3)
    Logits().attach(nn.Linear(3, 5), nn.Linear(3, 5), Batch(x=x))
    with pytest.raises(UserError, match="5 channels"):
        Logits().attach(nn.Linear(3, 5), nn.Linear(3, 4), Batch(x=x))
    Logits().attach(nn.Linear(3, 5), nn.Linear(3, 6), Batch(x=x))  # of more classes the first ones count
    with pytest.raises(UserError, match="two classes or more"):
        Logits().attach(nn.Linear(3, 1), nn.Linear(3, 1), Batch(x=x))


class Encoder(nn.Module):
    def __init__(self, latents: int = 3) -> None:
        super().__init__()
        self.moments = nn.Conv2d(1, 2 * latents, 4, stride=4)

    def forward(self, x, **cond):
        return F.interpolate(self.moments(x).mean(1, keepdim=True), scale_factor=4)


def normal(moments):
    mean, log_variance = moments.chunk(2, 1)
    return Normal(mean, (log_variance / 2).exp())


@pytest.mark.parametrize("shape", [(4, 6), (4, 6, 2, 3)])
def test_gaussian_kl_is_that_of_normals(shape):
    torch.manual_seed(0)
    student, teacher = torch.randn(2, *shape)
    inputs = inputs_of(student, teacher, {"moments": student}, {"moments": teacher})
    forward, reverse = GaussianKl().loss(inputs), GaussianKl(reverse=True).loss(inputs)
    torch.testing.assert_close(forward, kl_divergence(normal(teacher), normal(student)).flatten(1).mean(1))
    torch.testing.assert_close(reverse, kl_divergence(normal(student), normal(teacher)).flatten(1).mean(1))
    torch.testing.assert_close(GaussianKl(None, None).loss(inputs), forward)


def test_gaussian_kl_reads_taps_and_outputs():
    batch = Batch(x=torch.rand(3, 1, 8, 8))
    method = GaussianKl()
    method.attach(Encoder(), Encoder(), batch)
    assert method.student_layers == method.teacher_layers == ("moments",)
    output = GaussianKl(student_layer=None)
    output.attach(Encoder().moments, Encoder(), batch)
    assert output.student_layers == ()
    small, large = torch.randn(2, 6, 2, 2), torch.randn(2, 6, 4, 4)
    assert GaussianKl().loss(inputs_of(small, large, {"moments": small}, {"moments": large})).shape == (2,)


def test_gaussian_kl_refuses_what_is_no_moments():
    batch = Batch(x=torch.rand(3, 1, 8, 8))
    with pytest.raises(UserError, match=r"no layer 'moment'.* nearest: moments"):
        GaussianKl("moment").attach(Encoder(), Encoder(), batch)
    with pytest.raises(UserError, match="latents of one kind"):
        GaussianKl().attach(Encoder(2), Encoder(3), batch)
    with pytest.raises(UserError, match=r"moments \(6, 8, 8\) of the student and \(6, 4, 4\) of the teacher"):
        GaussianKl(None, None).attach(nn.Conv2d(1, 6, 1), nn.Conv2d(1, 6, 1, stride=2), batch)
    with pytest.raises(UserError, match=r"reads moments .* the student gives"):
        GaussianKl(None).attach(Encoder(), Encoder(), batch)


def test_channel_kl_is_that_of_distributions_over_places():
    torch.manual_seed(0)
    student, teacher = nn.Conv2d(1, 3, 3), nn.Conv2d(1, 3, 3)
    nets = nn.Sequential(student, nn.Conv2d(3, 1, 1)), nn.Sequential(teacher, nn.Conv2d(3, 1, 1))
    method = Channel([["0", "0"]], temperature=2.0)
    x = torch.rand(2, 1, 6, 6)
    method.attach(*nets, Batch(x=x))
    assert not list(method.parameters())
    s, t = 5 * student(x).detach(), 5 * teacher(x).detach()
    expected = [
        4 * sum(kl_divergence(Categorical(logits=t[i, c].flatten() / 2), Categorical(logits=s[i, c].flatten() / 2)) / 3
                for c in range(3))
        for i in range(2)
    ]  # fmt: skip
    torch.testing.assert_close(method.loss(inputs_of(x, x, {"0": s}, {"0": t})), torch.stack(expected))
    shifted = method.loss(inputs_of(x, x, {"0": t + torch.tensor([1.0, -2.0, 3.0]).view(3, 1, 1)}, {"0": t}))
    torch.testing.assert_close(shifted, torch.zeros(2), atol=1e-5, rtol=0)
