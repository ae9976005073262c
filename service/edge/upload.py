"""Reads a request's body, and the images in it: multipart, raw, or base64 in JSON."""

import base64
import binascii
from collections.abc import Sequence
from typing import Any, Final

import orjson
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.types import Receive

from service.edge.calls import Call
from service.edge.problems import Problem

FIELDS: Final = ("image", "file")
RAW: Final = ("image/", "application/octet-stream")
MAX_PARTS: Final = 1024  # of a form

# What the endpoints accept, for OpenAPI: they read the body themselves, so FastAPI cannot tell.
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


def image_bytes(call: Call) -> bytes:
    """The encoded image that a request carries. Raises `Problem` where there is none."""
    content_type = call.header(b"content-type") or "application/octet-stream"
    kind = content_type.partition(";")[0].strip().lower()
    if kind.startswith(RAW):
        data = call.body
    elif kind == "multipart/form-data":
        data = _files(content_type, call.body)[0]
    elif kind == "application/json":
        data = _decoded(_member(call.body, "image", str))
    else:
        raise _unsupported(kind, "multipart/form-data, application/json, or the image itself as image/png or "
                           "application/octet-stream")  # fmt: skip
    if not data:
        raise Problem("empty-body", "the request holds no image: it is empty")
    return data


def many_image_bytes(call: Call, most: int) -> Sequence[bytes]:
    """The encoded images that a request carries, `most` at most. Raises `Problem`."""
    content_type = call.header(b"content-type") or ""
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        images: Sequence[bytes] = _files(content_type, call.body)
    elif kind == "application/json":
        texts = _member(call.body, "images", list)
        if not texts or not all(isinstance(text, str) for text in texts):
            raise Problem("missing-field", 'expected {"images": ["<base64>", …]}')
        images = [_decoded(text) for text in texts[: most + 1]]
    else:
        raise _unsupported(kind, "multipart/form-data or application/json")
    if len(images) > most:
        raise Problem("too-many-images", f"more images than the {most:,} that one request may hold")
    return images


async def read_body(receive: Receive, headers: dict[bytes, bytes], limit: int) -> bytes:
    """The body. Raises `Problem` as soon as it is known to be too large, before it is read where its header says so."""
    length = headers.get(b"content-length")
    if length is not None and length.isdigit() and int(length) > limit:
        raise _too_large(int(length), limit)
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Problem("incomplete-body", "the connection broke off before the end of the body")
        part: bytes = message.get("body", b"")
        size += len(part)
        if size > limit:
            raise _too_large(size, limit)
        if not message.get("more_body", False):
            return b"".join([*parts, part]) if parts else part
        parts.append(part)


def _too_large(size: int, limit: int) -> Problem:
    return Problem("body-too-large", f"the body has {size:,} bytes or more; at most {limit:,} are read")


def _unsupported(kind: str, allowed: str) -> Problem:
    return Problem("unsupported-content-type", f"{kind or 'a body of no type'} is not read here; send {allowed}")


def _files(content_type: str, form: bytes) -> list[bytes]:
    """The files in the form's fields `FIELDS`, at least one. Raises `Problem`."""
    _, options = parse_options_header(content_type)
    if not (boundary := options.get(b"boundary")):
        raise Problem("malformed-multipart", "the form cannot be read: its content type names no boundary")
    part = _Part()
    parser = MultipartParser(boundary, part.callbacks())
    try:
        parser.write(form)
        parser.finalize()
    except FormParserError as error:
        raise Problem("malformed-multipart", f"the form cannot be read: {error}") from None
    if not part.complete:
        raise Problem("malformed-multipart", "the form cannot be read: its end is missing")
    if not part.files:
        raise Problem("missing-field", f"the form needs a file in the field '{FIELDS[0]}' (or '{FIELDS[1]}')")
    return part.files


class _Part:
    """Gathers the files in `FIELDS` from what python-multipart's parser reports.

    python-multipart's own `FormParser` makes a file object for each part. It takes 1.4 times as much processor time for
    a form with one 28x28 image (52 against 38 microseconds) or 64 of them (1,845 against 1,282), and 4.6 times as much
    for one image of 300 kB (593 against 129). `python -m bench.forms` measures both.
    """

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
            raise Problem("too-many-parts", f"the form has more than {MAX_PARTS:,} parts")
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
        raise Problem("malformed-json", f"the body is not JSON: {error}") from None
    value = found.get(name) if isinstance(found, dict) else None
    if not isinstance(value, kind):
        expected = '"<base64>"' if kind is str else '["<base64>", …]'
        raise Problem("missing-field", f'expected {{"{name}": {expected}}}')
    return value


def _decoded(text: str) -> bytes:
    if text.startswith("data:"):  # what a browser's canvas gives
        text = text.partition(",")[2]
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Problem("malformed-base64", f"'image' is not base64: {error}") from None
