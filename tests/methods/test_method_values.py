"""Losses against values worked out on their own."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from views import inputs_of

from kdgen.methods.features.attention import Attention
from kdgen.methods.features.channel import Channel
from kdgen.methods.features.feature import Feature
from kdgen.methods.features.pairwise import Pairwise
from kdgen.methods.features.relation import Relation
from kdgen.methods.outputs.gradient import Gradient
from kdgen.methods.outputs.jacobian import Jacobian
from kdgen.methods.outputs.output import Output
from kdgen.types import Batch, UserError


class Scale(nn.Module):
    """x -> a * x."""

    def __init__(self, a: float) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.tensor(a))

    def forward(self, x, **cond):
        return self.a * x


@pytest.fixture
def pair_of_images():
    generator = np.random.default_rng(5)
    return generator.uniform(-1, 1, (3, 2, 6, 5)), generator.uniform(-1, 1, (3, 2, 6, 5))


@pytest.mark.parametrize(
    ("loss", "reference"),
    [
        ("l1", np.abs),
        ("l2", np.square),
        ("charbonnier", lambda d: np.sqrt(d**2 + 0.01**2)),
        ("huber", lambda d: np.where(np.abs(d) <= 0.2, d**2 / 2, 0.2 * (np.abs(d) - 0.1))),
    ],
)
def test_output(loss, reference, pair_of_images):
    a, b = pair_of_images
    got = Output(loss, epsilon=0.01, delta=0.2).loss(inputs_of(torch.tensor(a), torch.tensor(b)))
    np.testing.assert_allclose(got.numpy(), reference(a - b).mean((1, 2, 3)), rtol=1e-5)


def test_output_takes_logits():
    got = Output("l1").loss(inputs_of(torch.zeros(2, 10), torch.ones(2, 10)))
    assert got.tolist() == [1, 1]


def test_charbonnier_of_equal_images_is_epsilon():
    same = torch.rand(2, 1, 4, 4)
    torch.testing.assert_close(Output("charbonnier", epsilon=0.02).loss(inputs_of(same, same)), torch.full((2,), 0.02))


def test_gradient_by_differences(pair_of_images):
    a, b = pair_of_images
    dx = np.diff(a - b, axis=3, append=(a - b)[:, :, :, -1:])
    dy = np.diff(a - b, axis=2, append=(a - b)[:, :, -1:])
    got = Gradient("difference", "l2").loss(inputs_of(torch.tensor(a), torch.tensor(b)))
    np.testing.assert_allclose(got.numpy(), ((dx**2 + dy**2) / 2).mean((1, 2, 3)), rtol=1e-5)


def test_gradient_by_sobel(pair_of_images):
    ndimage = pytest.importorskip("scipy.ndimage")
    a, b = pair_of_images
    maps = (a - b).reshape(-1, 6, 5)
    want = np.stack([np.abs(ndimage.sobel(m, axis=axis, mode="nearest") / 8) for m in maps for axis in (0, 1)])
    got = Gradient("sobel", "l1").loss(inputs_of(torch.tensor(a), torch.tensor(b)))
    np.testing.assert_allclose(got.numpy(), want.reshape(3, -1).mean(1), rtol=1e-5)


def test_sobel_of_a_ramp_is_its_slope():
    ramp = torch.arange(6.0).repeat(5, 1)[None, None] * 0.3
    gradients = Gradient().gradients(ramp)
    torch.testing.assert_close(gradients[0, 0, :, 1:-1], torch.full((5, 4), 0.3))
    torch.testing.assert_close(gradients[0, 1], torch.zeros(5, 6))


def test_brightness_has_no_gradient():
    image = torch.rand(2, 3, 8, 8)
    torch.testing.assert_close(Gradient().loss(inputs_of(image, image + 0.25)), torch.zeros(2), atol=1e-6, rtol=0)


@pytest.mark.parametrize("num_directions", [1, 3])
def test_jacobian_of_linear_nets(num_directions):
    x, (student, teacher) = torch.rand(2, 1, 6, 6), (Scale(0.25), Scale(0.75))
    torch.manual_seed(11)
    got = Jacobian(num_directions, epsilon=0.5).loss(
        inputs_of(student(x), teacher(x).detach(), nets=(student, teacher), x=x)
    )
    torch.manual_seed(11)
    v = torch.stack([torch.randn_like(x) for _ in range(num_directions)])
    torch.testing.assert_close(got, (0.5 * v).square().mean((0, 2, 3, 4)), rtol=1e-4, atol=1e-5)
    got.mean().backward()
    assert student.a.grad < 0
    assert teacher.a.grad is None


def test_jacobian_repeats_the_conditions(nets, batch, make_view):
    method = Jacobian(num_directions=2)
    student = nets[0].eval()
    inputs = make_view(method, student, nets[1], batch)
    torch.manual_seed(0)
    got = method.loss(inputs)
    torch.manual_seed(0)
    want = torch.zeros(4)
    for _ in range(2):
        moved = batch.x + 0.05 * torch.randn_like(batch.x)
        changes = [(net(moved, **batch.cond) - net(batch.x, **batch.cond)) / 0.05 for net in (student, nets[1])]
        want += (changes[0] - changes[1]).square().mean((1, 2, 3)) / 2
    torch.testing.assert_close(got, want, rtol=1e-3, atol=1e-6)


def attached(method, student_shape, teacher_shape):
    """A method attached to nets that give features of these shapes at `pool`."""

    class Gives(nn.Module):
        def __init__(self, shape):
            super().__init__()
            self.f = nn.Conv2d(1, shape[0], 1)
            self.pool = nn.AdaptiveAvgPool2d(shape[1:])

        def forward(self, x, **cond):
            self.pool(self.f(x))
            return x

    method.wanted = [["pool", "pool"]]
    method.attach(Gives(student_shape), Gives(teacher_shape), Batch(x=torch.rand(4, 1, 6, 6)))
    return method


@pytest.mark.parametrize("normalize", [True, False])
def test_feature_of_equal_widths(normalize):
    method = attached(Feature(normalize=normalize), (5, 4, 4), (5, 4, 4))
    assert not list(method.parameters())
    s, t = torch.randn(4, 5, 4, 4), torch.randn(4, 5, 4, 4) * 100
    got = method.loss(inputs_of(s, t, {"pool": s}, {"pool": t}))
    scale = math.sqrt((t.double() ** 2).mean()) if normalize else 1.0
    torch.testing.assert_close(got, ((s - t) / scale).square().mean((1, 2, 3)), rtol=1e-4, atol=1e-6)


def test_feature_scale_does_not_matter():
    method = attached(Feature(), (5, 4, 4), (5, 4, 4))
    s, t = torch.randn(4, 5, 4, 4), torch.randn(4, 5, 4, 4)
    small = method.loss(inputs_of(s, t, {"pool": s}, {"pool": t}))
    torch.testing.assert_close(small, method.loss(inputs_of(s, t, {"pool": 1e3 * s}, {"pool": 1e3 * t})))


def test_feature_regressor_is_the_methods_own():
    method = attached(Feature(normalize=False), (3, 4, 4), (5, 2, 2))
    (weight, bias) = method.parameters()
    assert weight.shape == (5, 3, 1, 1)
    s, t = torch.randn(4, 3, 4, 4), torch.randn(4, 5, 4, 4)
    got = method.loss(inputs_of(s, t, {"pool": s}, {"pool": t}))
    want = torch.einsum("oi,bihw->bohw", weight[:, :, 0, 0], s) + bias.view(1, -1, 1, 1) - t
    torch.testing.assert_close(got, want.square().mean((1, 2, 3)))
    got.mean().backward()
    assert weight.grad.norm() > 0
    other = attached(Feature(normalize=False), (3, 4, 4), (5, 2, 2))
    other.load_state_dict(method.state_dict())
    assert torch.equal(other.loss(inputs_of(s, t, {"pool": s}, {"pool": t})), got)


def test_feature_of_other_size_is_resampled():
    method = attached(Feature(normalize=False), (5, 4, 4), (5, 8, 8))
    s, t = torch.full((4, 5, 4, 4), 0.5), torch.ones(4, 5, 8, 8)
    torch.testing.assert_close(method.loss(inputs_of(s, t, {"pool": s}, {"pool": t})), torch.full((4,), 0.25))


@pytest.mark.parametrize("p", [1, 2, 3.5])
def test_attention(p):
    method = attached(Attention(p=p), (3, 4, 4), (6, 4, 4))
    generator = np.random.default_rng(2)
    s, t = generator.normal(size=(4, 3, 4, 4)), generator.normal(size=(4, 6, 4, 4))

    def rows(a):
        q = (np.abs(a) ** p).sum(1).reshape(4, -1)
        return q / np.linalg.norm(q, axis=1, keepdims=True)

    taps = {"pool": torch.tensor(s)}, {"pool": torch.tensor(t)}
    got = method.loss(inputs_of(torch.tensor(s), torch.tensor(t), *taps))
    np.testing.assert_allclose(got.numpy(), np.linalg.norm(rows(s) - rows(t), axis=1), rtol=1e-5)


def test_relation():
    method = attached(Relation(), (3, 4, 4), (6, 2, 2))
    generator = np.random.default_rng(3)
    s, t = generator.normal(size=(4, 3, 4, 4)), generator.normal(size=(4, 6, 2, 2))

    def similar(a):
        q = a.reshape(4, -1)
        g = q @ q.T
        return g / np.linalg.norm(g, axis=1, keepdims=True)

    taps = {"pool": torch.tensor(s)}, {"pool": torch.tensor(t)}
    got = method.loss(inputs_of(torch.tensor(s), torch.tensor(t), *taps))
    difference = similar(t) - similar(s)
    np.testing.assert_allclose(got.numpy(), (difference**2).sum(1) / 4, rtol=1e-4)
    np.testing.assert_allclose(got.mean(), np.linalg.norm(difference, "fro") ** 2 / 16, rtol=1e-4)


def test_pairwise():
    """Two places a map: of the student's cosine is 0.6, of the teacher's, whose squares of places are averaged, 0."""
    method = attached(Pairwise(places=2), (2, 1, 2), (3, 2, 4))
    student = torch.tensor([[[[1.0, 3.0]], [[0.0, 4.0]]]]).repeat(2, 1, 1, 1)
    teacher = torch.zeros(2, 3, 2, 4)
    teacher[:, 0, :, :2], teacher[:, 1, :, 2:] = 5, 7
    teacher[:, 0, 0, 0], teacher[:, 0, 1, 1] = 4, 6
    got = method.loss(inputs_of(student, teacher, {"pool": student}, {"pool": teacher}))
    np.testing.assert_allclose(got.numpy(), [2 * 0.6**2 / 4] * 2, rtol=1e-5)
    assert method.loss(inputs_of(student, student, {"pool": student}, {"pool": 3 * student})).abs().max() < 1e-12


def test_channels_of_outputs():
    """Logits of each class become a distribution over places: T^2 / K sum KL, the teacher's at the student's size."""
    method = Channel(of="outputs", temperature=2.0)
    method.attach(nn.Conv2d(1, 2, 1), nn.Conv2d(1, 2, 1), Batch(x=torch.zeros(2, 1, 4, 4)))
    assert method.student_layers == ()
    student, teacher = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    p, q = ((x.flatten(2) / 2).softmax(2) for x in (teacher, student))
    expected = 4 * (p * (p / q).log()).sum(2).mean(1)
    torch.testing.assert_close(method.loss(inputs_of(student, teacher)), expected)
    large = teacher.repeat_interleave(2, -1).repeat_interleave(2, -2)
    assert method.loss(inputs_of(student, large)).shape == (2,)
    with pytest.raises(UserError, match="2 channels of the student's output with 5"):
        method.attach(nn.Conv2d(1, 2, 1), nn.Conv2d(1, 5, 1), Batch(x=torch.zeros(2, 1, 4, 4)))


def test_relation_of_one_image_is_refused(nets, batch, make_view):
    method = Relation()
    inputs = make_view(method, *nets, Batch(x=batch.x[:1], cond={"sigma": batch.cond["sigma"][:1]}))
    with pytest.raises(UserError, match="batch_size to 2"):
        method.loss(inputs)
