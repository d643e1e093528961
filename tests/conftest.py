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

LONG = ("ui", "hub", "examples", "test_", "training", "utils", "tasks", "cli", "models", "export", "report")
"""Folders, and files of this one, whose tests take longest: they come first, so that several processes end together."""

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def place(item: pytest.Item) -> int:
        first = item.path.relative_to(Path(__file__).parent).parts[0]
        return next((number for number, name in enumerate(LONG) if first.startswith(name)), len(LONG))

    items.sort(key=place)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real images and published weights, where the machine has them beside the checkout."""
    if not SHARED.is_dir():
        pytest.skip("no ../shared/data beside the checkout: real images and published weights are not at hand")
    return SHARED


@pytest.fixture
def make(tmp_path: Path) -> "Callable[..., Recipe]":
    """Recipes for a tiny denoiser of a tiny teacher, measured on one tiny picture, with settings applied."""
    from support import tiny_recipes

    return tiny_recipes(tmp_path)
