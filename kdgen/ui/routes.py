"""What the server answers itself, before Gradio: the link to another device; and what it adds to every answer."""

import base64
import hashlib
import os
import re
from functools import partial
from html import escape
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.requests import Request, cookie_parser
from starlette.responses import FileResponse, HTMLResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kdgen.types import UserError
from kdgen.ui import browser_student, shared_page, sharing
from kdgen.ui.origin import origin
from kdgen.ui.progress import follow
from kdgen.ui.runs import SECRET, Runs, new_session
from kdgen.ui.sessions import COOKIE, Codes
from kdgen.ui.showcase import FOLDER
from kdgen.ui.theme import HERE, SCRIPTS
from kdgen.ui.words import CHINESE, ENGLISH

COOKIE_SECONDS = 180 * 86_400

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "strict-origin-when-cross-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=()",
}

POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-eval'{hashes}; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; media-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' data: blob: "
    "https://huggingface.co; "
    "worker-src 'self' blob:; object-src 'none'; base-uri 'self'; form-action 'self' https://huggingface.co; "
    "frame-ancestors 'self' https://huggingface.co https://*.hf.space"
)
"""What the page may load. Gradio makes functions of text, so that ``unsafe-eval`` stays; inline scripts are those whose
hashes are named, which are the ones that the server wrote, and no handler within HTML runs."""

ORIGIN = b"https://origin.invalid"
"""Stands in the page for the origin that it is asked at."""

SCRIPT = re.compile(rb"<script(?![^>]*\ssrc=)[^>]*>(.*?)</script>", re.DOTALL)


def routes(runs: Runs, codes: Codes) -> list[BaseRoute]:
    """The routes that come before those of Gradio."""

    async def enter(request: Request) -> Response:
        """Give a browser the session that a code stands for; one with runs of its own is asked first."""
        words = _words(request)
        session = codes.session(request.path_params["code"])
        if not session:
            return HTMLResponse(_page(words["enter_gone"], '<a href="../">kdgen</a>'), 404)
        present = request.cookies.get(COOKIE, "")
        has_runs = bool(SECRET.fullmatch(present) and present != session and runs.owned_by(present))
        if request.method == "POST" and request.headers.get("sec-fetch-site", "same-origin") != "same-origin":
            return HTMLResponse(_page(words["enter_gone"], '<a href="../">kdgen</a>'), 403)
        if request.method != "POST" and has_runs:
            button = f"<form method=post><button>{escape(words['enter_button'])}</button></form>"
            return HTMLResponse(_page(words["enter_asks"], button))
        answer = RedirectResponse("../", 303)
        answer.headers.append("set-cookie", cookie(session, request.scope))
        return answer

    async def shared(request: Request) -> Response:
        """The page of a run that its owner shows."""
        words = _words(request)

        def made() -> HTMLResponse:
            try:
                token = request.path_params["token"]
                home = runs.home(sharing.shown_by(runs, token))
                text = shared_page.page(home / "run", home / FOLDER, words, origin=origin(request.scope),
                                        address=f"/r/{token}")  # fmt: skip
            except (OSError, UserError):
                return HTMLResponse(shared_page.gone(words), 404)
            return HTMLResponse(text, headers={"Cache-Control": "no-store"})

        return await run_in_threadpool(made)

    async def picture(request: Request) -> Response:
        """The picture of link previews of a shared run, and how its student learned."""

        def made() -> Response:
            try:
                job = sharing.shown_by(runs, request.path_params["token"])
                pictures, file = runs.home(job) / FOLDER, request.path_params["file"]
                path = pictures / "learned.webp" if file == "learned.webp" else runs.home(job) / "link.jpg"
                if file == "link.jpg" and not path.is_file():
                    report = follow(runs.home(job) / "run").report()
                    shared_page.link_picture(report, pictures, job.name, path)
                data = path.read_bytes()
            except (OSError, UserError):
                return Response(status_code=404)
            kind = "image/webp" if file == "learned.webp" else "image/jpeg"
            return Response(data, media_type=kind, headers={"Cache-Control": "private, max-age=60"})

        return await run_in_threadpool(made)

    async def front(request: Request) -> Response:
        """The picture of link previews of the page itself."""
        return Response(await run_in_threadpool(shared_page.front_picture), media_type="image/jpeg",
                        headers={"Cache-Control": "public, max-age=86400"})  # fmt: skip

    return [
        *(Route(f"/static/{name}", partial(_script, name)) for name in SCRIPTS),
        *browser_student.routes(runs),
        Route("/enter/{code}", enter, methods=["GET", "POST"]),
        Route("/r/{token}", shared),
        Route("/r/{token}/{file:str}", picture),
        Route("/link.jpg", front),
    ]


def _script(name: str, request: Request) -> Response:
    return FileResponse(HERE / "static" / name, media_type="text/javascript")


def _words(request: Request) -> dict[str, str]:
    return CHINESE if request.headers.get("accept-language", "").lower().startswith("zh") else ENGLISH


def _page(text: str, rest: str) -> str:
    looks = (
        ":root { color-scheme: light dark } body { font: 1.1rem system-ui; margin: 18vh auto; max-width: 32rem; "
        "padding: 0 1rem } button { font: inherit; padding: .6em 1.2em }"
    )
    return (
        '<!doctype html><meta name=viewport content="width=device-width"><title>kdgen</title>'
        f"<style>{looks}</style><main><h1>kdgen</h1><p>{escape(text)}</p>{rest}</main>"
    )


def cookie(session: str, scope: Scope) -> str:
    """The header that sets a session. On a Space, which huggingface.co shows in a frame, the cookie goes with it."""
    forwarded = Headers(scope=scope).get("x-forwarded-proto", scope.get("scheme", "http"))
    secure = forwarded.split(",")[0].strip() == "https"
    framed = secure and bool(os.environ.get("SPACE_ID"))
    kind = "SameSite=None; Secure; Partitioned" if framed else f"SameSite=Lax{'; Secure' if secure else ''}"
    return f"{COOKIE}={session}; Path=/; Max-Age={COOKIE_SECONDS}; HttpOnly; {kind}"


class Guard:
    """Gives every browser a session, keeps other sites' scripts from using it, and adds the headers of safety.

    Args:
        app: what answers.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if _foreign(headers, scope["method"]):
            scope["headers"] = [(name, value) for name, value in scope["headers"] if name != b"cookie"]
        fresh = ""
        if scope["path"] == "/" and scope["method"] == "GET":
            kept = cookie_parser(headers.get("cookie", "")).get(COOKIE, "")
            fresh = cookie(kept if SECRET.fullmatch(kept) else new_session(), scope)
        await _Answer(send, fresh, origin(scope)).through(self.app, scope, receive)


class _Answer:
    """An answer on its way out; pages are held back until their scripts are known."""

    def __init__(self, send: Send, fresh: str, origin: str) -> None:
        self.send, self.fresh, self.origin = send, fresh, origin
        self.start: Message | None = None
        self.body = bytearray()

    async def through(self, app: ASGIApp, scope: Scope, receive: Receive) -> None:
        """Let a request be answered."""
        await app(scope, receive, self._pass)

    async def _pass(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
            if self.fresh:
                headers.append("set-cookie", self.fresh)
            if headers.get("content-type", "").startswith("text/html"):
                self.start = message
                return
            if "javascript" not in headers.get("content-type", ""):  # its own policy would bind a worker
                headers.setdefault("Content-Security-Policy", "default-src 'none'; sandbox; frame-ancestors 'self'")
        elif self.start is not None:
            self.body += message.get("body", b"")
            if message.get("more_body"):
                return
            headers = MutableHeaders(scope=self.start)
            self.body = self.body.replace(ORIGIN, self.origin.encode())
            headers["Content-Length"] = str(len(self.body))
            headers["Content-Security-Policy"] = POLICY.format(hashes=_hashes(bytes(self.body)))
            await self.send(self.start)
            self.start = None
            message = {**message, "body": bytes(self.body)}
        await self.send(message)


def _hashes(page: bytes) -> str:
    found = (base64.b64encode(hashlib.sha256(script).digest()).decode() for script in SCRIPT.findall(page))
    return "".join(f" 'sha256-{each}'" for each in dict.fromkeys(found))


def _foreign(headers: Headers, method: str) -> bool:
    """Whether a script or form of another site asks, which must not do so in the visitor's name; a link may."""
    link = headers.get("sec-fetch-mode") == "navigate" and method in ("GET", "HEAD")
    return headers.get("sec-fetch-site", "") in ("cross-site", "same-site") and not link


def server_arguments(runs: Runs, codes: Codes) -> dict[str, Any]:
    """What the server within Gradio is made with."""
    return {"routes": routes(runs, codes), "middleware": [Middleware(Guard)]}
