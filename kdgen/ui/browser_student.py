"""A finished student for the visitor's own device: as ONNX, with an input and what the server's torch makes of it.

A process of its own makes the files (``python -m kdgen.ui.browser_student RUN FOLDER``); the browser runs them by
onnxruntime-web and holds its picture against the server's.
"""

import json
import sys
import threading
from dataclasses import asdict
from html import escape
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio
import anyio.to_thread
import torch
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import BaseRoute, Route

import kdgen.training.registered  # noqa: F401
from kdgen.export import export_model
from kdgen.export.inputs import at_sizes, evaluation_inputs
from kdgen.metrics.cost import num_params
from kdgen.models.input_shape import input_shape
from kdgen.models.model import load
from kdgen.models.nets.fold import folded
from kdgen.models.task_arguments import task_class
from kdgen.tasks.infer_task import task_of
from kdgen.types import Batch, Event, UserError, text
from kdgen.types.text import restored, with_texts
from kdgen.ui.job import Job, not_done
from kdgen.ui.markup import Words
from kdgen.ui.onnxruntime_web import FILES, VERSION, runtime
from kdgen.ui.process import INTERRUPTED, KILLED, complaint, environment, execute
from kdgen.ui.runs import Runs
from kdgen.ui.sessions import COOKIE
from kdgen.ui.sharing import shown_by
from kdgen.ui.words import translated, words_of
from kdgen.utils.convert import write_text
from kdgen.utils.devices import fastest_seconds

MADE = {"student.onnx": "application/octet-stream", "x.bin": "application/octet-stream",
        "out.bin": "application/octet-stream", "facts.json": "application/json"}  # fmt: skip
"""The files of a student, and their kinds."""

DRAWN = 16
"""Images of a student that draws."""

SIDE = 256
"""Largest height and width of the picture that a student restores."""

SECONDS = 120
"""How long it may take to make the files."""

REFUSED = 2
"""Exit code for a student that cannot run in a browser."""

WAITING = anyio.CapacityLimiter(8)
"""Threads in which files are made or waited for, beside those that answer everything else."""

IMMUTABLE = {"Cache-Control": "public, max-age=31536000, immutable"}

LINES = ("run", "loading", "running", "figures", "input", "own", "own_info", "own_figures", "failed", "here", "server")
"""What the element says, ``local_KEY`` among the words of the page."""

_making = threading.Lock()


def make(run: Path, folder: Path) -> None:
    """Write the files of a run's student into a folder, `facts.json` last.

    Raises:
        UserError: for a student that neither restores pictures nor draws them in one call; as ``export_model``.
    """
    model = load(str(run)).eval()
    kind, task = task_class(model.task), task_of(model)
    restores = (kind.reads, kind.gives) == ("images", "images")
    if not restores and (kind.draws is None or "sampler" in model.task or task.needs):
        raise UserError(text("many_calls", "{name} is asked many times for one image: only students that restore "
                             "pictures, or draw them in one call, run in the browser", name=model.name))  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    exported = export_model(model, folder / "student.onnx", format="onnx", task=task)
    batch = evaluation_inputs(model, task)[0] if restores else next(iter(task.batches(batch_size=DRAWN, seed=0)))
    net = folded(model.net).eval()
    if restores:
        x = batch.x[:1, :, :SIDE, :SIDE]
        batch = next(at_sizes(Batch(x=x, cond=batch.cond), input_shape(net, x, batch.cond)))
    x, cond = batch.x, {name: batch.cond[name] for name in exported.parity.inputs if name != "x"}
    with torch.inference_mode():
        out = net(x, **cond)
        seconds = fastest_seconds(lambda: net(x, **cond), torch.device("cpu"))
    (folder / "x.bin").write_bytes(x.float().numpy().astype("<f4").tobytes())
    octets = ((out.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    (folder / "out.bin").write_bytes(octets.numpy().tobytes())
    facts = {
        "name": model.name, "parameters": num_params(net), "restores": restores, "x": list(x.shape),
        "out": list(out.shape), "server_ms": 1000 * seconds,
        "conditions": {name: {"dims": list(value.shape), "values": value.flatten().tolist(),
                              "type": "int64" if value.dtype == torch.int64 else "float32"}
                       for name, value in cond.items()},
    }  # fmt: skip
    write_text(folder / "facts.json", json.dumps(facts))


def made(runs: Runs, job: Job) -> Path:
    """The folder with the files of a finished run's student, which are made when first asked for, or refused for good.

    Raises:
        UserError: for a run that is not done, and for a student that cannot run in a browser.
    """
    if job.state != "done":
        raise UserError(not_done(job))
    home = runs.home(job)
    folder, refusal = home / "browser", home / "browser.json"
    with _making:
        if not ((folder / "facts.json").is_file() or refusal.is_file()):
            _make(runs, home, folder, refusal)
    if refusal.is_file():
        raise UserError(restored(json.loads(refusal.read_text(encoding="utf-8")))["message"])
    return folder


def _make(runs: Runs, home: Path, folder: Path, refusal: Path) -> None:
    """Make the files in a process bounded in time and memory, or write down why there are none."""
    paths = [str(path.resolve()) for path in (home / "run", folder)]
    arguments, limits = [sys.executable, "-m", "kdgen.ui.browser_student", *paths], runs.limits
    with TemporaryDirectory(prefix="browser-", dir=limits.folder) as place:
        env = environment(limits.folder / "cache")
        code = execute(arguments, Path(place), SECONDS, env=env, memory=limits.memory_bytes)
        if code in (*INTERRUPTED, *KILLED):
            raise UserError(text("too_large_for_browser", "to export this student took more than {seconds} s, or all "
                                 "memory: it is too large for a browser", seconds=SECONDS))  # fmt: skip
        reason = complaint(Path(place), code) if code else None
    if code == REFUSED:
        write_text(refusal, json.dumps(with_texts({"message": reason})))
    elif reason is not None:
        raise UserError(reason)


def routes(runs: Runs) -> list[BaseRoute]:
    """What the browser fetches: onnxruntime-web, and a student's files for its owner."""

    async def of_runtime(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in FILES:
            return Response(status_code=404)
        try:
            folder = await run_in_threadpool(runtime)
        except UserError as error:
            return JSONResponse({"error": translated(error, words_of(request.headers))}, 503)
        kind = "application/wasm" if name.endswith(".wasm") else "text/javascript"
        return FileResponse(folder / f"{name}.gz", media_type=kind, headers={**IMMUTABLE, "Content-Encoding": "gzip"})

    async def of_student(request: Request) -> Response:
        name, token = request.path_params["name"], request.path_params.get("token")
        if name not in MADE:
            return Response(status_code=404)
        try:
            session = request.cookies.get(COOKIE, "")
            job = shown_by(runs, token) if token else runs.get(request.path_params["run"], session)
            folder = await anyio.to_thread.run_sync(made, runs, job, limiter=WAITING)
        except UserError as error:
            return JSONResponse({"error": translated(error, words_of(request.headers))}, 404)
        return FileResponse(folder / name, media_type=MADE[name], headers={"Cache-Control": "private, max-age=3600"})

    return [
        Route("/onnxruntime-web/" + VERSION + "/{name}", of_runtime),
        Route("/browser/{run}/{name}", of_student),
        Route("/r/{token}/browser/{name}", of_student),
    ]


def element(source: str, task: str, words: Words) -> str:
    """The element of the page that runs a student; nothing for a task whose students are asked many times an image.

    Args:
        source: the address of the student's files, relative to the server's root, with a slash at its end.
        task: the name of the student's task.
        words: of the visitor's language.
    """
    kind = task_class({"name": task})
    if (kind.reads, kind.gives) != ("images", "images") and kind.draws != "latents":
        return ""
    said = {key: words[f"local_{key}"] for key in LINES}
    return (f'<kd-browser-student data-source="{escape(source)}" data-runtime="onnxruntime-web/{VERSION}/" '
            f'data-words="{escape(json.dumps(said))}"></kd-browser-student>')  # fmt: skip


def main() -> None:
    """Make the files of a run's student; exit with 2 and one line for one that cannot run in a browser."""
    try:
        make(Path(sys.argv[1]), Path(sys.argv[2]))
    except UserError as error:
        print(json.dumps(with_texts(asdict(Event(kind="refused", data={"message": error.text})))))
        print(f"kdgen: {error}", file=sys.stderr)
        sys.exit(REFUSED)


if __name__ == "__main__":
    main()
