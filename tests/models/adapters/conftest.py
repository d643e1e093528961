"""What tests of files of weights share."""

import pytest
import torch
from declarations import SMALL
from torch import Tensor

import kdgen.models.nets  # noqa: F401
from kdgen.registry import build


@pytest.fixture
def weights() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return dict(build("net", SMALL).state_dict())
