"""What every method for few steps keeps to."""

from copy import deepcopy

import pytest
import torch
from few_steps_nets import NAMES, PIXEL, SCORES, Student, batches, look, student, use

from kdgen.diffusion import Guidance
from kdgen.registry import Spec, build, summary
from kdgen.types import Batch, UserError

pytestmark = pytest.mark.usefixtures("one_thread")


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
        inputs = look(net, PIXEL, batch, progress=0.5)
        method.load_state_dict(method.state_dict())
        values.append(method.loss(inputs))
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
        build("method", Spec(name=name)).attach(net, PIXEL, batch)


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
    for teacher in (PIXEL, Guidance(PIXEL, 3.0, {"label": torch.tensor(2)})):
        torch.manual_seed(1)
        method = build("method", use(name, **own))
        method.attach(net, teacher, batch)
        torch.manual_seed(2)
        losses.append(method.loss(look(net, teacher, batch, progress=0.5)))
    assert torch.isfinite(torch.stack(losses)).all()
    assert not torch.allclose(*losses)
    assert not any(isinstance(module, Guidance) for module in method.modules()), "a critic starts as the plain teacher"


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
        ("drawn_adversarial", {"sampler": "average"}, "sampler is one of consistency, euler"),
        ("drawn_adversarial", {"loss": "wasserstein"}, "loss is one of hinge, relativistic"),
    ],
)
def test_unfit_arguments_are_refused_in_one_line(name, args, message):
    with pytest.raises(UserError, match=message) as error:
        build("method", Spec(name=name, args=args))
    assert "\n" not in str(error.value)
