"""A decoder: a process that makes pictures canonical, and that a hostile picture may take down.

`service.decoding.pool` starts it with one end of a socket as standard input. A job is the number of pictures, their
sizes, and their bytes. The decoder answers `BEGUN` at once, then an `ANSWER` for each picture. It ends with the socket.

What a job may take is enforced by the kernel: `MEMORY` beyond what the process has at rest, and `SECONDS` of processor
time. Too much memory is an error of that picture; too much time ends the process.

It imports numpy, Pillow and `model.canonical` only: the less there is, the smaller and the sooner ready it is.
"""

import contextlib
import io
import resource
import signal
import socket
import struct
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from PIL import Image

from model.canonical import SIDE, Pixels, canonical_batch
from model.canonical.images import ERRORS, FORMATS, BadImage, TooCostly, begin, finish

MEMORY: Final = 64 * 2**20  # bytes for a job, with its pictures' own bytes
SPARE: Final = 6 * 2**20  # bytes of `MEMORY` that `canonical` and Python take beside the decoded picture
GROWN: Final = 8 * 2**20  # bytes that caches and leaks may add to the process before it is replaced
SECONDS: Final = 2.0  # of processor time for a job; a photo of 12 megapixels takes about 0.2
TOGETHER: Final = 2**14  # pixels; smaller pictures of a job are made canonical together, which takes half the time

HELLO: Final = b"!"
BEGUN: Final = b"."
COUNT: Final = struct.Struct(">H")
SIZE: Final = struct.Struct(">I")
# What became of the picture, its pixels, seconds of decoding and of `canonical`; then 28 x 28 pixels, or the error.
ANSWER: Final = struct.Struct(">BQdd1000s")
READ, REFUSED, FAILED = range(3)


class Answer(NamedTuple):
    """What became of a picture. Within the decoder it may be decoded, but not yet canonical."""

    outcome: Pixels | Exception | Image.Image
    pixels: int = 0  # as its header says; 0 where that cannot be read
    decoding: float = 0  # seconds of processor time
    canonical: float = 0

    def packed(self) -> bytes:
        if isinstance(self.outcome, np.ndarray):
            kind, text = READ, self.outcome.tobytes()
        elif isinstance(self.outcome, BadImage):
            kind, text = REFUSED, f"{self.outcome.reason}\n{self.outcome}".encode(errors="replace")
        else:
            kind, text = FAILED, repr(self.outcome).encode(errors="replace")
        return ANSWER.pack(kind, self.pixels, self.decoding, self.canonical, text)

    @classmethod
    def unpacked(cls, packed: bytes) -> "Answer":
        kind, pixels, decoding, seconds, text = ANSWER.unpack(packed)
        outcome: Pixels | Exception
        if kind == READ:
            outcome = np.frombuffer(text, np.uint8, SIDE * SIDE).reshape(SIDE, SIDE)
        else:
            said = text.rstrip(b"\0").decode(errors="replace")
            reason, _, message = said.partition("\n")
            outcome = ERRORS[reason](message) if kind == REFUSED else RuntimeError(f"a decoder failed: {said}")
        return cls(outcome, pixels, decoding, seconds)


def work(pictures: Sequence[bytes], max_pixels: int) -> list[Answer]:
    """An answer for each picture. Small pictures are made canonical together; only they are kept decoded."""
    answers: list[Answer] = []
    small: list[int] = []
    for i, data in enumerate(pictures):
        answers.append(_decoded(data, max_pixels))
        if isinstance(answers[i].outcome, Image.Image):
            if answers[i].pixels <= TOGETHER:
                small.append(i)
            else:
                _make_canonical(answers, [i])
    if small:
        _make_canonical(answers, small)
    return answers


def _decoded(data: bytes, max_pixels: int) -> Answer:
    begun, pixels = time.process_time(), 0
    outcome: Image.Image | Exception
    try:
        room = MEMORY - SPARE - len(data)
        image = begin(data, max_pixels=max_pixels, max_bytes=room)
        pixels = image.width * image.height
        outcome = finish(image, max_bytes=room)
    except Exception as error:  # noqa: BLE001 - the service reports it
        outcome = _known(error)
    return Answer(outcome, pixels, time.process_time() - begun)


def _make_canonical(answers: list[Answer], places: Sequence[int]) -> None:
    """Replaces the pictures at `places` by their 28 x 28 pixels, or by what is wrong with them."""
    begun = time.process_time()
    outcomes: list[Pixels | Exception]
    try:
        stack, refused = canonical_batch([answers[i].outcome for i in places])  # type: ignore[misc]  # they are decoded
        outcomes = [refused.get(k, stack[k]) for k in range(len(places))]
    except Exception as error:  # noqa: BLE001 - the service reports it
        outcomes = [_known(error)] * len(places)
    seconds = (time.process_time() - begun) / len(places)
    for i, outcome in zip(places, outcomes, strict=True):
        answers[i] = answers[i]._replace(outcome=outcome, canonical=seconds)


def _known(error: Exception) -> Exception:
    """`error`; too little memory is the picture's fault."""
    if isinstance(error, MemoryError):
        return TooCostly(f"the picture takes more than {MEMORY // 2**20} MiB to decode")
    return error


def warm_up() -> None:
    """Loads what any picture can come to need, so that it counts as the process's own."""
    square = np.full((64, 64), 255, np.uint8)
    square[20:44, 30:34] = 0
    for kind in FORMATS:
        file = io.BytesIO()
        Image.fromarray(square).save(file, kind)
        work([file.getvalue()], square.size)


class Confinement:
    """Bounds what this process may take. Where memory runs out, the kernel ends it before the service."""

    def __init__(self) -> None:
        self._at_rest = _address_space()
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        with contextlib.suppress(OSError):  # some containers forbid it
            Path("/proc/self/oom_score_adj").write_text("1000")

    def job(self) -> bool:
        """Allows `MEMORY` from now on. False where the process has grown so much that a new one should take over."""
        now = _address_space()
        resource.setrlimit(resource.RLIMIT_AS, (now + MEMORY, resource.RLIM_INFINITY))
        return now - self._at_rest <= GROWN


def _address_space() -> int:
    """Bytes."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def serve(service: socket.socket, max_pixels: int) -> None:
    """Does the jobs that come through `service` until that closes, or until the process has grown."""
    confinement = Confinement()
    service.sendall(HELLO)
    while confinement.job() and (head := service.recv(COUNT.size, socket.MSG_WAITALL)):
        service.sendall(BEGUN)
        (count,) = COUNT.unpack(head)
        sizes = [size for (size,) in SIZE.iter_unpack(service.recv(count * SIZE.size, socket.MSG_WAITALL))]
        pictures = [service.recv(size, socket.MSG_WAITALL) for size in sizes]
        signal.setitimer(signal.ITIMER_PROF, SECONDS)  # then SIGPROF ends this process
        answers = work(pictures, max_pixels)
        signal.setitimer(signal.ITIMER_PROF, 0)
        service.sendall(b"".join(answer.packed() for answer in answers))
        del pictures, answers


def main() -> None:
    """Takes the most pixels of a picture as its argument."""
    with socket.socket(fileno=0) as service, contextlib.suppress(ConnectionError, struct.error):  # the service has gone
        warm_up()
        serve(service, int(sys.argv[1]))


if __name__ == "__main__":
    main()
