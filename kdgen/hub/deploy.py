"""The app as a Space of the Hub: its page, kdgen itself, and the students to preload, in one commit."""

import json
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import distribution, version
from pathlib import Path
from tempfile import TemporaryDirectory

from huggingface_hub import RepoCard, SpaceHardware

from kdgen.hub.push import BARE, Pushed, commit, open_repository
from kdgen.hub.scan import objection, outside
from kdgen.models.hub_cache import HubId, api, commit_of, explained, with_retries
from kdgen.registry import nearest
from kdgen.types import UserError

CHECKOUT = Path(__file__).resolve().parents[2]
CPU_WHEELS = "https://download.pytorch.org/whl/cpu"
"""Where torch lies without the gigabytes that only a GPU needs."""

EXTRAS = ("export", "restorers")
"""What a Space installs beside what kdgen needs."""


def deploy(
    repo_id: str,
    *,
    students: Sequence[str] = (),
    private: bool | None = None,
    hardware: str | None = None,
    dry_run: bool = False,
    token: str | None = None,
    checkout: Path = CHECKOUT,
) -> Pushed:
    """Make or renew a Gradio Space.

    A Space installs its `requirements.txt` and runs its `app.py`; so kdgen travels as a folder beside it, with the
    metadata that an installed one has. On CPUs it installs torch without CUDA. Students are named in `students.json`
    with their commits, and in the page's front matter, by which the Hub puts them into the Space's cache when it builds
    it.

    Args:
        repo_id: ``org/space``; it is created if need be.
        students: ids of the Hub.
        private: whether a new Space is for its owners alone.
        hardware: that it is made for and asks for, in the Hub's words; by default ``cpu-basic`` is meant and the Space
            is left on what it has.
        dry_run: send nothing.
        token: of who deploys; by default of who is logged in.
        checkout: a checkout of kdgen, with `space`.

    Raises:
        UserError: outside a checkout, for a student or hardware that is not there, a missing login or right, a name
            taken.
        WorldError: where Hub or network fail for longer than is worth waiting.
    """
    id = HubId.read(repo_id)
    known = [each.value for each in SpaceHardware]
    if hardware is not None and hardware not in known:
        raise UserError(f"no hardware of Spaces is called {hardware!r}{nearest(hardware, known)}: there is "
                        f"{', '.join(known)}")  # fmt: skip
    hub = api(token)
    with TemporaryDirectory(prefix="kdgen-") as temporary:
        folder = Path(temporary)
        notes = _gather(checkout, folder)
        wanted = requirements(checkout, hardware or "cpu-basic")
        (folder / "requirements.txt").write_text(wanted, encoding="utf-8")
        with explained(id.name, writing=True):
            ids = [HubId.read(student) for student in students]
            commits = {student.name: commit_of(student, token=token) for student in ids}
            _preload(folder, commits)
            paths = sorted(path for path in folder.rglob("*") if path.is_file())
            files = {path.relative_to(folder).as_posix(): path for path in paths}
            sizes = {name: path.stat().st_size for name, path in files.items()}
            page = (folder / "README.md").read_text(encoding="utf-8")
            url = f"{hub.endpoint}/spaces/{id.name}"
            if dry_run:
                return Pushed(url, None, sizes, tuple(notes), page)
            open_repository(hub, id.name, private=private, may_replace=_is_apps, repo_type="space", space_sdk="gradio")
            info = commit(hub, id.name, files, stale=lambda path: path != ".gitattributes", repo_type="space",
                          message=f"kdgen {version('kdgen')}")  # fmt: skip
            if hardware is not None:
                with_retries(lambda: hub.request_space_hardware(id.name, SpaceHardware(hardware)))
    return Pushed(url, info.oid, sizes, tuple(notes), page)


def _gather(checkout: Path, folder: Path) -> list[str]:
    """Copy what a Space needs into a folder; returns a line for each file that is not sent."""
    space = checkout / "space"
    if not all((checkout / name).exists() for name in ("space", "kdgen", "pyproject.toml")):
        raise UserError("deploy sends the folder space of a checkout of kdgen, and this is none: clone kdgen, "
                        "and run deploy from there")  # fmt: skip
    sources = {path.relative_to(space).as_posix(): path for path in space.rglob("*") if _is_source(path)}
    sources |= {path.relative_to(checkout).as_posix(): path for path in (checkout / "kdgen").rglob("*")
                if _is_source(path)}  # fmt: skip
    for name in ("app.py", "LICENSE"):
        if name not in sources and (checkout / name).is_file():
            sources[name] = checkout / name
    for name in ("app.py", "README.md"):
        if name not in sources:
            raise UserError(f"there is no {name} in {space}: a Space needs one")
    notes = []
    for name, path in sources.items():
        reason = "is a symbolic link out of the folder" if outside(path, checkout) else objection(path)
        if reason:
            notes.append(f"not sent: {name} {reason}")
            continue
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    metadata = folder / f"kdgen-{version('kdgen')}.dist-info" / "METADATA"
    metadata.parent.mkdir()
    installed = distribution("kdgen")
    metadata.write_text(installed.read_text("METADATA") or installed.read_text("PKG-INFO") or "", encoding="utf-8")
    return notes


def _of_extra(extras: Mapping[str, list[str]], name: str) -> Iterator[str]:
    """What an extra asks for, with what the extras that it names ask for."""
    for line in extras[name]:
        if inner := re.fullmatch(r"kdgen\[(\w+)\]", line):
            yield from _of_extra(extras, inner[1])
        else:
            yield line


def requirements(checkout: Path, hardware: str) -> str:
    """What a Space installs on some hardware; Gradio, which comes with it, apart.

    On CPUs torch is pinned to its build without CUDA, in the version that is installed here.
    """
    project = tomllib.loads((checkout / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    lines = [*project["dependencies"], *(line for name in EXTRAS for line in _of_extra(extras, name))]
    lines = [line for line in lines if not line.startswith("gradio")]
    if hardware.startswith("cpu"):
        torch = f"torch=={version('torch').partition('+')[0]}+cpu"
        lines = [f"--extra-index-url {CPU_WHEELS}", torch, *(line for line in lines if not line.startswith("torch>"))]
    return "\n".join(lines) + "\n"


def _is_source(path: Path) -> bool:
    """Whether a path is a file that belongs there, and none that tools left."""
    return (path.is_file() or path.is_symlink()) and path.name[0] != "." and "__pycache__" not in path.parts


def _preload(folder: Path, commits: dict[str, str]) -> None:
    """Name the students in `students.json` and in the front matter of the page."""
    students = [f"{name}@{sha}" for name, sha in commits.items()]
    (folder / "students.json").write_text(json.dumps(students, indent=2) + "\n", encoding="utf-8")
    page = folder / "README.md"
    card = RepoCard(page.read_text(encoding="utf-8"), ignore_metadata_errors=False)
    card.data["tags"] = list(dict.fromkeys([*(card.data.get("tags") or ()), "kdgen"]))
    if students:
        card.data["models"] = list(dict.fromkeys([*(card.data.get("models") or ()), *commits]))
        others = [line for line in card.data.get("preload_from_hub") or () if line.split()[0] not in commits]
        card.data["preload_from_hub"] = [*others, *commits]
    page.write_text(str(card), encoding="utf-8")


def _is_apps(paths: set[str], tags: set[str]) -> bool:
    return "kdgen" in tags or "kdgen/__init__.py" in paths or paths <= {*BARE, "app.py"}
