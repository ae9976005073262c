import gzip
import json

import pytest

STROKE = {"site": "here", "label": "1", "strokes": [[[50, 0], [50, 100]]]}


def test_pen_strokes_are_read(measure, bundle, tmp_path):
    file = tmp_path / "pen.jsonl.gz"
    file.write_bytes(gzip.compress("\n".join(json.dumps(STROKE | {"site": site}) for site in "ab").encode()))
    ran = measure("handwriting", bundle, "--pen", file, "--sites", "b")
    assert ran.code == 0
    rows = ran.out.splitlines()
    assert [row[:16].strip() for row in rows[:-1]] == ["pen strokes, b", "pen strokes, all"]
    assert rows[-1].endswith(" of 1 pictures are read correctly.")


@pytest.mark.parametrize(("content", "why"), [
    (b"plain", "is not a gzip file of pen strokes"),
    (gzip.compress(b"no JSON", mtime=0), "is not a gzip file of pen strokes"),
    (gzip.compress(json.dumps(STROKE).encode(), mtime=0), "holds no pen strokes of elsewhere"),
])  # fmt: skip
def test_a_file_without_strokes_is_refused(measure, bundle, tmp_path, content, why):
    file = tmp_path / "pen.jsonl.gz"
    file.write_bytes(content)
    ran = measure("handwriting", bundle, "--pen", file, "--sites", "elsewhere")
    assert ran.code.startswith(f"bench: {file} {why}")


def test_it_needs_something_to_read(measure, bundle):
    assert measure("handwriting", bundle).err == "python -m bench.handwriting: give --mnist, --pen, or both\n"
