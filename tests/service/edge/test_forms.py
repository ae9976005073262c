"""Forms: what clients send is read, and anything else gets one sentence."""

import pytest

from service.edge.forms import MAX_HEAD, MAX_HEADERS, MAX_PARTS, MAX_SEMICOLONS, files
from service.edge.problems import Problem

TYPE = "multipart/form-data; boundary=x"
FILE = b'Content-Disposition: form-data; name="image"; filename="d.png"'


def form(*parts, end=b"--x--\r\n"):
    return b"".join(b"--x\r\n%b\r\n\r\n%b\r\n" % part for part in parts) + end


@pytest.mark.parametrize("content", [b"", b"1", b"\r\n", b"\r\n\r\n", b"--x", b"\r\n-x", b"\n--x\n", bytes(range(256))])
def test_a_file_is_read_byte_for_byte(content):
    assert files(TYPE, form((FILE, content))) == [content]


@pytest.mark.parametrize(
    "sent",
    [
        form((FILE, b"1"), (FILE, b"2")),
        form((FILE, b"1"), (FILE, b"2"), end=b"--x--"),
        form((FILE, b"1"), (FILE, b"2"), end=b"--x--\r\nsome text"),
        b"some text\r\n" + form((FILE, b"1"), (FILE, b"2")),
        b"\r\n" + form((FILE, b"1"), (FILE, b"2")),
        form((FILE, b"1"), (b'Content-Disposition: form-data; name="image"', b"text"), (FILE, b"2")),
        form((FILE, b"1"), (FILE.replace(b"image", b"other"), b"3"), (FILE, b"2")),
        form((FILE, b"1"), (FILE.replace(b"image", b"file"), b"2")),
        form((FILE.replace(b"C", b"c"), b"1"), (b"Content-Type: image/png\r\n" + FILE + b"\r\nX: y", b"2")),
        form((FILE, b"1"), (b'Content-Disposition: form-data; name=image; filename="a;b\\"c.png"', b"2")),
        form((FILE, b"1"), (b"X: y", b"no disposition"), (FILE, b"2")),
        form((FILE, b"1")).replace(b"--x--", b"--x\r\n\r\nno headers\r\n") + form((FILE, b"2")),
        form((FILE, b"1"), (FILE, b"2")).replace(b"--x\r\n", b"--x \t\r\n"),
    ],
)
def test_what_clients_send_is_read(sent):
    assert files(TYPE, sent) == [b"1", b"2"]


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (b"", "its end is missing"),
        (b"nonsense", "its end is missing"),
        (b"--x", "its end is missing"),
        (b"--x\r\n", "its end is missing"),
        (b"--x\r\n" + FILE, "its end is missing"),
        (b"--x\r\n" + FILE + b"\r\n\r\n", "its end is missing"),
        (b"--x\r\n" + FILE + b"\r\n\r\n1\r\n--x", "its end is missing"),
        (b"--x\r\n" + FILE + b"\r\n\r\n1\r\n--x-", "its end is missing"),
        (form((FILE, b"\r\n--xy")), "a line goes on behind the boundary"),
        (form((FILE, b"1")).replace(b"--x\r\n", b"--x" + b" " * 100 + b"\r\n"), "a line goes on behind the boundary"),
        (form((b"a" * MAX_HEAD + b":", b"1")), "a part has more than 4,096 bytes of headers"),
        (form((b"\r\n".join([b"a:b"] * (MAX_HEADERS + 1)), b"1")), "a part has more than 8 headers"),
        (form((b"no colon", b"1")), "a part has a header without a colon"),
        (form((FILE + b";" * (MAX_SEMICOLONS - 1), b"1")), "a Content-Disposition has more than 16 semicolons"),
    ],
)
def test_a_form_that_cannot_be_read_is_said_so(sent, said):
    with pytest.raises(Problem) as refused:
        files(TYPE, sent)
    assert (refused.value.reason, str(refused.value)) == ("malformed-multipart", f"the form cannot be read: {said}")


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("multipart/form-data", "its content type names no boundary"),
        ("multipart/form-data; boundary=", "its content type names no boundary"),
        (f"multipart/form-data; boundary={'x' * 71}", "its boundary has 71 characters, at most 70 are allowed"),
    ],
)
def test_a_boundary_is_needed(kind, said):
    with pytest.raises(Problem, match=said):
        files(kind, form((FILE, b"1")))


def test_the_parts_are_counted():
    assert len(files(TYPE, form(*[(FILE, b"1")] * MAX_PARTS))) == MAX_PARTS
    with pytest.raises(Problem, match="the form has more than 1,024 parts") as refused:
        files(TYPE, form(*[(FILE, b"1")] * (MAX_PARTS + 1)))
    assert refused.value.reason == "too-many-parts"


def test_a_form_without_a_file_lacks_a_field():
    with pytest.raises(Problem, match=r"the form needs a file in the field 'image' \(or 'file'\)") as refused:
        files(TYPE, form((b'Content-Disposition: form-data; name="image"', b"text")))
    assert refused.value.reason == "missing-field"
    with pytest.raises(Problem, match="the form needs a file"):
        files(TYPE, b"--x--\r\n")
