"""Fixtures shared by all tests, and a Hub that none of them can leave the machine for."""

import atexit
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

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

TOGETHER = "tests/ui/"
"""A folder whose tests stay in one process, for they share a server and a run: those of others go file by file."""

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def place(item: pytest.Item) -> int:
        first = item.path.relative_to(Path(__file__).parent).parts[0]
        return next((number for number, name in enumerate(LONG) if first.startswith(name)), len(LONG))

    items.sort(key=place)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return TOGETHER if nodeid.startswith(TOGETHER) else str(super()._split_scope(nodeid))

    return Scheduling(config, log)


@pytest.fixture(autouse=True, scope="session")
def plain_curves() -> Iterator[None]:
    """Runs of tests write a bare picture where their curves would stand, which take as long as all else of a tiny run."""
    with pytest.MonkeyPatch.context() as patch:
        if module := sys.modules.get("kdgen.training.run_report"):
            patch.setattr(module, "curves", lambda path, *given, **more: Image.new("RGB", (64, 64)).save(path))
        yield


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
