"""Where the Hub keeps large files: the LFS protocol, uploads in one piece or in parts, downloads with ranges."""

import hashlib
import re
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from .store import Store

PART = 8_000_000
"""Bytes of a part of an upload."""


def storage(store: Store, port: int) -> APIRouter:
    router, received = APIRouter(), dict[str, bytes]()

    @router.post("/{place:path}.git/info/lfs/objects/batch")
    async def batch(request: Request, place: str) -> Any:
        if not request.headers.get("authorization"):
            raise PermissionError("Invalid username or password.")
        objects = []
        for each in (await request.json())["objects"]:
            href, parts = f"http://localhost:{port}/lfs/{each['oid']}", -(-each["size"] // PART)
            upload: dict[str, Any] = {"href": href}
            if parts > 1:
                urls = {str(number + 1): f"{href}/{number + 1}" for number in range(parts)}
                upload = {
                    "href": f"http://127.0.0.1:{port}/lfs/{each['oid']}/complete",
                    "header": {"chunk_size": str(PART), **urls},
                }
            there = (store.blobs / each["oid"]).is_file()
            objects.append(each if there else {**each, "actions": {"upload": upload}})
        return JSONResponse({"transfer": "multipart", "objects": objects}, media_type="application/vnd.git-lfs+json")

    def keep(oid: str, data: bytes) -> Response:
        if hashlib.sha256(data).hexdigest() != oid:
            return JSONResponse({"error": "wrong content"}, 400)
        (store.blobs / oid).write_bytes(data)
        return JSONResponse({})

    @router.put("/lfs/{oid}")
    async def put(request: Request, oid: str) -> Any:
        assert "authorization" not in request.headers, "the token went to the storage"
        return keep(oid, await request.body())

    @router.put("/lfs/{oid}/{number}")
    async def put_part(request: Request, oid: str, number: int) -> Any:
        assert "authorization" not in request.headers, "the token went to the storage"
        received[f"{oid}/{number}"] = await request.body()
        return JSONResponse({}, headers={"ETag": f"part-{number}"})

    @router.post("/lfs/{oid}/complete")
    async def complete(request: Request, oid: str) -> Any:
        parts = (await request.json())["parts"]
        return keep(oid, b"".join(received.pop(f"{oid}/{part['partNumber']}") for part in parts))

    @router.api_route("/cdn/{sha256}", methods=["GET", "HEAD"])
    def cdn(request: Request, sha256: str) -> Any:
        assert "authorization" not in request.headers, "the token went to the storage"
        return content(request, (store.blobs / sha256).read_bytes(), {"ETag": f'"{sha256}"'})

    return router


def content(request: Request, data: bytes, headers: dict[str, str]) -> Response:
    """A file or the part of it that is asked for."""
    wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("range", ""))
    if wanted is None:
        return Response(data, headers={**headers, "Accept-Ranges": "bytes"})
    start, end = int(wanted[1]), int(wanted[2] or len(data) - 1)
    content_range = {"Content-Range": f"bytes {start}-{end}/{len(data)}"}
    return Response(data[start : end + 1], 206, {**headers, **content_range})
