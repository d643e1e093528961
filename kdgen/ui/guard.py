"""Between the server and the page: a session for every browser, bounds on requests, and the headers of safety."""

import base64
import hashlib
import os
import re

from gradio import route_utils
from gradio.route_utils import GradioMultiPartParser
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.requests import cookie_parser
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kdgen.types import Text, text
from kdgen.ui.job import SECRET, new_session
from kdgen.ui.origin import origin
from kdgen.ui.sessions import COOKIE
from kdgen.ui.shared_page import previews_of
from kdgen.ui.uploads import Uploads
from kdgen.ui.words import translated, words_of

BODY_BYTES, UPLOAD_BYTES, FIELD_BYTES = 4_000_000, 500_000_000, 1000
"""Bytes of a request, of one that uploads files, and of a field in that which is no file."""

COOKIE_SECONDS = 180 * 86_400

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "strict-origin-when-cross-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=()",
}

POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-eval'{hashes}; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob: https://cdn-avatars.huggingface.co; media-src 'self' data: blob:; "
    "font-src 'self' data:; connect-src 'self' data: blob: "
    "https://huggingface.co; "
    "worker-src 'self' blob:; object-src 'none'; base-uri 'self'; form-action 'self' https://huggingface.co; "
    "frame-ancestors 'self' https://huggingface.co https://*.hf.space"
)
"""What the page may load. Gradio makes functions of text, so that ``unsafe-eval`` stays; inline scripts are those whose
hashes are named, which are the ones that the server wrote, and no handler within HTML runs."""

PREVIEWS = re.compile(rb'<meta\s+(?:property|name)="(?:og|twitter):[^>]*>')
"""What Gradio says of a page to those that show links."""

LANGUAGE = b"""<script>
if (/^zh\\b/i.test(navigator.language) && !/^zh-(CN|TW)$/.test(navigator.language))
  Object.defineProperty(navigator, "language", {value: "zh-CN"});
</script>"""
"""Before Gradio looks at the browser's language: of Chinese it knows two by name, and takes any other for English."""

SCRIPT = re.compile(rb"<script(?![^>]*\ssrc=)[^>]*>(.*?)</script>", re.DOTALL)


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
        uploads: where uploads go.
    """

    def __init__(self, app: ASGIApp, uploads: Uploads) -> None:
        self.app, self.uploads = app, uploads

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if _foreign(headers, scope["method"]):
            scope["headers"] = [(name, value) for name, value in scope["headers"] if name != b"cookie"]
        if (complaint := await self._oversized(scope, headers)) is not None:
            await complaint(scope, receive, send)
            return
        fresh, previews = "", b""
        if scope["path"] == "/" and scope["method"] == "GET":
            kept = cookie_parser(headers.get("cookie", "")).get(COOKIE, "")
            previews = _previews(scope)
            fresh = cookie(kept if SECRET.fullmatch(kept) else new_session(), scope)
        called = scope["path"].startswith(("/gradio_api/run/", "/gradio_api/api/"))
        if "content-length" not in headers:
            receive = _counted(receive, UPLOAD_BYTES if _uploads(scope) else BODY_BYTES)
        await _Answer(send, fresh, previews, called=called).through(self.app, scope, receive)

    async def _oversized(self, scope: Scope, headers: Headers) -> Response | None:
        """A refusal of a request whose body says that it is too large."""
        if scope["method"] in ("GET", "HEAD", "OPTIONS"):
            return None
        upload = _uploads(scope)
        most = UPLOAD_BYTES if upload else BODY_BYTES
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > most:
            return JSONResponse({"error": translated(_too_large(most), words_of(headers))}, 413)
        if upload and await run_in_threadpool(self.uploads.full):
            full = text("uploads_full", "too many files were uploaded here lately: come back in an hour")
            return JSONResponse({"error": translated(full, words_of(headers))}, 507)
        return None


def _too_large(most: int) -> Text:
    return text("request_bytes", "a request is at most {most:,} bytes here", most=most)


def _uploads(scope: Scope) -> bool:
    return bool(scope["path"].rstrip("/").endswith("/upload"))


def _counted(receive: Receive, most: int) -> Receive:
    """A body of unknown size, of which no more than so many bytes are read."""
    count = 0

    async def counting() -> Message:
        nonlocal count
        message = await receive()
        count += len(message.get("body", b""))
        if count > most:
            raise HTTPException(413, str(_too_large(most)))
        return message

    return counting


class FilesAlone(GradioMultiPartParser):
    """What reads the body of an upload: other fields than files, which Gradio gathers in memory, are bounded."""

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        """Take a piece of a part. Raises MultiPartException for a field that is no file and too long."""
        part = self._current_part
        if part.file is None and len(part.data) + end - start > FIELD_BYTES:
            raise MultiPartException(f"a field of an upload that is no file has at most {FIELD_BYTES} bytes")
        super().on_part_data(data, start, end)


route_utils.GradioMultiPartParser = FilesAlone  # type: ignore[misc]


class _Answer:
    """An answer on its way out; pages are held back until their scripts are known.

    Args:
        send: passes it on.
        fresh: a session to set, or nothing.
        previews: what stands in its head for those that show links; nothing leaves it as it is.
        called: whether it is what a handler gave, whose mistakes of the visitor's are not faults of the server.
    """

    def __init__(self, send: Send, fresh: str, previews: bytes, *, called: bool) -> None:
        self.send, self.fresh, self.previews, self.called = send, fresh, previews, called
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
            html = headers.get("content-type", "").startswith("text/html")
            if html or (self.called and message["status"] == 500):
                self.start = message
                return
            if "javascript" not in headers.get("content-type", ""):  # its own policy would bind a worker
                headers.setdefault("Content-Security-Policy", "default-src 'none'; sandbox; frame-ancestors 'self'")
        elif self.start is not None:
            self.body += message.get("body", b"")
            if message.get("more_body"):
                return
            if self.start["status"] == 500 and b'"error":null' not in self.body:
                self.start = {**self.start, "status": 422}
            if self.previews:
                self.body = bytearray(
                    PREVIEWS.sub(b"", self.body).replace(b"</head>", self.previews + LANGUAGE + b"</head>", 1)
                )
            headers = MutableHeaders(scope=self.start)
            headers["Content-Length"] = str(len(self.body))
            headers["Content-Security-Policy"] = POLICY.format(hashes=_hashes(bytes(self.body)))
            await self.send(self.start)
            self.start = None
            message = {**message, "body": bytes(self.body)}
        await self.send(message)


def _previews(scope: Scope) -> bytes:
    """Title, sentence and picture of the page itself, for those that show links."""
    words, at = words_of(Headers(scope=scope)), origin(scope)
    title = f"kdgen: {words['link_title']}"
    return previews_of(title, words["tagline"], f"{at}/link.jpg", f"{at}/").encode()


def _hashes(page: bytes) -> str:
    found = (base64.b64encode(hashlib.sha256(script).digest()).decode() for script in SCRIPT.findall(page))
    return "".join(f" 'sha256-{each}'" for each in dict.fromkeys(found))


def _foreign(headers: Headers, method: str) -> bool:
    """Whether a script or form of another site asks, which must not do so in the visitor's name; a link may."""
    link = headers.get("sec-fetch-mode") == "navigate" and method in ("GET", "HEAD")
    return headers.get("sec-fetch-site", "") in ("cross-site", "same-site") and not link
