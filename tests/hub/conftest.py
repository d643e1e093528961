"""The Hub on the loopback, or the true one where KDGEN_TEST_HUB_TOKEN and KDGEN_TEST_HUB_ORG are set."""

import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import torch
from huggingface_hub import HfApi, constants
from PIL import Image

from kdgen.__main__ import main
from kdgen.models.model import Model, build_net
from kdgen.recipe import Recipe, parse
from kdgen.registry import Spec
from kdgen.training import run

from .server import Hub

TRUE = "KDGEN_TEST_HUB_TOKEN" in os.environ
WRITER = os.environ.get("KDGEN_TEST_HUB_TOKEN", "hf_writer_of_acme_0001")


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """The loopback server; not there for tests against the true Hub."""
    if TRUE:
        pytest.skip("the true Hub neither fails on demand nor holds hostile files")
    hub = Hub(tmp_path_factory.mktemp("hub"), urlsplit(constants.ENDPOINT).port or 0)
    hub.start()
    yield hub
    hub.stop()


@dataclass
class RunContext:
    """Where tests publish: an owner, and names of its repositories that are removed afterwards."""

    org: str
    made: list[tuple[str, str]] = field(default_factory=list)

    def name(self, word: str, kind: str = "model") -> str:
        name = f"{self.org}/{word}-{uuid.uuid4().hex[:6]}"
        self.made.append((name, kind))
        return name


@pytest.fixture
def place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[RunContext]:
    """A Hub that one may write to, an empty cache, and a working folder without a run in it."""
    shutil.rmtree(constants.HF_HUB_CACHE, ignore_errors=True)
    monkeypatch.setenv("HF_TOKEN", WRITER)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    if not TRUE:
        request.getfixturevalue("server")
    found = RunContext(os.environ.get("KDGEN_TEST_HUB_ORG", "acme"))
    yield found
    if TRUE:
        for name, kind in found.made:
            HfApi(token=WRITER).delete_repo(name, repo_type=kind, missing_ok=True)


@pytest.fixture
def hub(server: Hub, place: RunContext) -> Iterator[Hub]:
    """The loopback server, well again and with nothing seen."""
    server.faults.clear()
    server.seen.clear()
    yield server
    server.faults.clear()


@pytest.fixture
def student(tmp_path: Path) -> Callable[..., Model]:
    """Makes students: a net by name with random weights."""

    def make(name: str = "dncnn", task: dict[str, object] | None = None, **args: object) -> Model:
        torch.manual_seed(0)
        args = args or {"depth": 3, "width": 4}
        net, use = build_net(Spec.model_validate({"name": name, "args": args}), channels=1)
        return Model(net, name="tiny", channels=1, task=task or {"name": "denoise", "sigma": 25}, use=use).eval()

    return make


RECIPE = {
    "name": "tiny",
    "student": {"name": "dncnn", "args": {"depth": 3, "width": 8, "norm": True}},
    "stages": [{"methods": [{"name": "output"}]}],
    "steps": 3,
    "batch_size": 4,
    "precision": "float32",
    "device": "cpu",
}


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of a tiny student of a tiny teacher, with controls."""
    folder = tmp_path_factory.mktemp("runs")
    torch.manual_seed(1)
    net, use = build_net(Spec(name="dncnn", args={"depth": 3, "width": 12}), channels=1)
    Model(net, name="teacher", channels=1, task={"name": "denoise", "sigma": 25}, use=use).save(folder / "teacher")
    (folder / "pictures").mkdir()
    Image.new("L", (24, 24), 100).save(folder / "pictures" / "flat.png")
    evaluate = {"name": "folder", "args": {"path": str(folder / "pictures")}}
    task = {"name": "denoise", "args": {"sigma": 25, "patch": 16, "evaluate": evaluate}}
    cache = {"inputs": 16, "dir": str(folder / "cache")}
    recipe: Recipe = parse({**RECIPE, "task": task, "teacher": str(folder / "teacher"), "cache": cache})
    for _ in run.distill(recipe, folder / "run"):
        pass
    return folder / "run"


@pytest.fixture
def trained(finished: Path, tmp_path: Path) -> Path:
    """A copy of that run for the test's own."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


def call(*arguments: str) -> int:
    """The exit code of a command."""
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    return int(stop.value.code or 0)
