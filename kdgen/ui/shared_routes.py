"""What the server answers to whoever has a link, or owns a run: shared pages, link pictures, animations."""

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

KINDS = {".webp": "image/webp", ".gif": "image/gif", ".jpg": "image/jpeg"}


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
                pictures, file = runs.home(job) / FOLDER, request.path_params["file"]
                path = pictures / file if file in LEARNED else runs.home(job) / "link.jpg"
                if file == "link.jpg" and not path.is_file():
                    report = follow(runs.home(job) / "run").report()
                    shared_page.link_picture(report, pictures, job.name, path)
                data = path.read_bytes()
            except (OSError, UserError):
                return Response(status_code=404)
            return Response(data, media_type=KINDS[path.suffix], headers={"Cache-Control": "private, max-age=60"})

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
