"""What the server answers to whoever has a link, or owns a run: shared pages, link pictures, animations."""

from functools import lru_cache
from pathlib import Path

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, Response
from starlette.routing import BaseRoute, Route

from kdgen.types import UserError
from kdgen.ui import shared_page, sharing
from kdgen.ui.origin import origin
from kdgen.ui.progress import follow
from kdgen.ui.runs import Runs
from kdgen.ui.sessions import COOKIE
from kdgen.ui.showcase import FOLDER, LEARNED
from kdgen.ui.words import words_of

KINDS = {".webp": "image/webp", ".gif": "image/gif"}
KEPT = 64
"""Pictures of link previews that are kept."""


@lru_cache(maxsize=KEPT)
def _preview(home: Path, name: str, shown: bool) -> bytes:
    """The picture of link previews of a run; ``shown`` says whether there are pictures of what its student does."""
    return shared_page.link_picture(follow(home / "run").report(), home / FOLDER, name)


def shared_routes(runs: Runs) -> list[BaseRoute]:
    """The routes. None of them changes anything."""

    async def shared(request: Request) -> Response:
        """The page of a run that its owner shows."""
        words = words_of(request.headers)

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
                home, file = runs.home(job), request.path_params["file"]
                if file in LEARNED:
                    data = (home / FOLDER / file).read_bytes()
                else:
                    data = _preview(home, job.name, (home / FOLDER).is_dir())
            except (OSError, UserError):
                return Response(status_code=404)
            kind = KINDS.get(Path(file).suffix, "image/jpeg")
            return Response(data, media_type=kind, headers={"Cache-Control": "private, max-age=60"})

        return await run_in_threadpool(made)

    async def learned(request: Request) -> Response:
        """How the student of a visitor's own run learned."""
        try:
            home = runs.home(runs.get(request.path_params["run"], request.cookies.get(COOKIE, "")))
        except UserError:
            return Response(status_code=404)
        path = home / FOLDER / "learned.gif"
        return FileResponse(path, filename=path.name) if path.is_file() else Response(status_code=404)

    async def front(request: Request) -> Response:
        """The picture of link previews of the page itself."""
        return Response(await run_in_threadpool(shared_page.front_picture), media_type="image/jpeg",
                        headers={"Cache-Control": "public, max-age=86400"})  # fmt: skip

    return [
        Route("/r/{token}", shared), Route("/r/{token}/{file:str}", picture),
        Route("/learned/{run}.gif", learned), Route("/link.jpg", front),
    ]  # fmt: skip
