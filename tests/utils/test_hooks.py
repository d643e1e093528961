"""Forward hooks as a context manager."""

from copy import deepcopy

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from kdgen.types import UserError
from kdgen.utils.hooks import capture_outputs, find, hookable_layers, last_weights


@pytest.fixture
def net():
    return nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.Sequential(nn.ReLU(), nn.Conv2d(3, 1, 1)))


def test_outputs_by_dotted_path(net):
    x = torch.rand(2, 1, 5, 5)
    with capture_outputs(net, ["0", "1.0", "0"]) as seen:
        assert dict(seen) == {}
        net(x)
    assert list(seen) == ["0", "1.0"]
    assert torch.equal(seen["0"], net[0](x))
    assert torch.equal(seen["1.0"], net[0](x).relu())
    assert seen["0"].requires_grad


def test_hooks_are_gone_afterwards(net):
    with pytest.raises(RuntimeError), capture_outputs(net, ["0"]):
        raise RuntimeError
    assert not any(module._forward_hooks for module in net.modules())


def test_the_last_call_wins():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.twofold = nn.Linear(1, 1, bias=False)
            nn.init.constant_(self.twofold.weight, 2)

        def forward(self, x):
            return self.twofold(self.twofold(x))

    net = Twice()
    with capture_outputs(net, ["twofold"]) as seen:
        net(torch.ones(1, 1))
    assert seen["twofold"].item() == 4


def test_tuples_are_read_at_their_first():
    class Pair(nn.Module):
        def forward(self, x):
            return x + 1, x

    net = nn.Sequential(Pair())
    with capture_outputs(net, ["0"]) as seen:
        net(torch.zeros(1))
    assert seen["0"].item() == 1


def test_tappable_and_own_names(net):
    assert hookable_layers(net) == ["0", "1", "1.0", "1.1"]

    class Named(nn.Sequential):
        def feature_layers(self):
            return ["1"]

    assert hookable_layers(Named(*net)) == ["1"]


def test_unknown_paths_list_the_nearest(net):
    assert find(net, "1.1") is net[1][1]
    with pytest.raises(UserError, match=r"Sequential has no layer '1\.7'; the nearest: .*1\.[01]"):
        find(net, "1.7")
    with pytest.raises(UserError, match="has no layer 'body'"), capture_outputs(net, ["0", "body"]):
        pass


def test_an_unknown_path_leaves_no_hooks(net):
    with pytest.raises(UserError), capture_outputs(net, ["0", "body"]):
        pass
    assert not any(module._forward_hooks for module in net.modules())


def test_the_first_tensor_of_a_tuple_is_read():
    class Pair(nn.Module):
        def forward(self, x):
            return None, x

    net = nn.Sequential(Pair())
    with capture_outputs(net, ["0"]) as seen:
        net(torch.ones(1))
    assert torch.equal(seen["0"], torch.ones(1))


def test_the_last_weights_are_those_nearest_to_the_output_and_to_each_tap(net):
    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.norm = nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4)
            self.tail = spectral_norm(nn.Conv2d(4, 1, 3, padding=1))
            self.scale = nn.Parameter(torch.ones(1))

        def forward(self, x, *, sigma):
            return x - sigma.view(-1, 1, 1, 1) * self.scale * self.tail(torch.relu(self.norm(self.first(x)))).tanh()

    made, x, cond = Residual(), torch.rand(2, 1, 5, 5), {"sigma": torch.ones(2)}
    before, state = deepcopy(made.state_dict()), torch.get_rng_state()
    (last,) = last_weights(made, x, cond)
    assert last is made.tail.parametrizations.weight.original
    tapped = last_weights(made, x, cond, ["norm", "tail"])
    assert [id(weight) for weight in tapped] == [id(last), id(made.first.weight)]
    assert all(torch.equal(value, before[key]) for key, value in made.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert [id(weight) for weight in last_weights(net, x, {})] == [id(net[1][1].weight)]
    assert last_weights(nn.Identity(), x, {}) == []
