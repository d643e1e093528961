"""What every registered net keeps to, small and with every value that the types of its arguments name."""

from pathlib import Path
from typing import Any

import documented
import pytest
import torch
from latent_pipelines import OPTIONAL, saved
from torch import Tensor, nn

import kdgen.training.registered  # noqa: F401
from kdgen import registry
from kdgen.models.abilities import Channelled
from kdgen.models.adapters.latent_model import LatentModel
from kdgen.models.model import Model, build_net, load
from kdgen.models.nets.fold import folded
from kdgen.registry import Spec
from kdgen.types import UserError
from kdgen.utils.conditions import call
from kdgen.utils.hooks import capture_outputs, hookable_layers

BASE = {"sigma": torch.full((2,), 0.2), "until": torch.full((2,), 0.1), "label": torch.tensor([0, 1])}
INPUTS = ((1, 16, 16), (3, 16, 16), (8,), (8, 4, 4), (4, 4, 4), (1, 28, 28), (8, 8, 8), (8, 16, 16), (4, 16, 16),
          (4, 8, 8))  # fmt: skip
"""What nets are tried on: images of one and three channels, latents."""


def made(name: str, args: dict[str, Any]) -> tuple[nn.Module, Spec]:
    torch.manual_seed(0)
    of = {"model": str(saved("DiTPipeline"))} if registry.accepts("net", name, "model") else {}
    spec = Spec(name=name, args={**documented.shrunk("net", name), **of, **args})
    return build_net(spec, channels=int(args.get("channels", 1)))


def told(net: nn.Module) -> dict[str, Tensor]:
    """What a net may be told: of one of latents what its own example says."""
    own = net.example() if isinstance(net, LatentModel) else {}
    return {**BASE, **{name: torch.rand(2, *value.shape[1:]).to(value) for name, value in own.items()}}


def taken(net: nn.Module) -> Tensor:
    """The first input of ``INPUTS`` that the net takes."""
    errors = []
    for shape in INPUTS:
        x = torch.rand(2, *shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
        try:
            with torch.no_grad():
                call(net.eval(), x, told(net))
        except (RuntimeError, UserError, ValueError, IndexError, TypeError) as error:
            errors.append(f"{shape}: {error}")
        else:
            return x
    raise AssertionError("\n".join(errors))


@pytest.mark.parametrize(
    ("name", "args"),
    [pytest.param(*case, marks=OPTIONAL.get(case[0], ())) for case in documented.cases("net")],
    ids=documented.label,
)
def test_every_net_answers_learns_shows_its_layers_folds_and_is_saved(
    name: str, args: dict[str, Any], tmp_path: Path
) -> None:
    net, use = made(name, args)
    x, cond = taken(net), told(net)
    out = call(net, x, cond)
    assert out.isfinite().all()
    assert len(out) == 2
    out.square().mean().backward()
    assert any(p.grad is not None and p.grad.any() for p in net.parameters())
    paths = hookable_layers(net)
    assert len(paths) >= 2
    with torch.no_grad():
        with capture_outputs(net, paths) as features:
            torch.testing.assert_close(call(net, x, cond), out)
        assert features
        assert all(isinstance(each, Tensor) for each in features.values())
        torch.testing.assert_close(call(folded(net), x, cond), out, atol=1e-5, rtol=1e-4)
        channels = net.channels if isinstance(net, Channelled) else int(args.get("channels", 1))
        Model(net, name="small", channels=channels, use=use).save(tmp_path)
        torch.testing.assert_close(call(load(tmp_path).eval().net, x, cond), out, atol=1e-5, rtol=1e-4)
