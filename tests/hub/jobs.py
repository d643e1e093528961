"""Jobs of the Hub: begun, seen, followed and cancelled as huggingface-hub asks for it, and run as processes here."""

import asyncio
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import zipfile
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, StreamingResponse

from .store import Missing

if TYPE_CHECKING:
    from .server import Hub

HARDWARE = [
    {"name": "t4-small", "prettyName": "Nvidia T4 - small", "cpu": "4 vCPU", "ram": "15 GB", "ephemeralStorage": "50 GB",
     "accelerator": {"type": "gpu", "model": "T4", "quantity": "1", "vram": "16 GB", "manufacturer": "Nvidia"},
     "unitCostMicroUSD": 6667, "unitCostUSD": 0.006667, "unitLabel": "minute"},
    {"name": "cpu-basic", "prettyName": "CPU Basic", "cpu": "2 vCPU", "ram": "16 GB", "ephemeralStorage": "20 GB",
     "accelerator": None, "unitCostMicroUSD": 167, "unitCostUSD": 0.000167, "unitLabel": "minute"},
]  # fmt: skip


@dataclass
class Running:
    """A job: what was asked for, what it wrote, and where it stands."""

    id: str
    owner: str
    spec: dict[str, Any]
    lines: list[str] = field(default_factory=list)
    stage: str = "SCHEDULING"
    process: subprocess.Popen[bytes] | None = None

    def info(self) -> dict[str, Any]:
        """As the Hub shows it: of secrets their names alone."""
        spec = self.spec
        return {
            "id": self.id, "createdAt": "2026-01-01T00:00:00.000Z", "command": spec["command"],
            "arguments": spec["arguments"], "environment": spec["environment"], "flavor": spec["flavor"],
            "dockerImage": spec.get("dockerImage"), "labels": spec.get("labels"), "volumes": spec.get("volumes"),
            "secrets": dict.fromkeys(spec.get("secrets", {}), ""), "status": {"stage": self.stage, "message": None},
            "owner": {"id": "1", "name": self.owner, "type": "user"},
        }  # fmt: skip


def jobs(hub: "Hub") -> APIRouter:
    router = APIRouter()

    def authorised(request: Request, owner: str, id: str = "") -> Running:
        user = hub.who(request)
        if user is None:
            raise PermissionError("Invalid username or password.")
        if owner not in user[1]:
            raise Missing("Forbidden")
        if id and id not in hub.jobs:
            raise Missing("JobNotFound")
        return hub.jobs[id] if id else Running("", owner, {})

    @router.get("/api/jobs/hardware")
    def hardware() -> Any:
        return HARDWARE

    @router.post("/api/jobs/{owner}")
    async def begin(request: Request, owner: str) -> Any:
        authorised(request, owner)
        spec = await request.json()
        job = hub.jobs[f"{len(hub.jobs):024x}"] = Running(f"{len(hub.jobs):024x}", owner, spec)
        threading.Thread(target=work, args=(hub, job), daemon=True).start()
        return job.info()

    @router.get("/api/jobs/{owner}")
    def listed(request: Request, owner: str) -> Any:
        authorised(request, owner)
        wanted = [label.split("=", 1) for label in request.query_params.getlist("label")]
        found = [job for job in hub.jobs.values() if job.owner == owner]
        return [job.info() for job in reversed(found) if all(job.spec["labels"].get(k) == v for k, v in wanted)]

    @router.get("/api/jobs/{owner}/{id}")
    def inspect(request: Request, owner: str, id: str) -> Any:
        return authorised(request, owner, id).info()

    @router.post("/api/jobs/{owner}/{id}/cancel")
    def cancel(request: Request, owner: str, id: str) -> Any:
        job = authorised(request, owner, id)
        job.stage = "CANCELED"
        if job.process is not None:
            job.process.kill()
        return JSONResponse({})

    @router.get("/api/jobs/{owner}/{id}/logs")
    def logs(request: Request, owner: str, id: str) -> Any:
        job = authorised(request, owner, id)

        async def stream() -> AsyncIterator[str]:
            sent, breaks = 0, hub.breaks.pop() if hub.breaks else None
            while True:
                over = job.stage not in ("SCHEDULING", "RUNNING")
                while sent < len(job.lines):
                    event = {"timestamp": "2026-01-01T00:00:00.000Z", "data": job.lines[sent]}
                    yield f"event: log\ndata: {json.dumps(event)}\n\n"
                    sent += 1
                    if breaks is not None and sent >= breaks:
                        raise ConnectionResetError
                if over:
                    return
                await asyncio.sleep(0.05)

        return StreamingResponse(stream(), media_type="text/event-stream")

    return router


def work(hub: "Hub", job: Running) -> None:
    """Do what a job's command says, with its volumes where they are mounted, its wheel in the path, in a bare place."""
    with tempfile.TemporaryDirectory(prefix="job-") as temporary:
        place = Path(temporary)
        for volume in job.spec.get("volumes", []):
            repo = hub.store.repos[volume["type"], volume["source"]]
            for path, file in repo.commits[repo.commit("main")].items():
                target = place / volume["mountPath"].strip("/") / path
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(hub.store.read(file))
        command = [str(place / word.strip("/")) if word.startswith("/") else word for word in job.spec["command"]]
        assert command[:3] == ["uv", "run", "--with"], command
        with zipfile.ZipFile(io.BytesIO(Path(command[3]).read_bytes())) as archive:
            archive.extractall(place / "site")
        env = {
            "PATH": os.environ["PATH"], "HOME": temporary, "OMP_NUM_THREADS": "1", "HF_HUB_DISABLE_XET": "1",
            "HF_ENDPOINT": f"http://127.0.0.1:{hub.port}", **job.spec["environment"], **job.spec.get("secrets", {}),
            "PYTHONPATH": os.pathsep.join([str(place / "site"), *(path for path in sys.path if "site-packages" in path)]),
        }  # fmt: skip
        if job.stage == "CANCELED":
            return
        job.lines += ["===== Job started at 2026-01-01 00:00:00 =====", "Installed 60 packages in 2.1s"]
        assert command[4] == "kdgen", command
        job.process = subprocess.Popen([sys.executable, "-P", "-m", "kdgen", *command[5:]], cwd=place, env=env,
                                       stdout=subprocess.PIPE, stderr=subprocess.STDOUT)  # fmt: skip
        job.stage = "RUNNING" if job.stage == "SCHEDULING" else job.stage
        assert job.process.stdout is not None
        for line in job.process.stdout:
            job.lines.append(line.decode().rstrip("\n"))
        code = job.process.wait()
        if job.stage == "RUNNING":
            job.stage = "COMPLETED" if code == 0 else "ERROR"
        shutil.rmtree(place, ignore_errors=True)
