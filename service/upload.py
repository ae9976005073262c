"""The images in a request, in whichever of the three forms they were sent: multipart, raw, or base64 in JSON."""

import base64
import binascii
from collections.abc import Sequence
from typing import Any, Final

import orjson
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from service.problems import Problem
from service.state import header

FIELDS: Final = ("image", "file")
RAW: Final = ("image/", "application/octet-stream")
_BODY: Final = "neocog.body"  # under which a request's scope keeps it
MAX_PARTS: Final = 1024  # of a form

# What the handlers accept, for OpenAPI: they read the body themselves, so FastAPI cannot tell.
_BINARY: Final = {"schema": {"type": "string", "format": "binary"}}
_BASE64: Final = {"type": "string", "format": "byte", "description": "an image file in base64, or a data URL"}
# A 2 of 8x8 pixels, so that the examples in /docs can be tried as they are.
_TWO: Final = (
    "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAIAQAAAADsdIMmAAAAGElEQVR4nGOwYeJiYGNiY+JhkmAyYJIDAAZgANE4+mRWAAAAAElFTkSuQmCC"
)


def request_body(field: str, *, many: bool) -> dict[str, Any]:
    """For OpenAPI: one image, or many, in the JSON field `field`."""
    file = {"type": "string", "format": "binary"}
    form = {"image": {"type": "array", "items": file} if many else file}
    body = {field: {"type": "array", "items": _BASE64} if many else _BASE64}
    content: dict[str, Any] = {
        "multipart/form-data": {"schema": {"type": "object", "required": ["image"], "properties": form}},
        "application/json": {
            "schema": {"type": "object", "required": [field], "properties": body},
            "example": {field: [_TWO] if many else _TWO},
        },
    }
    if not many:
        content |= {"image/png": _BINARY, "image/jpeg": _BINARY, "application/octet-stream": _BINARY}
    return {"requestBody": {"required": True, "content": content}}


async def image_bytes(request: Request, limit: int) -> bytes:
    """The encoded image that `request` carries. Raises `Problem` when there is none, or more than `limit` bytes."""
    sent = header(request, b"content-type") or "application/octet-stream"
    if sent.startswith(RAW):
        data = await body(request, limit)
    else:
        kind = sent.partition(";")[0].strip().lower()
        if kind == "multipart/form-data":
            data = _files(sent, await body(request, limit))[0]
        elif kind == "application/json":
            data = _decoded(_member(await body(request, limit), "image", str))
        elif kind.startswith(RAW):
            data = await body(request, limit)
        else:
            raise _unsupported(kind, "multipart/form-data, application/json, or the image itself as image/png or "
                               "application/octet-stream")  # fmt: skip
    if not data:
        raise Problem(400, "empty-body", "the request holds no image: it is empty")
    return data


async def many_image_bytes(request: Request, limit: int, most: int) -> Sequence[bytes]:
    """The encoded images that `request` carries, `most` at most. Raises `Problem`."""
    sent = header(request, b"content-type") or ""
    kind = sent.partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        found: Sequence[bytes] = _files(sent, await body(request, limit))
    elif kind == "application/json":
        texts = _member(await body(request, limit), "images", list)
        if not texts or not all(isinstance(text, str) for text in texts):
            raise Problem(400, "missing-field", 'expected {"images": ["<base64>", …]}')
        found = [_decoded(text) for text in texts[: most + 1]]
    else:
        raise _unsupported(kind, "multipart/form-data or application/json")
    if len(found) > most:
        raise Problem(413, "too-many-images", f"more images than the {most:,} that one request may hold")
    return found


async def body(request: Request, limit: int) -> bytes:
    """All of the body; refused as soon as it is known to be too large, before it is read where it says so itself.

    It is read once, and the same when it is asked for again.
    """
    if (kept := request.scope.get(_BODY)) is None:
        kept = request.scope[_BODY] = await _received(request, limit)
    read: bytes = kept
    return read


async def _received(request: Request, limit: int) -> bytes:
    said = header(request, b"content-length")
    if said is not None and said.isdigit() and int(said) > limit:
        raise _too_large(int(said), limit)
    parts: list[bytes] = []
    size = 0
    while True:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise Problem(400, "incomplete-body", "the connection broke off before the end of the body")
        part: bytes = message.get("body", b"")
        size += len(part)
        if size > limit:
            raise _too_large(size, limit)
        if not message.get("more_body", False):
            return b"".join([*parts, part]) if parts else part
        parts.append(part)


def _too_large(size: int, limit: int) -> Problem:
    return Problem(413, "body-too-large", f"the body has {size:,} bytes or more; at most {limit:,} are read")


def _unsupported(kind: str, allowed: str) -> Problem:
    return Problem(415, "unsupported-content-type", f"{kind or 'a body of no type'} is not read here; send {allowed}")


def _files(content_type: str, form: bytes) -> list[bytes]:
    """The files in the form's fields `FIELDS`, at least one. The parser's callbacks, without a file object for each."""
    _, options = parse_options_header(content_type)
    if not (boundary := options.get(b"boundary")):
        raise Problem(400, "malformed-multipart", "the form cannot be read: its content type names no boundary")
    part = _Part()
    parser = MultipartParser(boundary, part.callbacks())
    try:
        parser.write(form)
        parser.finalize()
    except FormParserError as error:
        raise Problem(400, "malformed-multipart", f"the form cannot be read: {error}") from None
    if not part.complete:
        raise Problem(400, "malformed-multipart", "the form cannot be read: its end is missing")
    if not part.files:
        raise Problem(400, "missing-field", f"the form needs a file in the field '{FIELDS[0]}' (or '{FIELDS[1]}')")
    return part.files


class _Part:
    """Puts together what the parser reports: the files in `FIELDS`."""

    def __init__(self) -> None:
        self.files: list[bytes] = []
        self.complete = False
        self._name = self._value = b""
        self._headers: dict[bytes, bytes] = {}
        self._data: list[bytes] = []
        self._count = 0

    def callbacks(self) -> Any:
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._field,
            "on_header_value": self._add,
            "on_header_end": self._header,
            "on_part_data": self._content,
            "on_part_end": self._end,
            "on_end": self._finish,
        }

    def _begin(self) -> None:
        self._count += 1
        if self._count > MAX_PARTS:
            raise Problem(413, "too-many-parts", f"the form has more than {MAX_PARTS:,} parts")
        self._headers, self._data = {}, []

    def _field(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _add(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header(self) -> None:
        self._headers[self._name.lower()] = self._value
        self._name = self._value = b""

    def _content(self, data: bytes, start: int, end: int) -> None:
        self._data.append(data[start:end])

    def _end(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        if options.get(b"name", b"").decode("latin-1") in FIELDS and b"filename" in options:
            self.files.append(b"".join(self._data))

    def _finish(self) -> None:
        self.complete = True


def _member(sent: bytes, name: str, kind: type) -> Any:
    """A member of the JSON object that was sent."""
    try:
        found = orjson.loads(sent)
    except orjson.JSONDecodeError as error:
        raise Problem(400, "malformed-json", f"the body is not JSON: {error}") from None
    value = found.get(name) if isinstance(found, dict) else None
    if not isinstance(value, kind):
        expected = '"<base64>"' if kind is str else '["<base64>", …]'
        raise Problem(400, "missing-field", f'expected {{"{name}": {expected}}}')
    return value


def _decoded(text: str) -> bytes:
    if text.startswith("data:"):  # what a browser's canvas gives
        text = text.partition(",")[2]
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Problem(400, "malformed-base64", f"'image' is not base64: {error}") from None
