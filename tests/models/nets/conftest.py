"""Fixtures of the tests of nets."""

from collections.abc import Callable

import pytest
import torch
from torch import nn


@pytest.fixture
def with_statistics() -> Callable[[nn.Module], nn.Module]:
    """A function that puts a net in float64 and evaluation, its batch norms no longer the identity."""

    def change(net: nn.Module) -> nn.Module:
        torch.manual_seed(1)
        for layer in net.modules():
            if isinstance(layer, nn.BatchNorm2d):
                nn.init.normal_(layer.bias)
                nn.init.uniform_(layer.weight, 0.5, 2)
                nn.init.normal_(layer.running_mean)  # type: ignore[arg-type]
                nn.init.uniform_(layer.running_var, 0.5, 2)  # type: ignore[arg-type]
        return net.double().eval()

    return change
