"""Fixtures shared by all tests, and a Hub that none of them can leave the machine for."""

import atexit
import os
import shutil
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from kdgen.recipe import Recipe

if "KDGEN_TEST_HUB_TOKEN" not in os.environ:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        os.environ["HF_ENDPOINT"] = f"http://127.0.0.1:{free.getsockname()[1]}"
    os.environ["HF_HUB_DISABLE_XET"] = "1"
os.environ["HF_HOME"] = tempfile.mkdtemp(prefix="kdgen-tests-")
os.environ["KDGEN_CACHE"] = os.environ["HF_HOME"] + "/kdgen"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ.pop("HF_TOKEN", None)
atexit.register(shutil.rmtree, os.environ["HF_HOME"], ignore_errors=True)

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real images and published weights, where the machine has them beside the checkout."""
    if not SHARED.is_dir():
        pytest.skip("no ../shared/data beside the checkout: real images and published weights are not at hand")
    return SHARED


@pytest.fixture
def make(tmp_path: Path) -> "Callable[..., Recipe]":
    """Recipes for a tiny denoiser of a tiny teacher, measured on one tiny picture, with settings applied."""
    return tiny_recipes(tmp_path)


def tiny_recipes(tmp_path: Path) -> "Callable[..., Recipe]":
    """What ``make`` gives, in a folder."""
    import numpy as np
    import torch
    from PIL import Image

    from kdgen.model import Model, build_net
    from kdgen.recipe import override, parse
    from kdgen.registry import Use

    torch.manual_seed(0)
    net, use = build_net(Use(name="dncnn", args={"depth": 3, "width": 24}), channels=1)
    Model(net, name="tiny", channels=1, task={"name": "denoise", "sigma": 25}, use=use).save(tmp_path / "teacher")
    (tmp_path / "pictures").mkdir()
    ramp = np.add.outer(np.arange(24), 7 * np.arange(24)).astype(np.uint8)
    Image.fromarray(ramp).save(tmp_path / "pictures" / "ramp.png")
    pictures = {"name": "folder", "args": {"path": str(tmp_path / "pictures")}}
    whole = {
        "name": "tiny",
        "task": {"name": "denoise", "args": {"sigma": 25, "patch": 16, "evaluate": pictures}},
        "teacher": str(tmp_path / "teacher"),
        "student": {"name": "dncnn", "args": {"depth": 3, "width": 16}},
        "stages": [{"methods": [{"name": "output"}]}],
        "steps": 12,
        "batch_size": 4,
        "pool": {"patches": 32, "dir": str(tmp_path / "cache")},
        "precision": "float32",
        "checkpoint_every": 0.01,
        "evaluate_every": 0.05,
        "device": "cpu",
    }
    return lambda *settings: override(parse(whole), settings)
