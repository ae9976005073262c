"""Reads the files in a multipart form (RFC 7578).

python-multipart's parser takes a step in Python for each line that goes on behind the boundary, and for each space
there: a hostile form of 10 MB keeps it busy for seconds. `bytes.find` takes 40 ms at most. A form with one 28x28 image
takes 14 microseconds here, and takes 40 with that parser, or 53 with `FormParser`. `python -m bench.forms` measures the
first and the last, `python -m bench.bodies` hostile forms.
"""

from collections.abc import Iterator
from typing import Final

from python_multipart.multipart import parse_options_header

from service.edge.problems import Problem

FIELDS: Final = ("image", "file")
MAX_PARTS: Final = 1024  # of a form
# Clients send two or three headers with a part, of about 100 bytes. The bounds keep the work for MAX_PARTS parts small.
MAX_HEADERS: Final = 8  # of a part
MAX_HEAD: Final = 4096  # bytes of a part's headers
MAX_SEMICOLONS: Final = 16  # in Content-Disposition, the file's name included
MAX_BOUNDARY: Final = 70  # RFC 2046, section 5.1.1
MAX_PADDING: Final = 64  # spaces and tabs behind a boundary, which RFC 2046 allows and nobody sends

_FIELDS: Final = frozenset(field.encode() for field in FIELDS)


def files(content_type: str, form: bytes) -> list[bytes]:
    """The files in the form's fields `FIELDS`, at least one. Raises `Problem`."""
    _, options = parse_options_header(content_type)
    boundary = options.get(b"boundary")
    if not boundary:
        raise _malformed("its content type names no boundary")
    if len(boundary) > MAX_BOUNDARY:
        raise _malformed(f"its boundary has {len(boundary)} characters, at most {MAX_BOUNDARY} are allowed")
    found = [form[start:end] for head, start, end in _parts(form, b"\r\n--" + boundary) if _is_wanted(head)]
    if not found:
        raise Problem("missing-field", f"the form needs a file in the field '{FIELDS[0]}' (or '{FIELDS[1]}')")
    return found


def _parts(form: bytes, delimiter: bytes) -> Iterator[tuple[bytes, int, int]]:
    """The headers of each part, and where its content starts and ends. Raises `Problem` unless the form is whole.

    A line that begins with the boundary and goes on is an error: RFC 2046 forbids it in a part.
    """
    size = len(delimiter)
    # RFC 2046 allows text before the first boundary.
    at = size - 2 if form.startswith(delimiter[2:]) else _found(form.find(delimiter)) + size
    count = 0
    while not form.startswith(b"--", at):
        count += 1
        if count > MAX_PARTS:
            raise Problem("too-many-parts", f"the form has more than {MAX_PARTS:,} parts")
        line = form.find(b"\r\n", at, at + MAX_PADDING)
        if line < 0 or form[at:line].strip(b" \t"):
            raise _malformed("its end is missing" if len(form) <= at + 2 else "a line goes on behind the boundary")
        blank = form.find(b"\r\n\r\n", line, line + MAX_HEAD)
        if blank < 0:
            cut_off = len(form) < line + MAX_HEAD
            raise _malformed("its end is missing" if cut_off else f"a part has more than {MAX_HEAD:,} bytes of headers")
        end = _found(form.find(delimiter, blank + 4))
        yield form[line + 2 : blank], blank + 4, end
        at = end + size


def _is_wanted(head: bytes) -> bool:
    """Whether a part with these headers is a file in one of `FIELDS`."""
    disposition = b""
    lines = head.split(b"\r\n", MAX_HEADERS) if head else []
    if len(lines) > MAX_HEADERS:
        raise _malformed(f"a part has more than {MAX_HEADERS} headers")
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon:
            raise _malformed("a part has a header without a colon")
        if name.lower() == b"content-disposition":
            disposition = value
    if disposition.count(b";") > MAX_SEMICOLONS:
        raise _malformed(f"a Content-Disposition has more than {MAX_SEMICOLONS} semicolons")
    _, options = parse_options_header(disposition)
    return options.get(b"name") in _FIELDS and b"filename" in options


def _found(place: int) -> int:
    if place < 0:
        raise _malformed("its end is missing")
    return place


def _malformed(why: str) -> Problem:
    return Problem("malformed-multipart", f"the form cannot be read: {why}")
