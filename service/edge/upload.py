"""Reads a request's body, and the images in it: multipart, raw, or base64 in JSON."""

import binascii
from collections.abc import Sequence
from typing import Any, Final

import orjson
from starlette.types import Receive

from service.edge.calls import Call
from service.edge.forms import files
from service.edge.problems import Problem

RAW: Final = ("image/", "application/octet-stream")
MAX_TYPE: Final = 256  # characters of a Content-Type; a form's boundary takes 70 of them at most
SPARE_VALUES: Final = 4096  # in JSON, beyond those that a route asks for: it ignores other members

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
    content_type, kind = _content_type(call, "application/octet-stream")
    if kind.startswith(RAW):
        data = call.body
    elif kind == "multipart/form-data":
        data = files(content_type, call.body)[0]
    elif kind == "application/json":
        data = _decoded(_member(parsed(call.body, 1), "image", str))
    else:
        raise _unsupported(kind, "multipart/form-data, application/json, or the image itself as image/png or "
                           "application/octet-stream")  # fmt: skip
    if not data:
        raise Problem("empty-body", "the request holds no image: it is empty")
    return data


def many_image_bytes(call: Call, most: int) -> Sequence[bytes]:
    """The encoded images that a request carries, `most` at most. Raises `Problem`."""
    content_type, kind = _content_type(call, "")
    if kind == "multipart/form-data":
        return _at_most(most, files(content_type, call.body))
    if kind != "application/json":
        raise _unsupported(kind, "multipart/form-data or application/json")
    texts = _member(parsed(call.body, 3 * most), "images", list)  # a data URL has a colon and a comma of its own
    if not texts or not all(isinstance(text, str) for text in texts):
        raise Problem("missing-field", 'expected {"images": ["<base64>", …]}')
    return [_decoded(text) for text in _at_most(most, texts)]


def parsed(sent: bytes, values: int) -> Any:
    """The JSON that was sent. Raises `Problem` where it is none, or may hold more than `values` and `SPARE_VALUES`.

    Parsed JSON takes up to 30 times its bytes: 10 MB of `[],[],…` are 3 million lists. So the values are counted first:
    before each, but for the outermost, stands one of `,:[`. Text may hold these characters, too; base64 does not.
    """
    most = values + SPARE_VALUES
    if len(sent) > most and len(sent) - len(sent.translate(None, b",:[")) > most:
        raise Problem("too-many-values", f"the JSON holds more values than the {most:,} that are read here")
    try:
        return orjson.loads(sent)
    except orjson.JSONDecodeError as error:
        raise Problem("malformed-json", f"the body is not JSON: {error}") from None


def bounded(body: bytes, limit: int) -> bytes:
    """The body of a route that needs no more than `limit` bytes. Raises `Problem` where it is larger."""
    if len(body) > limit:
        raise _too_large(len(body), limit)
    return body


async def read_body(receive: Receive, headers: dict[bytes, bytes], limit: int) -> bytes:
    """The body. Raises `Problem` as soon as it is known to be too large, before it is read where its header says so."""
    length = headers.get(b"content-length")
    if length is not None and length.isdigit() and int(length[:18]) > limit:  # Python parses no number of 5,000 digits
        raise _too_large(int(length[:18]), limit)
    body = bytearray()  # not a list: a byte may arrive alone, and a part of its own takes 40 more
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Problem("incomplete-body", "the connection broke off before the end of the body")
        part: bytes = message.get("body", b"")
        if len(body) + len(part) > limit:
            raise _too_large(len(body) + len(part), limit)
        if not body and not message.get("more_body", False):
            return part
        body += part
        if not message.get("more_body", False):
            return bytes(body)


def _too_large(size: int, limit: int) -> Problem:
    return Problem("body-too-large", f"the body has {size:,} bytes or more; at most {limit:,} are read")


def _unsupported(kind: str, allowed: str) -> Problem:
    return Problem("unsupported-content-type", f"{kind or 'a body of no type'} is not read here; send {allowed}")


def _content_type(call: Call, default: str) -> tuple[str, str]:
    """The Content-Type, and without its parameters in lower case. Raises `Problem`."""
    content_type = call.header(b"content-type") or default
    if len(content_type) > MAX_TYPE:
        raise Problem(
            "bad-parameter", f"Content-Type: {len(content_type):,} characters, at most {MAX_TYPE} are allowed"
        )
    return content_type, content_type.partition(";")[0].strip().lower()


def _at_most(most: int, images: list[Any]) -> list[Any]:
    if len(images) > most:
        raise Problem("too-many-images", f"more images than the {most:,} that one request may hold")
    return images


def _member(found: Any, name: str, kind: type) -> Any:
    """A member of a JSON object. Raises `Problem`."""
    value = found.get(name) if isinstance(found, dict) else None
    if not isinstance(value, kind):
        expected = '"<base64>"' if kind is str else '["<base64>", …]'
        raise Problem("missing-field", f'expected {{"{name}": {expected}}}')
    return value


def _decoded(text: str) -> bytes:
    if not text.isascii():  # said before anything is copied: such a text takes up to four bytes a character
        raise Problem("malformed-base64", "'image' is not base64: it has characters that are not ASCII")
    if text.startswith("data:"):  # what a browser's canvas gives
        text = text.partition(",")[2]
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except ValueError as error:
        raise Problem("malformed-base64", f"'image' is not base64: {error}") from None
