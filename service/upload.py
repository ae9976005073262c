"""The image in a request, in whichever of the three forms it was sent: multipart, raw, or base64 in JSON."""

import base64
import binascii
import json
from collections.abc import AsyncIterator
from typing import Any, Final

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from service.problems import Problem

FIELDS: Final = ("image", "file")
RAW: Final = ("image/", "application/octet-stream")

# What the handler below accepts, for OpenAPI: it reads the body itself, so FastAPI cannot tell.
_BINARY: Final = {"schema": {"type": "string", "format": "binary"}}
_FORM: Final = {
    "type": "object",
    "required": ["image"],
    "properties": {"image": {"type": "string", "format": "binary"}},
}
_JSON: Final = {
    "type": "object",
    "required": ["image"],
    "properties": {"image": {"type": "string", "format": "byte", "description": "the image file in base64"}},
}
REQUEST_BODY: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {"schema": _FORM},
            "image/png": _BINARY,
            "image/jpeg": _BINARY,
            "application/octet-stream": _BINARY,
            "application/json": {"schema": _JSON},
        },
    }
}


async def image_bytes(request: Request, limit: int) -> bytes:
    """The encoded image that `request` carries. Raises `Problem` when there is none, or more than `limit` bytes."""
    kind = request.headers.get("content-type", "application/octet-stream").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        data = await _from_form(request, await _body(request, limit))
    elif kind == "application/json":
        data = _from_json(await _body(request, limit))
    elif kind.startswith(RAW):
        data = await _body(request, limit)
    else:
        raise Problem(415, "unsupported-content-type", f"{kind} is not read here; send multipart/form-data, "
                      "application/json, or the image itself as image/png or application/octet-stream")  # fmt: skip
    if not data:
        raise Problem(400, "empty-body", "the request holds no image: it is empty")
    return data


async def _body(request: Request, limit: int) -> bytes:
    """All of the body; refused as soon as it is known to be too large, before it is read where it says so itself."""
    said = request.headers.get("content-length", "0")
    if said.isdigit() and int(said) > limit:
        raise _too_large(int(said), limit)
    parts, size = [], 0
    try:
        async for part in request.stream():
            size += len(part)
            if size > limit:
                raise _too_large(size, limit)
            parts.append(part)
    except ClientDisconnect:
        raise Problem(400, "incomplete-body", "the connection broke off before the end of the body") from None
    return b"".join(parts)


def _too_large(size: int, limit: int) -> Problem:
    return Problem(413, "body-too-large", f"the body has {size:,} bytes or more; at most {limit:,} are read")


async def _from_form(request: Request, body: bytes) -> bytes:
    async def stream() -> AsyncIterator[bytes]:
        yield body

    try:
        form = await MultiPartParser(request.headers, stream(), max_files=1, max_fields=8).parse()  # type: ignore[arg-type]
    except (MultiPartException, KeyError) as error:  # KeyError: the content type names no boundary
        raise Problem(400, "malformed-multipart", f"the form cannot be read: {error}") from None
    try:
        part = next((form[name] for name in FIELDS if name in form), None)
        if not isinstance(part, UploadFile):
            raise Problem(400, "missing-field", f"the form needs a file in the field '{FIELDS[0]}' (or '{FIELDS[1]}')")
        return await part.read()
    finally:
        await form.close()


def _from_json(body: bytes) -> bytes:
    try:
        sent = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Problem(400, "malformed-json", f"the body is not JSON: {error}") from None
    text = sent.get("image") if isinstance(sent, dict) else None
    if not isinstance(text, str):
        raise Problem(400, "missing-field", 'expected {"image": "<base64>"}')
    if text.startswith("data:"):  # what a browser's canvas gives
        text = text.partition(",")[2]
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Problem(400, "malformed-base64", f"'image' is not base64: {error}") from None
