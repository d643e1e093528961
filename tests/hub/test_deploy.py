"""The app as a Space: one commit with all it needs, and its page answers where nothing else is installed."""

import json
import shutil
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest
from huggingface_hub import RepoCard, snapshot_download

from kdgen.hub import deploy, push_to_hub
from kdgen.hub.deploy import requirements
from kdgen.models.model import Model
from kdgen.types import UserError

from .conftest import RunContext
from .server import Hub
from .space import ROOT, page_of, title_of


def _heavy(folder: str, names: list[str]) -> set[str]:
    """What no test needs: compiled files, and the weights of all bundled nets but one."""
    others = set(names) - {"denoiser"} if Path(folder).name == "weights" else set()
    return others | {"__pycache__"}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what is deployed of this one, with fewer weights."""
    here = tmp_path / "checkout"
    shutil.copytree(ROOT / "kdgen", here / "kdgen", ignore=_heavy)
    shutil.copytree(ROOT / "space", here / "space", ignore=_heavy)
    shutil.copy(ROOT / "pyproject.toml", here)
    return here


def test_a_space_is_one_commit_and_its_page_answers(
    hub: Hub, place: RunContext, student: Callable[..., Model], checkout: Path, tmp_path: Path
) -> None:
    named, space = place.name("preloaded"), place.name("space", "space")
    commit = push_to_hub(student(), named).commit
    hub.seen.clear()
    deploy(space, students=[named], checkout=checkout)
    assert sum("POST" in line and "/commit/" in line for line in hub.seen) == 1
    here = Path(snapshot_download(space, repo_type="space", local_dir=tmp_path / "space"))
    assert json.loads((here / "students.json").read_text()) == [f"{named}@{commit}"]
    card = RepoCard.load(here / "README.md").data
    assert (card["models"], card["preload_from_hub"], card["sdk"]) == ([named], [named], "gradio")
    assert "safetensors" in (here / "requirements.txt").read_text()
    assert not list(here.rglob("*.pyc"))
    status, page = page_of(here, sys.executable, {})
    assert (status, (title_of(page) or "")[:5]) == (200, "kdgen")
    assert f"{named}@{commit}" in page


def test_a_space_is_renewed_and_secrets_stay_here(hub: Hub, place: RunContext, checkout: Path) -> None:
    space = place.name("renewed", "space")
    (checkout / "space" / "old.txt").write_text("old")
    deploy(space, checkout=checkout)
    (checkout / "space" / "old.txt").unlink()
    (checkout / "space" / "key.txt").write_text("hf_" + "a1B2" * 8)
    (checkout / "space" / "link.txt").symlink_to("/etc/hostname")
    (checkout / "space" / "cache.pkl").write_bytes(b"")
    pushed = deploy(space, checkout=checkout)
    repo = hub.store.repos["space", space]
    tree = repo.commits[repo.refs["main"]]
    assert {"old.txt", "key.txt", "link.txt", "cache.pkl"}.isdisjoint(tree)
    assert "kdgen/models/nets/weights/denoiser/model.safetensors" in tree
    assert sorted(pushed.notes) == [
        "not sent: cache.pkl is of no kind that is published",
        "not sent: key.txt holds what looks like a token or a key",
        "not sent: link.txt is a symbolic link out of the folder",
    ]
    hub.store.create("space", other := place.name("other", "space"))
    hub.store.write(hub.store.repos["space", other], "main", {"game.py": hub.store.keep(b"theirs")})
    with pytest.raises(UserError, match="taken by something"):
        deploy(other, checkout=checkout)


def test_a_dry_run(hub: Hub, checkout: Path, tmp_path: Path) -> None:
    pushed = deploy("acme/space", dry_run=True, checkout=checkout)
    assert {"app.py", "README.md", "requirements.txt", "students.json", "kdgen/__init__.py"} <= pushed.files.keys()
    assert hub.seen == []
    with pytest.raises(UserError, match="this is none"):
        deploy("acme/space", checkout=tmp_path / "nowhere")


def test_the_wheels_of_cuda_are_for_hardware_that_has_use_of_them(checkout: Path) -> None:
    cpu, zero = (requirements(checkout, name).splitlines() for name in ("cpu-basic", "zero-a10g"))
    assert cpu[0] == "--extra-index-url https://download.pytorch.org/whl/cpu"
    assert cpu[1] == f"torch=={version('torch').partition('+')[0]}+cpu"
    assert [line for line in zero if line not in cpu] == ["torch>=2.11"]
    for lines in (cpu, zero):
        assert not [line for line in lines if line.startswith("gradio")]
        assert any(line.startswith("onnxruntime") for line in lines)
        assert any(line.startswith("spandrel") for line in lines)


def test_hardware_is_asked_for_by_its_name(hub: Hub, place: RunContext, checkout: Path) -> None:
    space = place.name("zero", "space")
    deploy(space, checkout=checkout)
    assert not [line for line in hub.seen if line.endswith("/hardware")]
    deploy(space, checkout=checkout, hardware="zero-a10g")
    repo = hub.store.repos["space", space]
    tree = repo.commits[repo.refs["main"]]
    assert b"+cpu" not in hub.store.read(tree["requirements.txt"])
    assert [line for line in hub.seen if line.endswith("/hardware")] == [f"POST /api/spaces/{space}/hardware"]
    with pytest.raises(UserError, match=r"no hardware of Spaces is called 'zero-a10'.*zero-a10g.*cpu-basic"):
        deploy(space, checkout=checkout, hardware="zero-a10")
