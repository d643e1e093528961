"""What the server answers itself, before Gradio: files that kdgen made, and the link to another device."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from html import escape
from pathlib import Path
from typing import Any

from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import (
    FileResponse,
    HTMLResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
)
from starlette.routing import BaseRoute, Route

from kdgen.ui import browser_student
from kdgen.ui.guard import Guard, cookie
from kdgen.ui.job import SECRET
from kdgen.ui.runs import SERVED, Runs
from kdgen.ui.sessions import COOKIE, Codes
from kdgen.ui.shared_routes import shared_routes
from kdgen.ui.theme import STATIC
from kdgen.ui.uploads import Uploads
from kdgen.ui.words import words_of

CLOSED = (
    "file/{path:path}", "proxy={url:path}", "stream/{rest:path}", "deep_link", "dev/reload", "process_recording",
    "custom_component/{rest:path}", "run-history/{rest:path}", "runs", "vibe-edit", "undo-vibe-edit", "vibe-code",
    "vibe-starter-queries", "vibe-edit/", "undo-vibe-edit/", "vibe-code/", "vibe-starter-queries/",
    "component_server", "component_server/",
)  # fmt: skip
"""Of Gradio's own answers those that fetch, keep or send what this page never asks for."""


METHODS = ["GET", "POST", "PUT", "DELETE", "PATCH"]
MAGIC = {b"\x89PNG\r\n\x1a\n": "image/png", b"\xff\xd8\xff": "image/jpeg", b"GIF87a": "image/gif",
         b"GIF89a": "image/gif"}  # fmt: skip


def routes(runs: Runs, codes: Codes) -> list[BaseRoute]:
    """The routes that come before those of Gradio."""
    served = (runs.limits.folder / SERVED).resolve()

    async def enter(request: Request) -> Response:
        """Give a browser the session that a code stands for.

        One with runs of its own is asked first, and one that a page of elsewhere sent here: whoever made the code sees
        what is done in its session.
        """
        words = words_of(request.headers)
        session = codes.session(request.path_params["code"])
        if not session:
            return HTMLResponse(_page(words["enter_gone"], '<a href="../">kdgen</a>'), 404)
        present = request.cookies.get(COOKIE, "")
        has_runs = bool(SECRET.fullmatch(present) and present != session and runs.owned_by(present))
        came_from = request.headers.get("sec-fetch-site", "")
        if request.method == "POST" and came_from not in ("", "same-origin"):
            return HTMLResponse(_page(words["enter_gone"], '<a href="../">kdgen</a>'), 403)
        if request.method != "POST" and (has_runs or came_from not in ("none", "same-origin")):
            button = f"<form method=post><button>{escape(words['enter_button'])}</button></form>"
            return HTMLResponse(_page(words["enter_asks" if has_runs else "enter_from_elsewhere"], button))
        answer = RedirectResponse("../", 303)
        answer.headers.append("set-cookie", cookie(session, request.scope))
        return answer

    async def file(request: Request) -> Response:
        """A file that kdgen made: a picture within the page, anything else to be saved."""
        return sent(served, request.path_params["path"])

    async def script(request: Request) -> Response:
        """What a page does in the browser."""
        file = STATIC / f"{request.path_params['name']}.js"
        if file.parent != STATIC or not file.is_file():
            return PlainTextResponse("not found", 404)
        return FileResponse(file, media_type="text/javascript", headers={"Cache-Control": "no-cache"})

    closed = [Route(f"/gradio_api/{path}", gone, methods=METHODS) for path in CLOSED]
    return [
        Route("/enter/{code}", enter, methods=["GET", "POST"]),
        Route("/gradio_api/file={path:path}", file, methods=["GET"]),
        Route("/kdgen/{name}.js", script, methods=["GET"]),
        *shared_routes(runs),
        *browser_student.routes(runs),
        *closed,
        *(
            Route(path, gone, methods=METHODS)
            for path in ("/monitoring", "/monitoring/{rest:path}", "/pwa_icon/{size}")
        ),
    ]


async def gone(request: Request) -> Response:
    """What Gradio offers and this page does not use."""
    return PlainTextResponse("not found", 404)


def sent(folder: Path, path: str) -> Response:
    """A file of a folder: a picture as such, by what it holds, anything else to be saved; 403 for all others."""
    try:
        file = Path(path).resolve()
        if not (file.is_relative_to(folder) and file.is_file()):
            return PlainTextResponse("not allowed", 403)
        with file.open("rb") as opened:
            kind = media_type(opened.read(16))
    except (OSError, ValueError):
        return PlainTextResponse("not allowed", 403)
    return FileResponse(
        file, media_type=kind or "application/octet-stream", filename=file.name,
        content_disposition_type="inline" if kind else "attachment", headers={"Cache-Control": "private, max-age=3600"},
    )  # fmt: skip


def media_type(head: bytes) -> str:
    """The type of a picture or film by its first bytes; empty for anything else."""
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "image/webp"
    if head[4:8] == b"ftyp":
        return "video/mp4"
    return next((kind for magic, kind in MAGIC.items() if head.startswith(magic)), "")


def _page(text: str, rest: str) -> str:
    looks = (
        ":root { color-scheme: light dark } body { font: 1.1rem system-ui; margin: 18vh auto; max-width: 32rem; "
        "padding: 0 1rem } button { font: inherit; padding: .6em 1.2em }"
    )
    return (
        '<!doctype html><meta name=viewport content="width=device-width"><title>kdgen</title>'
        f"<style>{looks}</style><main><h1>kdgen</h1><p>{escape(text)}</p>{rest}</main>"
    )


def server_arguments(runs: Runs, codes: Codes, uploads: Uploads) -> dict[str, Any]:
    """What the server within Gradio is made with."""

    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[None]:
        app.uploaded_file_dir = str(uploads.folder)
        yield

    return {
        "routes": routes(runs, codes),
        "middleware": [Middleware(Guard, uploads=uploads)],
        "lifespan": lifespan,
    }
