"""Measures what hostile requests cost: how long the service answers nobody else, and how much memory it takes.

    python -m bench.bodies        (about a minute)

Each body is sent on one connection, while another asks /livez again and again. The service runs on one core and the
clients on another. The longest wait for /livez depends on the machine and on what else it does, so the shortest of a
few turns counts. The first row is a body that costs nothing but its transfer.
tests/service/edge/test_upload.py sends the same bodies, and asserts what is true on any machine: answers and memory.
"""

import json
import os
import re
import sys
import threading
import time
from http.client import HTTPConnection as Connection
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import orjson
from tqdm import tqdm

from bench import command
from bench.bombs import BOMBS, COSTLY
from bench.serving import cores, server

MOST: Final = 10_000_000  # bytes of a body that the service reads
JSON: Final = "application/json"
INFER: Final = "/v2/models/digits/infer"
FORM: Final = "multipart/form-data; boundary="
FILE: Final = b'\r\nContent-Disposition: form-data; name="image"; filename="d.png"\r\n\r\n'
# As many headers, and as long, as a part may have.
HEADERS: Final = b"Content-Disposition: form-data" + b'; a="b"' * 16 + b"\r\n" + (b"a:" + b"b" * 520 + b"\r\n") * 7
TENSOR: Final = b'{"inputs": [{"name": "image", "datatype": "FP32", "shape": [1, 1, 28, 28], "data": ['


class Hostile(NamedTuple):
    """A request that costs its client little: `start`, `repeated` up to `size` bytes in all, and `end`."""

    path: str
    content_type: str
    reason: str | None  # of the refusal; None where it is answered
    start: bytes
    repeated: bytes = b""
    end: bytes = b""
    size: int = MOST

    @property
    def body(self) -> bytes:
        fixed = len(self.start) + len(self.end)
        return self.start + self.repeated * ((self.size - fixed) // max(1, len(self.repeated))) + self.end


def _form(boundary: str, reason: str, repeated: bytes, size: int = MOST) -> Hostile:
    """A form whose first part is a file; `repeated` stands in it."""
    line = b"--" + boundary.encode()
    return Hostile("/predict", FORM + boundary, reason, line + FILE, repeated, b"\r\n" + line + b"--\r\n", size)


def _images(count: int) -> bytes:
    """The largest request with tensors in JSON: `count` images, each number with nine decimals."""
    values = np.random.default_rng(0).random(count * 784).round(9).tolist()
    image = {"name": "image", "datatype": "FP32", "shape": [count, 1, 28, 28], "data": values}
    return orjson.dumps({"inputs": [image]})


def _everywhere() -> dict[str, Hostile]:
    """Hostile JSON, to each route that reads large JSON."""
    rows: dict[str, tuple[str, bytes, bytes, bytes]] = {
        "lists": ("too-many-values", b"[", b"[],", b"0]"),
        "objects": ("too-many-values", b"[", b'{"a":0},', b"0]"),
        "equal keys": ("too-many-values", b"{", b'"a":0,', b'"b":0}'),
        "brackets": ("too-many-values", b"", b"[", b""),
        "spaces": ("malformed-json", b"", b" ", b""),
        "a long number": ("malformed-json", b"[", b"9", b"]"),
        "escapes": ("", b'{"a":"', b"\\u0041", b'"}'),
        "wide text": ("", b'{"a":"\xf0\x9f\x98\x80', b"a", b'"}'),
    }
    found = {}
    for path in ("/predict", "/predict/batch", INFER):
        lacking = "bad-parameter" if path == INFER else "missing-field"
        for name, (reason, start, repeated, end) in rows.items():
            found[f"10 MB of {name} to {path}"] = Hostile(path, JSON, reason or lacking, start, repeated, end)
        found[f"deep brackets to {path}"] = Hostile(path, JSON, "malformed-json", b"", b"[", b"", 4000)
        found[f"a lone surrogate to {path}"] = Hostile(path, JSON, "malformed-json", b'{"image":"\\ud800"}')
    return found


HOSTILE: Final = {
    **_everywhere(),
    "a million wrong outputs": Hostile(INFER, JSON, "too-many-values", b'{"outputs":[', b"1,", b"1]}", 2_000_000),
    "200,000 wrong inputs": Hostile(INFER, JSON, "bad-parameter", b'{"inputs":[', b"1,", b"1]}", 400_000),
    "200,000 wrong outputs": Hostile(INFER, JSON, "bad-parameter", b'{"outputs":[', b"1,", b"1]}", 400_000),
    "100,000 wrong sizes": Hostile(INFER, JSON, "bad-parameter", b'{"inputs":[{"shape":[', b'"",', b"1]}]}", 300_000),
    "100,000 parameters": Hostile(
        INFER, JSON, "bad-parameter", b'{"parameters":{' + b",".join(b'"%d":0' % i for i in range(100_000)) + b"}}"
    ),
    "lists in a tensor": Hostile(INFER, JSON, "bad-tensor", TENSOR, b"[[]],", b"0]}]}", 300_000),
    "objects in a tensor": Hostile(INFER, JSON, "bad-tensor", TENSOR, b'{"a":1},', b"0]}]}", 600_000),
    "long text in a tensor": Hostile(INFER, JSON, "bad-tensor", TENSOR + b'"1",' * 50_000 + b'"', b"9", b'"]}]}'),
    "256 images as JSON": Hostile(INFER, JSON, None, _images(256)),
    "10 MB of base64": Hostile("/predict", JSON, "not-an-image", b'{"image":"', b"AAAA", b'"}'),
    "a data URL of 10 MB": Hostile("/predict", JSON, "not-an-image", b'{"image":"data:;base64,', b"AAAA", b'"}'),
    "wide base64": Hostile("/predict", JSON, "malformed-base64", b'{"image":"data:\xf0\x9f\x98\x80,', b"A", b'"}'),
    "spaces as base64": Hostile("/predict", JSON, "malformed-base64", b'{"image":"', b" ", b'"}'),
    "256 texts of base64": Hostile("/predict/batch", JSON, None, b'{"images":[', b'"' + b"A" * 39_200 + b'",', b'""]}'),
    "feedback of 10 MB": Hostile("/feedback", JSON, "body-too-large", b"{", b'"a":0,', b'"b":0}'),
    "feedback of 4 kB": Hostile(
        "/feedback", JSON, "bad-parameter", b"{" + b",".join(b'"%d":0' % i for i in range(450)) + b"}"
    ),
    "1,024 parts with semicolons": _form(
        "x", "malformed-multipart", b"\r\n--x\r\nContent-Disposition: form-data" + b";" * 4000 + b"\r\n\r\n", 4_170_000
    ),
    "1,024 parts with headers": _form(
        "x", "malformed-multipart", b"\r\n--x\r\n" + b"a:\r\n" * 1000 + b"\r\n", 4_120_000
    ),
    "parts with the most headers": _form("x", "empty-body", b"\r\n--x\r\n" + HEADERS + b"\r\n", 3_800_000),
    "parts for 10 MB": _form("x", "too-many-parts", b"\r\n--x" + FILE),
    "parts of nothing": _form("x", "too-many-parts", b"\r\n--x\r\n\r\n"),
    "a boundary that goes on": _form("x", "malformed-multipart", b"\r\n--xy"),
    "a dash behind the boundary": _form("x", "malformed-multipart", b"\r\n--x-\r\n"),
    "nearly the boundary": _form("xy", "not-an-image", b"\r\n--x"),
    "nearly a long boundary": _form("a" * 70, "not-an-image", b"\r\n--" + b"a" * 69 + b"b"),
    "the boundary's letters": _form("ab" * 35, "not-an-image", b"ab"),
    "dashes": _form("-" * 70, "not-an-image", b"-"),
    "CR": _form("x", "not-an-image", b"\r"),
    "LF": _form("x", "not-an-image", b"\n"),
    "CR and LF": _form("x", "not-an-image", b"\r\n"),
    "spaces behind the boundary": Hostile(
        "/predict", FORM + "x", "malformed-multipart", b"--x" + FILE + b"\r\n--x", b" ", b"--"
    ),
    "10 MB before the form": Hostile(
        "/predict", FORM + "x", "not-an-image", b"", b"\r\n-", b"\r\n--x" + FILE + b"0\r\n--x--"
    ),
    "10 MB behind the form": Hostile(
        "/predict", FORM + "x", "not-an-image", b"--x" + FILE + b"0\r\n--x--\r\n", b"\r\n--x"
    ),
    "a boundary of 71 letters": _form("x" * 71, "malformed-multipart", b"0"),
    "60 kB of Content-Type": Hostile("/predict", FORM + "x" + ";" * 60_000, "bad-parameter", b"0"),
    "60 kB of parameters": Hostile("/predict?" + "&a=" * 20_000, "image/png", "bad-parameter", b"0"),
    "60 kB in one parameter": Hostile("/predict?explain=" + "%f0" * 20_000, "image/png", "bad-parameter", b"0"),
}  # fmt: skip


def send(connection: Connection, hostile: Hostile) -> str | None:
    """The reason that the service gives for its refusal, or None where it answers."""
    connection.request("POST", hostile.path, hostile.body, {"Content-Type": hostile.content_type})
    reason: str | None = json.loads(connection.getresponse().read()).get("reason")
    return reason


class Beside:
    """Asks /livez again and again; `longest` is the longest wait, in seconds."""

    def __init__(self, port: int) -> None:
        self.longest = 0.0
        self._port, self._over = port, threading.Event()
        self._thread = threading.Thread(target=self._ask, daemon=True)

    def __enter__(self) -> "Beside":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _ask(self) -> None:
        connection = Connection("127.0.0.1", self._port, timeout=120)
        while not self._over.is_set():
            begun = time.perf_counter()
            connection.request("GET", "/livez")
            connection.getresponse().read()
            self.longest = max(self.longest, time.perf_counter() - begun)
            time.sleep(0.001)
        connection.close()


class Resident:
    """Memory of a process, from Linux's books."""

    def __init__(self, pid: int) -> None:
        self._folder = Path(f"/proc/{pid}")

    def highest(self) -> float:
        """Megabytes in use at most since this was last called."""
        found = re.search(r"VmHWM:\s+(\d+)", (self._folder / "status").read_text())
        (self._folder / "clear_refs").write_text("5")  # forget the high-water mark
        return int(found[1]) / 1024 if found else 0.0


def main() -> None:
    parser = command.Parser("bodies", __doc__)
    parser.add_argument("--bundle", type=command.bundle, default=command.CHAMPION)
    parser.add_argument(
        "--turns", type=command.count, default=3, help="of each body; the shortest wait counts, and the most memory"
    )
    arguments = parser.parse_args()
    for_server, for_clients = cores()
    os.sched_setaffinity(0, {for_clients})
    env = {"NEOCOG_BUNDLE": str(arguments.bundle), "NEOCOG_JOURNAL": "off"}
    hostile_pictures = {name: Hostile("/predict", "image/png", None, data) for name, data in (BOMBS | COSTLY).items()}
    print("| body | answer | /livez waits, ms | memory, MB |\n|---|---|---|---|")
    plain = {"10 MB of nothing": Hostile("/predict", "image/png", "not-an-image", b"", b"\0")}
    with server(["service"], {for_server}, **env) as (address, process, _):
        port = int(address.rpartition(":")[2])
        resident = Resident(process.pid)
        connection = Connection("127.0.0.1", port, timeout=120)
        for name, hostile in tqdm((plain | HOSTILE | hostile_pictures).items(), unit="body", leave=False, disable=None):
            waits, grown = [], []
            for _ in range(arguments.turns):
                resident.highest()
                before = resident.highest()
                with Beside(port) as beside:
                    reason = send(connection, hostile)
                waits.append(beside.longest * 1e3)
                grown.append(resident.highest() - before)
            row = f"| {name} | {reason or 'answered'} | {min(waits):.0f} | {max(grown):.0f} |"
            tqdm.write(row, file=sys.stdout)
        connection.close()


if __name__ == "__main__":
    command.run(main)
