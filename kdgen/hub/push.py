"""Publish a student: one commit of checked files, compared with what arrived."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

from kdgen.hub.check import check
from kdgen.hub.parcel import packed, settled
from kdgen.models.hub_cache import HubId, WorldError, api, explained, fetch, publishable, with_retries
from kdgen.models.model import Model
from kdgen.types import UserError, text

BARE = {".gitattributes", ".gitignore", "README.md", "LICENSE"}
"""Files of a repository that nobody has put anything into yet."""

PRIVATE, PUBLIC = text("private", "private"), text("public", "public")


@dataclass(frozen=True, slots=True)
class Pushed:
    """What was published, or would be.

    Attributes:
        url: of the commit or of the pull request; of the repository if nothing was sent.
        commit: None if nothing was sent.
        files: sizes in bytes by path.
        notes: what was not sent and why, a line each.
        card: the page.
    """

    url: str
    commit: str | None
    files: dict[str, int]
    notes: tuple[str, ...]
    card: str


def push_to_hub(
    source: Model | Path | str,
    repo_id: str,
    *,
    private: bool | None = None,
    revision: str | None = None,
    create_pr: bool = False,
    license: str | None = None,
    datasets: Sequence[str] = (),
    dry_run: bool = False,
    token: str | None = None,
) -> Pushed:
    """Publish a student on the Hugging Face Hub, with the report, recipe and pictures of its run.

    Args:
        source: a model, a finished run, or the folder of a student.
        repo_id: ``org/name``; it is created if need be.
        private: whether a new repository is for its owners alone; by default as the owner has it.
        revision: the branch, made if need be; that which a change is proposed for must be there.
        create_pr: whether to propose the change rather than make it.
        license: of the student in the Hub's words, e.g. ``apache-2.0``; by default what its card says already.
        datasets: ids of those on the Hub that it was trained on.
        dry_run: send nothing.
        token: of who publishes; by default of who is logged in.

    Raises:
        UserError: for a student that must not or cannot be sent, a missing login or right, a name taken.
        WorldError: where Hub or network fail for longer than is worth waiting; what was uploaded is kept.
    """
    id = HubId.read(repo_id)
    if id.revision is not None:
        raise UserError(text("push_branch", "name the branch by revision, not in {name}", name=repo_id))
    with TemporaryDirectory(prefix="kdgen-") as temporary:
        (folder := Path(temporary) / "parcel").mkdir()
        student = settled(source, Path(temporary) / "student")
        parcel = packed(student, folder, repo=id.name, license=license, datasets=datasets)
        check(parcel, source if isinstance(source, Model) else None)
        files = parcel.files
        sizes = {name: path.stat().st_size for name, path in files.items()}
        hub = api(token)
        if dry_run:
            return Pushed(f"{hub.endpoint}/{id.name}", None, sizes, tuple(parcel.notes), parcel.card)
        with explained(id.name, writing=True):
            open_repository(hub, id.name, private=private, may_replace=is_students, check=not create_pr)
            if revision is not None and not create_pr and not revision.startswith("refs/"):
                with_retries(lambda: hub.create_branch(id.name, branch=revision, exist_ok=True))
            info = commit(hub, id.name, files, stale=publishable, revision=revision, create_pr=create_pr,
                          message=f"{parcel.config.name}, by kdgen {version('kdgen')}")  # fmt: skip
        url = str(info.pr_url or info.commit_url)
        try:
            arrived = fetch(HubId(id.name, info.oid), cache=Path(temporary) / "cache", token=token).folder
        except UserError as error:
            raise WorldError(text("push_not_compared", "{url} was made, but what arrived could not be compared with "
                                  "what was sent: {error}", url=url, error=error.text)) from None  # fmt: skip
        compare(files, arrived, id.name)
        return Pushed(url, info.oid, sizes, tuple(parcel.notes), parcel.card)


def open_repository(
    hub: HfApi,
    name: str,
    *,
    private: bool | None,
    may_replace: Callable[[set[str], set[str]], bool],
    check: bool = True,
    create_private: bool | None = None,
    **kind: Any,
) -> None:
    """Make sure of the login, and that the repository is there and holds nothing of somebody else's.

    Args:
        hub: the client.
        name: ``org/name``.
        private: whether a new one is, and one that is there must be.
        may_replace: called with the paths and tags of one that is there; whether it may be written over.
        check: whether to ask that.
        create_private: whether a new one is, where ``private`` leaves that open; nothing is asked of one that is there.
        kind: ``repo_type`` and the like, if it is no model.

    Raises:
        UserError: for one that is somebody else's, or seen by others than was asked for.
    """
    with_retries(lambda: hub.whoami(cache=True))
    with_retries(lambda: hub.create_repo(
        name, private=create_private if private is None else private, exist_ok=True, **kind))  # fmt: skip
    info: Any = with_retries(lambda: hub.repo_info(name, repo_type=kind.get("repo_type")))
    paths = {file.rfilename for file in info.siblings or ()}
    if check and not paths <= BARE and not may_replace(paths, set(info.tags or ())):
        raise UserError(text("push_taken", "{name} is taken by something that kdgen did not publish: choose another "
                             "name, or propose the change with --create-pr", name=name))  # fmt: skip
    if private is not None and bool(info.private) != private:
        current, wanted = (PRIVATE, PUBLIC) if info.private else (PUBLIC, PRIVATE)
        raise UserError(text("push_visibility", "{name} is there already and {current}, nothing was sent: make it "
                             "{wanted} in its settings, or choose another name", name=name, current=current,
                             wanted=wanted))  # fmt: skip


def commit(
    hub: HfApi,
    name: str,
    files: dict[str, Path],
    *,
    stale: Callable[[str], bool],
    message: str,
    revision: str | None = None,
    create_pr: bool = False,
    repo_type: str | None = None,
) -> Any:
    """Send files in one commit, and take away what an earlier one left: paths for which ``stale`` says so.

    Trying again is safe, and done, but for a pull request, which would be opened twice: what was uploaded is not sent
    twice, and a commit whose confirmation was lost is found made.
    """

    def attempt() -> Any:
        info: Any = hub.repo_info(name, repo_type=repo_type, revision=revision)
        existing = [file.rfilename for file in info.siblings or ()]
        operations: list[Any] = [CommitOperationAdd(path, str(file)) for path, file in files.items()]
        operations += [CommitOperationDelete(path) for path in existing if path not in files and stale(path)]
        return hub.create_commit(name, operations, commit_message=message, repo_type=repo_type, revision=revision,
                                 create_pr=create_pr)  # fmt: skip

    return attempt() if create_pr else with_retries(attempt)


def compare(files: dict[str, Path], arrived: Path, name: str) -> None:
    """Compare hashes of what was sent and of what a fresh download brought. Raises WorldError where they differ."""
    for path, file in files.items():
        copy = arrived / path
        if not copy.is_file() or _digest(copy) != _digest(file):
            raise WorldError(text("push_not_arrived", "{name}: {path} did not arrive as it was sent: push again",
                                  name=name, path=path))  # fmt: skip


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_students(paths: set[str], tags: set[str]) -> bool:
    """Whether a repository with such paths and tags holds a student, or nothing yet."""
    return "kdgen" in tags or all(path in BARE or publishable(path) for path in paths)
