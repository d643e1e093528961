"""What every registered method keeps to."""

from copy import deepcopy

import documented
import pytest
import torch
from few_steps_nets import NAMES
from views import Tiny, grey_batch

import kdgen.training.registered  # noqa: F401
from kdgen import registry
from kdgen.metrics.perceptual import FeatureDistance
from kdgen.models.nets.feature_net import feature_net
from kdgen.registry import Spec, build, names, summary
from kdgen.types import Batch, Method, UserError


def use(name: str) -> Spec:
    """A method with its defaults, its critic a copy of the student's where there is a choice: at first it is wrong."""
    return Spec(name=name, args={"critic": "student"} if registry.accepts("method", name, "critic") else {})


def attached() -> dict[str, Method]:
    """The methods for nets like the fixtures', attached to such: by name, those of a file added yesterday too."""
    taken = {}
    for name in documented.own("method"):
        method: Method = build("method", use(name))
        try:
            method.attach(Tiny(width=4), Tiny(width=6, stride=2).eval(), grey_batch())
        except UserError:
            continue
        taken[name] = method
    return taken


ATTACHED = attached()
ALL = list(ATTACHED)
WITH_TAPS = [name for name, method in ATTACHED.items() if method.student_layers]
WITHOUT_TAPS = [name for name in ALL if name not in WITH_TAPS]
PLAYING = [name for name, method in ATTACHED.items() if any(True for _ in method.critics())]
ASKING = [name for name, method in ATTACHED.items() if "teacher" not in method.reads]
"""Those that put questions of their own to a net, or none."""
ZERO_WHEN_EQUAL = sorted({*ALL, "jacobian"} - {*PLAYING, *ASKING} | {"jacobian"})
FEW = [name for name in ALL if name in NAMES or name == "latent_adversarial"]
"""Methods of diffusion models, the one among them that looks into its teacher's layers, too."""
"""Methods of diffusion models; test_few_step_contract.py holds what else they keep to."""


@pytest.fixture(autouse=True)
def _small_features(monkeypatch):
    def small(name):
        torch.manual_seed(0)
        return FeatureDistance(name, feature_net(width=4).eval())

    monkeypatch.setattr("kdgen.methods.outputs.perceptual.perceptual", small)


def test_all_methods_are_registered():
    assert len(ALL) > 10
    assert all(summary("method", name).endswith(".") for name in names("method"))


@pytest.mark.parametrize("name", ALL)
def test_loss_is_per_image_float32_finite_and_teaches(name, nets, batch, make_view):
    student, teacher = nets
    method: Method = build("method", use(name))
    if name in FEW:  # some send the gradient through the teacher, which the loop freezes
        teacher.requires_grad_(False)
    torch.manual_seed(0)
    loss = method.loss(make_view(method, student, teacher, batch))
    assert loss.shape == (4,)
    assert loss.dtype == torch.float32
    assert torch.isfinite(loss).all()
    if name not in PLAYING:
        assert (loss >= 0).all()
        assert loss.sum() > 0
    loss.mean().backward()
    assert sum(p.grad.norm() for p in student.parameters() if p.grad is not None) > 0
    assert all(p.grad is None for p in teacher.parameters())


@pytest.mark.parametrize("name", ZERO_WHEN_EQUAL)
def test_zero_for_a_student_like_its_teacher(name, tiny, batch, make_view):
    torch.manual_seed(1)
    teacher = tiny().eval()
    method = build("method", Spec(name=name))
    loss = method.loss(make_view(method, deepcopy(teacher), teacher, batch))
    torch.testing.assert_close(loss, torch.zeros(4), atol=1e-9, rtol=0)


@pytest.mark.parametrize("name", ALL)
def test_same_seed_same_loss(name, nets, batch, make_view):
    def run() -> torch.Tensor:
        torch.manual_seed(3)
        method = build("method", Spec(name=name))
        student, teacher = deepcopy(nets[0]), nets[1]
        inputs = make_view(method, student, teacher, batch)
        torch.manual_seed(4)
        return method.loss(inputs)

    assert torch.equal(run(), run())


@pytest.mark.parametrize("name", ALL)
def test_attach_leaves_nets_and_random_state_alone(name, nets, batch):
    student, teacher = nets
    before, mode = deepcopy(student.state_dict()), student.training
    method = build("method", Spec(name=name))
    state = torch.get_rng_state()
    method.attach(student, teacher, batch)
    assert student.training == mode
    assert not any(module._forward_hooks for net in nets for module in net.modules())
    assert all(torch.equal(value, before[key]) for key, value in student.state_dict().items())
    if not list(method.parameters()):
        assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("name", WITH_TAPS)
def test_taps_in_bfloat16(name, nets, batch, make_view):
    method = build("method", Spec(name=name))
    inputs = make_view(method, *nets, batch)
    exact = method.loss(inputs)
    for kept in (inputs.student_features, inputs.teacher_features):
        for path in list(kept):
            kept[path] = kept[path].bfloat16()
    rounded = method.loss(inputs)
    assert rounded.dtype == torch.float32
    torch.testing.assert_close(rounded, exact, rtol=0.05, atol=1e-3)


@pytest.mark.parametrize("name", WITH_TAPS)
def test_unknown_layers_list_the_nearest(name, nets, batch):
    for pairs in ([["body.o", "body.0"]], [["body.0", "boddy.3"]]):
        method = build("method", Spec(name=name, args={"pairs": pairs}))
        with pytest.raises(UserError, match=r"has no layer .* nearest: .*body\.[03]"):
            method.attach(*nets, batch)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("size", [(1, 8), (7, 5)])
def test_odd_sizes_and_strips(name, size, tiny, make_view):
    torch.manual_seed(0)
    y = torch.rand(3, 1, *size)
    batch = Batch(x=y + 0.1 * torch.randn_like(y), y=y, cond={"sigma": torch.full((3,), 0.1)})
    method = build("method", Spec(name=name))
    loss = method.loss(make_view(method, tiny(4), tiny(6, 5).eval(), batch))
    assert loss.shape == (3,)
    assert torch.isfinite(loss).all()


@pytest.mark.parametrize(
    ("name", "args", "message"),
    [
        ("output", {"loss": "l3"}, "loss is one of l1, l2, charbonnier, huber"),
        ("output", {"epsilon": 0}, "epsilon is a number of at least"),
        ("adversarial", {"loss": "wasserstein"}, "loss is one of hinge, relativistic"),
        ("adversarial", {"width": 0}, "width is a whole number of at least 1"),
        ("adversarial", {"every": True}, "every is a whole number of at least 1"),
        ("adversarial", {"penalty": float("nan")}, "penalty is a number of at least 0"),
        ("blocks", {"pairs": "down_blocks.0"}, "pairs is a list like"),
        ("channel", {"temperature": 0}, "temperature is a number of at least"),
        ("channel", {"num_pairs": 0}, "num_pairs is a whole number"),
        ("logits", {"temperature": -1}, "temperature is a number of at least"),
        ("logits", {"loss": "l2"}, "loss is one of kl, cross_entropy"),
        ("perceptual", {"features": 3}, "features is features32 or the path"),
        ("feature", {"pairs": ["body.0"]}, "pairs is a list like"),
        ("feature", {"num_pairs": 1.5}, "num_pairs is a whole number"),
        ("attention", {"p": 0.5}, "p is a number of at least 1"),
        ("gradient", {"operator": "canny"}, "operator is one of sobel, difference"),
        ("jacobian", {"num_directions": 0}, "num_directions is a whole number"),
        ("jacobian", {"epsilon": float("nan")}, "epsilon is a number"),
        ("relation", {"pairs": 3}, "pairs is a list like"),
        ("upcycling", {"modes": []}, "modes is a list"),
        ("upcycling", {"modes": ["zoom"]}, "each of modes is one of rescale, mix, renoise"),
        ("upcycling", {"share": 1.5}, r"share is a number in \[1e-06, 1\]"),
    ],
)
def test_unfit_arguments_are_refused_in_one_line(name, args, message):
    with pytest.raises(UserError, match=message) as error:
        build("method", Spec(name=name, args=args))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", WITHOUT_TAPS)
def test_unlike_channels_are_refused(name, tiny, batch):
    class Grey(torch.nn.Module):
        def forward(self, x, **cond):
            return x.repeat(1, 3, 1, 1)

    with pytest.raises(UserError, match="1 channels of the student's output with 3"):
        build("method", Spec(name=name)).attach(tiny(), Grey(), batch)


@pytest.mark.parametrize("name", [name for name in WITHOUT_TAPS if name not in FEW])
def test_a_larger_teacher_is_resampled(name, tiny, batch, make_view):
    class Larger(tiny):
        def forward(self, x, **cond):
            return super().forward(x, **cond).repeat_interleave(2, -1).repeat_interleave(2, -2)

    torch.manual_seed(0)
    teacher = Larger().eval()
    student = tiny().eval()
    student.load_state_dict(teacher.state_dict())
    method = build("method", Spec(name=name, args={"consistency": False} if name == "upcycling" else {}))
    loss = method.loss(make_view(method, student, teacher, batch))
    assert loss.shape == (4,)
    if name == "output":  # an antialiased halving of doubled pixels is a small blur
        assert (loss < 0.1).all()
    assert torch.isfinite(loss).all()


@pytest.mark.parametrize("name", FEW)
def test_a_larger_teacher_is_refused_by_those_that_go_on_from_its_answers(name, tiny, batch):
    class Larger(tiny):
        def forward(self, x, **cond):
            return super().forward(x, **cond).repeat_interleave(2, -1).repeat_interleave(2, -2)

    with pytest.raises(UserError, match="images 16x16"):
        build("method", use(name)).attach(tiny(), Larger().eval(), batch)


@pytest.mark.parametrize("name", ASKING)
def test_a_teacher_with_a_view_of_its_own_is_refused(name, nets, batch):
    other = Batch(x=batch.x, teacher_x=batch.x, y=batch.y, cond=batch.cond)
    with pytest.raises(UserError, match="view of its own"):
        build("method", Spec(name=name)).attach(*nets, other)
