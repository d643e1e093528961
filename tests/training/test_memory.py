"""A student that is trained with less memory learns what it would have learnt with more."""

import copy
import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from support import drain, learner_of, trained
from torch import Tensor, nn

from kdgen.models.adapters.recompute import recompute_blocks
from kdgen.models.model import build_net, load
from kdgen.recipe import Recipe
from kdgen.registry import Spec
from kdgen.training import run
from kdgen.training.checkpoint import Checkpoints
from kdgen.training.train_step import Learner
from kdgen.types import Batch, UserError

Make = Callable[..., Recipe]
NET = {"name": "unet", "args": {"widths": [8, 16], "blocks": 1}}
BRIEF = ("controls=false", "steps=6", "cache.inputs=0", "evaluate_every=null")
needs_torchao = pytest.mark.skipif(find_spec("torchao") is None, reason="kdgen[memory] is not installed")


def difference(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """The root mean square of the difference of weights, as a share of theirs."""
    flat, beside = (torch.cat([value.double().flatten() for value in each.values()]) for each in (one, other))
    return float((flat - beside).norm() / beside.norm())


@pytest.mark.parametrize("net", [NET, {"name": "unet2d", "args": {"block_out_channels": [8, 16]}}])
def test_blocks_that_are_computed_twice_give_the_same_gradients_and_keep_less(net: dict[str, Any]) -> None:
    kept, gradients = [], []
    for recomputed in (False, True):
        torch.manual_seed(0)
        made = build_net(Spec(**net), 1, {"name": "diffuse", "size": 16})[0].train()
        if recomputed:
            recompute_blocks(made)
        held = []

        def keep(tensor: Tensor, held: list[int] = held) -> Tensor:
            held.append(tensor.nbytes)
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            out = made(torch.linspace(-1, 1, 512).view(2, 1, 16, 16), sigma=torch.tensor([0.5, 1.0]))
        kept.append(sum(held))
        out.square().mean().backward()
        gradients.append([p.grad for p in made.parameters()])
    assert kept[1] < 0.6 * kept[0]
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, atol=1e-7, rtol=1e-5)


def test_nets_that_cannot_be_computed_twice_are_refused_in_a_line() -> None:
    with pytest.raises(UserError, match="a Sequential declares none"):
        recompute_blocks(nn.Sequential(nn.Conv2d(1, 1, 1)))
    normed = build_net(Spec(name="conv_generator", args={"latent": 4, "width": 4}), 1, {"name": "generate", "size": 8})
    if any(isinstance(module, nn.BatchNorm2d) for module in normed[0].modules()):
        with pytest.raises(UserError, match="would count each batch twice"):
            recompute_blocks(normed[0])


def learnt(switches: dict[str, Any], pause: Checkpoints | None = None) -> tuple[list[float], dict[str, Tensor]]:
    """The losses of a few steps, and the weights after them; where there is a pause, another learner goes on."""
    torch.manual_seed(0)
    student, teacher = (build_net(Spec(**NET), 1)[0] for _ in range(2))
    x = torch.randn(4, 1, 16, 16)
    batch = Batch(x=x, cond={"sigma": torch.full((4,), 0.2)})

    def learner() -> Learner:
        stage = {"methods": [{"name": "output"}]}
        return learner_of(stage, copy.deepcopy(student), teacher, batch, None, memory=switches, ema=0)

    one, losses = learner(), []
    one.enter(0)
    for number in range(8):
        if number == 4 and pause is not None:
            pause.save({"step": number, **one.state_dict()})
            one = learner()
            one.load_state_dict(pause.load()[0] or {})
        losses.append(float(one.step(batch, None, number=number, progress=number / 8, retries=0)["loss"]))
    return losses, one.average.net.state_dict()


@pytest.mark.parametrize(("switch", "near"), [
    ({"checkpointing": True}, 1e-6),
    ({"weights": "bfloat16"}, 2e-2),
    pytest.param({"optimizer_states": "int8"}, 2e-2, marks=needs_torchao),
])  # fmt: skip
def test_a_student_learns_the_same_with_less_memory(switch: dict[str, Any], near: float, tmp_path: Path) -> None:
    (usual, known), (losses, weights) = learnt({}), learnt(switch)
    assert losses == pytest.approx(usual, rel=near)
    assert usual[-1] < 0.9 * usual[0]
    assert difference(weights, known) < near
    assert all(value.dtype == torch.float32 for value in weights.values())
    assert learnt(switch, Checkpoints(tmp_path / "checkpoints" / "student"))[0] == losses


def test_a_run_with_little_memory_leaves_a_student_in_float32(make: Make, tmp_path: Path) -> None:
    memory = {"checkpointing": True, "weights": "bfloat16"}
    recipe = make(*BRIEF, f"student={json.dumps(NET)}", f"memory={json.dumps(memory)}", "precision=bfloat16")
    trained(run.distill(recipe, tmp_path / "run"))
    assert {value.dtype for value in load(tmp_path / "run").net.state_dict().values()} == {torch.float32}


def test_what_does_not_fit_a_switch_is_refused_in_a_line(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="set optimizer to adamw in every stage"):
        make("memory.optimizer_states=int8", "stages.0.optimizer=muon")
    with pytest.raises(UserError, match="set precision to auto or bfloat16"):
        make("memory.weights=bfloat16", "precision=float32")
    monkeypatch.setattr("kdgen.training.optimizers.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'kdgen\[memory\]'"):
        drain(run.distill(make("memory.optimizer_states=int8")))
