"""A Hub on the loopback: the protocol as huggingface-hub speaks it, files on disk, failures on demand.

By itself: ``python -m tests.hub.server FOLDER PORT``, then ``HF_ENDPOINT=http://127.0.0.1:PORT`` for the client, and
``HF_TOKEN=hf_writer_of_acme_0001`` to write to ``acme``.
"""

import asyncio
import base64
import json
import re
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, RedirectResponse, Response
from huggingface_hub import ModelCard

from .jobs import Running, jobs
from .storage import content, storage
from .store import LFS, Missing, Repo, Store


@dataclass
class Fault:
    """What to answer to the next requests that match: a status, or no answer and a dropped connection."""

    match: str
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    times: int = 1
    message: str = ""
    delay: float = 0.0


class Hub:
    """The server, and what tests want to know of it."""

    def __init__(self, root: Path, port: int) -> None:
        self.store, self.port = Store(root), port
        self.users = {"hf_writer_of_acme_0001": ("ada", {"ada", "acme"}), "hf_reader_of_nothing_1": ("bob", set())}
        self.faults: list[Fault] = []
        self.seen: list[str] = []
        self.jobs: dict[str, Running] = {}
        self.breaks: list[int] = []
        config = uvicorn.Config(self, host="127.0.0.1", port=port, log_level="critical", lifespan="off")
        self.uvicorn = uvicorn.Server(config)
        self.app = application(self)
        self.thread = threading.Thread(target=self.uvicorn.run, daemon=True)

    def start(self) -> None:
        self.thread.start()
        while not self.uvicorn.started:
            time.sleep(0.01)

    def stop(self) -> None:
        self.uvicorn.should_exit = True
        self.thread.join()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        line = f"{scope['method']} {scope['path']}"
        self.seen.append(line)
        for fault in self.faults:
            if fault.times > 0 and re.search(fault.match, line):
                fault.times -= 1
                await asyncio.sleep(fault.delay)
                if fault.status == 0:
                    await receive()
                    receive.__self__.transport.abort()
                    return
                while (await receive()).get("more_body"):
                    pass
                headers = {**fault.headers, **({"X-Error-Message": fault.message} if fault.message else {})}
                await JSONResponse({"error": fault.message}, fault.status, headers)(scope, receive, send)
                return
        await self.app(scope, receive, send)

    def who(self, request: Request) -> tuple[str, set[str]] | None:
        """The user of a request, None for nobody. Raises for a token that nobody has."""
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        if token and token not in self.users:
            raise PermissionError("Invalid credentials in Authorization header")
        return self.users[token] if token else None

    def repo(self, request: Request, kind: str, name: str, *, write: bool = False) -> Repo:
        user, repo = self.who(request), self.store.repos.get((kind, name))
        mine = user is not None and name.partition("/")[0] in user[1]
        if repo is None or (repo.private and not mine):
            raise Missing("RepoNotFound")
        if write and not mine:
            raise Missing("Forbidden")
        return repo


def refused(error: Exception) -> Response:
    """The Hub's answer to what went wrong."""
    if isinstance(error, PermissionError):
        return JSONResponse({"error": str(error)}, 401, {"X-Error-Message": str(error)})
    code = error.code if isinstance(error, Missing) else str(error)
    if code == "Forbidden":
        return JSONResponse({"error": "Forbidden"}, 403, {"X-Error-Message": "You don't have the rights"})
    return JSONResponse({"error": code}, 404, {"X-Error-Code": code, "X-Error-Message": code})


def application(hub: Hub) -> FastAPI:
    app, store = FastAPI(), hub.store
    app.include_router(storage(store, hub.port))
    app.include_router(jobs(hub))
    app.add_exception_handler(PermissionError, lambda request, error: refused(error))
    app.add_exception_handler(Missing, lambda request, error: refused(error))

    @app.get("/api/whoami-v2")
    def whoami(request: Request) -> Any:
        user = hub.who(request)
        if user is None:
            raise PermissionError("Invalid username or password.")
        return {"type": "user", "name": user[0], "orgs": [{"name": org} for org in user[1] - {user[0]}]}

    @app.post("/api/validate-yaml")
    async def validate(request: Request) -> Any:
        body = await request.json()
        try:
            data = ModelCard(body["content"]).data.to_dict()
        except Exception as error:
            return JSONResponse({"errors": [{"message": str(error)}], "warnings": []}, 400)
        return {"errors": [], "warnings": [] if data else [{"message": "empty metadata"}]}

    @app.post("/api/repos/create")
    async def create(request: Request) -> Any:
        body, user = await request.json(), hub.who(request)
        if user is None:
            raise PermissionError("Invalid username or password.")
        owner, kind = body.get("organization") or user[0], body.get("type", "model")
        name = f"{owner}/{body['name']}"
        if owner not in user[1]:
            raise Missing("Forbidden")
        created = {"url": f"http://127.0.0.1:{hub.port}/{'spaces/' if kind == 'space' else ''}{name}", "name": name}
        if (kind, name) in store.repos:
            return JSONResponse({**created, "error": "You already created this repo"}, 409)
        store.create(kind, name, private=body.get("visibility") == "private", sdk=body.get("sdk"))
        return created

    @app.delete("/api/repos/delete")
    async def delete(request: Request) -> Any:
        body = await request.json()
        kind, name = body.get("type", "model"), f"{body['organization']}/{body['name']}"
        hub.repo(request, kind, name, write=True)
        del store.repos[kind, name]
        return Response()

    @app.post("/api/spaces/{org}/{name}/hardware")
    async def hardware(request: Request, org: str, name: str) -> Any:
        hub.repo(request, "space", f"{org}/{name}", write=True)
        flavor = (await request.json())["flavor"]
        return {"stage": "BUILDING", "hardware": {"current": None, "requested": flavor}}

    @app.get("/api/models")
    def search(request: Request) -> Any:
        hub.who(request)
        wanted, author = set(request.query_params.getlist("filter")), request.query_params.get("author")
        infos = [store.info(repo) for (kind, _), repo in store.repos.items() if kind == "model" and not repo.private]
        found = [info for info in infos if wanted <= set(info["tags"]) and author in (None, info["author"])]  # type: ignore[call-overload]
        found.sort(key=lambda info: -info["downloads"])  # type: ignore[operator]
        start, count = int(request.query_params.get("cursor", 0)), 2
        more = start + count < len(found)
        url = str(request.url.include_query_params(cursor=start + count))
        return JSONResponse(found[start : start + count], headers={"Link": f'<{url}>; rel="next"'} if more else {})

    @app.get("/api/{kinds}/{org}/{name}")
    @app.get("/api/{kinds}/{org}/{name}/revision/{revision:path}")
    def info(request: Request, kinds: str, org: str, name: str, revision: str = "main") -> Any:
        return store.info(hub.repo(request, kinds[:-1], f"{org}/{name}"), revision)

    @app.get("/api/{kinds}/{org}/{name}/tree/{revision:path}")
    def tree(request: Request, kinds: str, org: str, name: str, revision: str) -> Any:
        repo = hub.repo(request, kinds[:-1], f"{org}/{name}")
        files = repo.commits[repo.commit(revision)]
        return [
            {"type": "file", "path": path, "oid": file.oid, "size": file.size, "lfs": file.lfs}
            for path, file in files.items()
        ]

    @app.post("/api/{kinds}/{org}/{name}/branch/{branch:path}")
    def branch(request: Request, kinds: str, org: str, name: str, branch: str) -> Any:
        repo = hub.repo(request, kinds[:-1], f"{org}/{name}", write=True)
        if branch in repo.refs:
            return JSONResponse({"error": "Reference already exists"}, 409)
        repo.refs[branch] = repo.refs["main"]
        return {}

    @app.post("/api/{kinds}/{org}/{name}/preupload/{revision:path}")
    async def preupload(request: Request, kinds: str, org: str, name: str, revision: str) -> Any:
        asked = request.query_params.get("create_pr") == "1"
        repo = hub.repo(request, kinds[:-1], f"{org}/{name}", write=not asked)
        tree = repo.commits[repo.commit(revision)]
        return {
            "files": [
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if file["path"].endswith(LFS) or file["size"] > 10**7 else "regular",
                    "shouldIgnore": False,
                    "oid": tree[file["path"]].blob if file["path"] in tree else None,
                }
                for file in (await request.json())["files"]
            ]
        }

    @app.post("/api/{kinds}/{org}/{name}/commit/{revision:path}")
    async def commit(request: Request, kinds: str, org: str, name: str, revision: str) -> Any:
        propose = request.query_params.get("create_pr") == "1"
        repo = hub.repo(request, kinds[:-1], f"{org}/{name}", write=not propose)
        repo.commit(revision)
        files, gone = {}, set()
        for line in (await request.body()).splitlines():
            item = json.loads(line)
            value = item["value"]
            if item["key"] == "file":
                files[value["path"]] = store.keep(base64.b64decode(value["content"]))
            elif item["key"] == "lfsFile":
                blob = store.blobs / value["oid"]
                if not blob.is_file() or blob.stat().st_size != value["size"]:
                    return JSONResponse({"error": f"LFS pointer points to nothing: {value['path']}"}, 400)
                files[value["path"]] = store.keep(blob.read_bytes(), lfs=True)
            elif item["key"] == "deletedFile":
                gone.add(value["path"])
        url = f"http://127.0.0.1:{hub.port}/{repo.name}"
        number = 1 + sum(ref.startswith("refs/pr/") for ref in repo.refs)
        if propose:
            repo.refs[f"refs/pr/{number}"] = repo.refs["main"]
        sha = store.write(repo, f"refs/pr/{number}" if propose else revision, files, gone)
        return {
            "commitUrl": f"{url}/commit/{sha}",
            "commitOid": sha,
            "pullRequestUrl": f"{url}/discussions/{number}" if propose else None,
        }

    @app.api_route("/spaces/{org}/{name}/resolve/{rest:path}", methods=["GET", "HEAD"])
    def resolve_space(request: Request, org: str, name: str, rest: str) -> Any:
        return resolved(request, hub.repo(request, "space", f"{org}/{name}"), rest)

    @app.api_route("/{org}/{name}/resolve/{rest:path}", methods=["GET", "HEAD"])
    def resolve(request: Request, org: str, name: str, rest: str) -> Any:
        return resolved(request, hub.repo(request, "model", f"{org}/{name}"), rest)

    def resolved(request: Request, repo: Repo, rest: str) -> Response:
        count = 3 if rest.startswith("refs/") else 1
        parts = rest.split("/")
        sha = repo.commit("/".join(parts[:count]))
        file = repo.commits[sha].get("/".join(parts[count:]))
        if file is None:
            raise Missing("EntryNotFound")
        headers = {"X-Repo-Commit": sha, "ETag": f'"{file.blob}"'}
        if file.sha256 is not None:
            linked = {"X-Linked-ETag": f'"{file.sha256}"', "X-Linked-Size": str(file.size)}
            return RedirectResponse(f"http://localhost:{hub.port}/cdn/{file.sha256}", 302, {**headers, **linked})
        return content(request, store.read(file), headers)

    return app


if __name__ == "__main__":
    Hub(Path(sys.argv[1]), int(sys.argv[2])).uvicorn.run()
