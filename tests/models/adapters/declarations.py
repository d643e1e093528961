"""Small nets in files of weights, declared."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from kdgen.models.adapters.checkpoint import load_checkpoint
from kdgen.recipe import Checkpoint
from kdgen.registry import Spec
from kdgen.types import UserError

SMALL = Spec(name="dncnn", args={"depth": 3, "width": 4, "norm": True})


def declare(file: Path, **changes: Any) -> Checkpoint:
    return Checkpoint(file=str(file), **{"net": SMALL, **changes})


def said(spec: Checkpoint) -> str:
    with pytest.raises(UserError) as error:
        load_checkpoint(spec)
    assert "\n" not in str(error.value)
    return str(error.value)


def loads(spec: Checkpoint, weights: dict[str, Tensor]) -> bool:
    """Whether the net has these weights, folded ones within rounding."""
    own = load_checkpoint(spec).net.state_dict()
    return all(torch.allclose(own[key].float(), value.float(), atol=1e-6) for key, value in weights.items())
