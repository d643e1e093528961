"""Repositories on disk as the Hub keeps them: content by hash, commits as trees, branches as names of commits."""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path

from huggingface_hub import ModelCard

LFS = (".safetensors", ".png", ".bin", ".pt", ".jpg")
POINTER = 134


class Missing(Exception):
    """No such repository, revision or file, in the Hub's words."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


@dataclass
class File:
    oid: str
    size: int
    sha256: str | None

    @property
    def blob(self) -> str:
        return self.sha256 or self.oid

    @property
    def lfs(self) -> dict[str, object] | None:
        return (
            None
            if self.sha256 is None
            else {"oid": self.sha256, "sha256": self.sha256, "size": self.size, "pointerSize": POINTER}
        )


@dataclass
class Repo:
    kind: str
    name: str
    private: bool = False
    commits: dict[str, dict[str, File]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    sdk: str | None = None

    def commit(self, revision: str) -> str:
        sha = self.refs.get(revision, revision)
        if sha not in self.commits:
            raise Missing("RevisionNotFound")
        return sha


class Store:
    def __init__(self, root: Path) -> None:
        self.blobs = root / "blobs"
        self.blobs.mkdir(parents=True)
        self.repos: dict[tuple[str, str], Repo] = {}

    def create(self, kind: str, name: str, *, private: bool = False, sdk: str | None = None) -> Repo:
        repo = self.repos[kind, name] = Repo(kind, name, private, sdk=sdk)
        self.write(repo, "main", {".gitattributes": self.keep(b"*.safetensors filter=lfs\n")})
        return repo

    def plant(self, name: str, files: dict[str, bytes]) -> Repo:
        """A repository with any files under any paths, as a broken or hostile Hub might have."""
        repo = self.repos.get(("model", name)) or self.create("model", name)
        self.write(repo, "main", {path: self.keep(data, lfs=path.endswith(LFS)) for path, data in files.items()})
        return repo

    def keep(self, data: bytes, *, lfs: bool = False) -> File:
        sha256 = hashlib.sha256(data).hexdigest() if lfs else None
        file = File(hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest(), len(data), sha256)
        (self.blobs / file.blob).write_bytes(data)
        return file

    def write(self, repo: Repo, revision: str, files: dict[str, File], gone: set[str] = frozenset()) -> str:  # type: ignore[assignment]
        before = repo.commits.get(repo.refs.get(revision, ""), {})
        tree = {path: file for path, file in {**before, **files}.items() if path not in gone}
        text = json.dumps([len(repo.commits), repo.name, {path: file.blob for path, file in sorted(tree.items())}])
        sha = hashlib.sha1(text.encode()).hexdigest()
        repo.commits[sha] = tree
        repo.refs[revision] = sha
        return sha

    def read(self, file: File) -> bytes:
        return (self.blobs / file.blob).read_bytes()

    def info(self, repo: Repo, revision: str = "main", *, card: bool = True) -> dict[str, object]:
        sha = repo.commit(revision)
        tree = repo.commits[sha]
        data: dict[str, object] = {}
        if card and "README.md" in tree:
            data = ModelCard(self.read(tree["README.md"]).decode(), ignore_metadata_errors=True).data.to_dict()
        tags = [*(data.get("tags") or []), *([data["library_name"]] if data.get("library_name") else [])]  # type: ignore[misc]
        siblings = [
            {"rfilename": path, "size": file.size, "blobId": file.oid, "lfs": file.lfs} for path, file in tree.items()
        ]
        return {
            "_id": sha[:24],
            "id": repo.name,
            "modelId": repo.name,
            "author": repo.name.partition("/")[0],
            "sha": sha,
            "private": repo.private,
            "tags": tags,
            "siblings": siblings,
            "cardData": data,
            "downloads": len(repo.commits),
            "likes": 0,
            "library_name": data.get("library_name"),
            "pipeline_tag": data.get("pipeline_tag"),
            "sdk": repo.sdk,
        }
