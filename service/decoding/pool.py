"""Keeps the decoders, and lets requests take turns at them.

The service calls Pillow itself only for small plain PNGs. Every other picture goes to a decoder
(`service.decoding.child`), so none of them holds up the event loop, takes the service's memory, or keeps the service
from ending.

The decoders run at `NICE`. Linux gives a process of nice 15 a weight of 36, and one of nice 0 a weight of 1024. So on
one core two busy decoders leave a busy event loop 1024 / (1024 + 2 * 36), 93 %, of it.

What waits is bounded by requests: at most half of those that `NEOCOG_MAX_IN_FLIGHT` admits, a quarter from one caller.
More get 503, and plain PNGs keep the other half. A request has at most two jobs in the queue, and callers take turns.
"""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from typing import Final, Self

from model.canonical import Pixels
from model.canonical.images import TooCostly
from service import metrics
from service.decoding.child import ANSWER, BEGUN, COUNT, HELLO, SECONDS, SIZE, Answer
from service.edge.problems import Problem

log = logging.getLogger("neocog.decoding")

DECODERS: Final = 2  # processes; each takes about 22 MB at rest, and up to 64 MiB more with a job
NICE: Final = 15
JOB_PICTURES: Final = 8  # in one job; more would save little, and others would wait longer for their turn
JOB_BYTES: Final = 65_536  # of all pictures in a job; a larger picture is a job of its own
REQUEST_SECONDS: Final = 8.0  # of processor time that a request's pictures may take together
START_WITHIN: Final = 60  # seconds; alone it takes 0.3, beside a busy service much longer
ANSWER_WITHIN: Final = 60  # seconds; a decoder that is stopped, or gets no time at all, is replaced
PAUSES: Final = (0.5, 1, 2, 4, 8, 16, 30)  # seconds before another try to start a decoder, after so many in vain
TRIES: Final = DECODERS + 1  # of a job; all decoders may have ended while there was nothing to do
_PASSED_ON: Final = ("PYTHON", "LD_", "COVERAGE_")  # of the environment; a decoder needs no passwords


class Died(Exception):
    """The decoder ended before it had answered. `begun`: it had begun with the job."""

    def __init__(self, status: int, *, begun: bool) -> None:
        if status == -signal.SIGPROF:
            super().__init__(f"the picture takes more than {SECONDS:g} seconds of processor time to decode")
        else:
            super().__init__(f"the process that decoded the picture ended with status {status}")
        self.status, self.begun = status, begun


class Decoder:
    """One child process, and this end of the socket to it."""

    def __init__(self, max_pixels: int) -> None:
        """Raises `OSError` where no process can be started."""
        self._socket, theirs = socket.socketpair()
        env = {name: value for name, value in os.environ.items() if name.startswith(_PASSED_ON)}
        env |= {"PYTHONPATH": os.pathsep.join(sys.path), "OPENBLAS_NUM_THREADS": "1"}
        env |= {"MALLOC_MMAP_THRESHOLD_": "262144"}  # what is larger goes back to the system when it is freed
        with theirs:
            self._process: subprocess.Popen[bytes] = subprocess.Popen(  # noqa: S603 - itself
                [sys.executable, "-m", "service.decoding.child", str(max_pixels)],
                stdin=theirs.fileno(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=env,
                # A terminal's Ctrl-C is for the service. A new session would do, too, but Linux may give each session
                # the same share of a core (sched_autogroup_enabled), whatever `NICE` says.
                process_group=0,
            )  # fmt: skip
        os.setpriority(os.PRIO_PROCESS, self._process.pid, NICE)
        self.pid = self._process.pid

    async def ready(self) -> None:
        """Raises `OSError`, `EOFError` or `TimeoutError` where it does not start."""
        self._reader, self._writer = await asyncio.open_connection(sock=self._socket)
        async with asyncio.timeout(START_WITHIN):
            await self._reader.readexactly(len(HELLO))

    async def work(self, pictures: Sequence[bytes]) -> list[Answer]:
        """Raises `Died` or `TimeoutError`."""
        if self._reader.at_eof():
            raise Died(self.end(), begun=False)
        head = COUNT.pack(len(pictures)) + b"".join(SIZE.pack(len(data)) for data in pictures)
        self._writer.writelines([head, *pictures])
        try:
            async with asyncio.timeout(ANSWER_WITHIN):
                said = await self._reader.readexactly(len(BEGUN) + ANSWER.size * len(pictures))
        except asyncio.IncompleteReadError as error:
            raise Died(self.end(), begun=bool(error.partial)) from None
        except ConnectionError:
            raise Died(self.end(), begun=False) from None
        return [Answer.unpacked(said[at : at + ANSWER.size]) for at in range(len(BEGUN), len(said), ANSWER.size)]

    def end(self) -> int:
        """Ends the process, whatever it does, and gives its status."""
        self._process.kill()
        if hasattr(self, "_writer"):
            self._writer.transport.abort()
        else:
            self._socket.close()
        return self._process.wait()


class _Job:
    """A few pictures of one request. `answers` becomes their answers, or raises `Died` or `Problem`."""

    __slots__ = ("answers", "pictures", "tries")

    def __init__(self, pictures: Sequence[bytes]) -> None:
        self.pictures = pictures
        self.answers: asyncio.Future[list[Answer]] = asyncio.get_running_loop().create_future()
        self.tries = 0  # in vain: decoders that ended before they began with it

    def settle(self, outcome: list[Answer] | Exception) -> None:
        if self.answers.done():  # its request was cancelled
            return
        if isinstance(outcome, Exception):
            self.answers.set_exception(outcome)
        else:
            self.answers.set_result(outcome)


class _Queue:
    """Jobs that wait. Callers take turns, whatever each of them has waiting."""

    def __init__(self) -> None:
        self._waiting: dict[str, deque[_Job]] = {}
        self._some = asyncio.Event()

    def put(self, caller: str, job: _Job) -> None:
        self._waiting.setdefault(caller, deque()).append(job)
        self._some.set()

    async def get(self) -> tuple[str, _Job]:
        while not self._waiting:
            self._some.clear()
            await self._some.wait()
        caller = next(iter(self._waiting))
        jobs = self._waiting.pop(caller)
        job = jobs.popleft()
        if jobs:
            self._waiting[caller] = jobs  # behind all others
        return caller, job

    def clear(self) -> list[_Job]:
        """All jobs that waited."""
        jobs = [job for jobs in self._waiting.values() for job in jobs]
        self._waiting.clear()
        return jobs


class Decoders:
    """An asynchronous context that waits for no decoder, neither to start nor to end. Requests use `canonical`."""

    def __init__(self, max_pixels: int, max_in_flight: int) -> None:
        self.max_pixels = max_pixels
        self._most, self._most_of_one = max(1, max_in_flight // 2), max(1, max_in_flight // 4)
        self._asking: Counter[str] = Counter()  # requests of each caller
        self._queue = _Queue()
        self._keepers: list[asyncio.Task[None]] = []
        self._ready = 0
        self._failed = False  # the last try to start a decoder

    async def __aenter__(self) -> Self:
        self._keepers = [asyncio.create_task(self._keep()) for _ in range(DECODERS)]
        return self

    async def __aexit__(self, *_: object) -> None:
        """Ends the decoders, whatever they do."""
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)

    async def canonical(self, caller: str, pictures: Sequence[bytes]) -> list[Pixels | Exception]:
        """28 x 28 pixels of each picture, or what is wrong with it: `BadImage`, or an error of ours.

        Raises `Problem` where the service cannot decode now, or where all pictures together have too many pixels.
        """
        with self._place(caller):
            request = _Request(self, caller, pictures)
            if len(pictures) <= JOB_PICTURES:
                await request.work()
            else:
                await asyncio.gather(*(request.work() for _ in range(DECODERS)))
        if request.pixels > self.max_pixels and len(pictures) > 1:
            detail = f"{request.pixels:,} pixels in all, or more; at most {self.max_pixels:,} are decoded"
            raise Problem("too-many-pixels", detail)
        return request.outcomes

    @contextlib.contextmanager
    def _place(self, caller: str) -> Iterator[None]:
        if self._asking.total() >= self._most or self._asking[caller] >= self._most_of_one:
            raise Problem("busy", "too many pictures wait for a decoder", retry_after=1)
        self._asking[caller] += 1
        try:
            yield
        finally:
            self._asking[caller] -= 1
            if not self._asking[caller]:
                del self._asking[caller]

    async def submit(self, caller: str, pictures: Sequence[bytes]) -> list[Answer]:
        """The answers for one job. Raises `Died` where it ended the decoder, and `Problem` where there is none."""
        if self._failed and not self._ready:
            raise _no_decoder()
        job = _Job(pictures)
        self._queue.put(caller, job)
        answers = await job.answers
        metrics.stage("decode").observe(sum(answer.decoding for answer in answers))
        metrics.stage("canonical").observe(sum(answer.canonical for answer in answers))
        return answers

    async def _keep(self) -> None:
        """Starts a decoder again whenever it has ended. Never returns."""
        in_vain = 0  # decoders in succession that began with no job
        while True:
            in_vain = 0 if await self._one_life() else in_vain + 1
            if in_vain:
                await asyncio.sleep(PAUSES[min(in_vain, len(PAUSES)) - 1])

    async def _one_life(self) -> bool:
        """Starts a decoder, and lets it work until it ends. Whether it began with any job."""
        decoder: Decoder | None = None
        ready = worked = False
        try:
            decoder = Decoder(self.max_pixels)
            await decoder.ready()
            ready, self._failed = True, False
            self._ready += 1
            while True:
                await self._work(decoder)
                worked = True
        except Died as died:
            worked = worked or died.begun
            metrics.DECODERS_REPLACED.labels("too-slow" if died.status == -signal.SIGPROF else "died").inc()
            log.warning("a decoder ended (%s), and is started again", died)
        except Exception as error:  # noqa: BLE001 - whatever it is, the next one may do better
            metrics.DECODERS_REPLACED.labels("stuck" if ready else "not-started").inc()
            log.warning("a decoder %s (%r)", "is replaced" if ready else "could not start", error)
            if not ready:
                self._refuse_waiting()
        finally:
            self._ready -= ready
            if decoder is not None:
                decoder.end()
        return worked

    async def _work(self, decoder: Decoder) -> None:
        """One job. Raises what ended the decoder, and so does the job, unless it can be tried with another one."""
        caller, job = await self._queue.get()
        if job.answers.done():  # its request was cancelled
            return
        try:
            job.settle(await decoder.work(job.pictures))
        except asyncio.CancelledError:
            job.answers.cancel()
            raise
        except Died as died:
            if not died.begun and job.tries < TRIES:
                job.tries += 1
                self._queue.put(caller, job)
            else:
                job.settle(died if died.begun else _no_decoder())
            raise
        except Exception as error:
            late = f"a decoder has not answered within {ANSWER_WITHIN} seconds"
            job.settle(Problem("busy", late, retry_after=1) if isinstance(error, TimeoutError) else error)
            raise

    def _refuse_waiting(self) -> None:
        self._failed = True
        if not self._ready:
            for job in self._queue.clear():
                job.settle(_no_decoder())


class _Request:
    """The pictures of one request. `work` does them job by job; two may do so at the same time."""

    def __init__(self, decoders: Decoders, caller: str, pictures: Sequence[bytes]) -> None:
        self._decoders, self._caller, self._pictures = decoders, caller, pictures
        self._jobs = _jobs(pictures)
        self._seconds = 0.0  # of processor time that its pictures took
        self.pixels = 0  # of its pictures so far
        self.outcomes: list[Pixels | Exception] = [KeyError()] * len(pictures)

    async def work(self) -> None:
        """Stops where the pictures have too many pixels."""
        for places in self._jobs:
            if self.pixels > self._decoders.max_pixels:
                return
            answers = await self._answers([self._pictures[i] for i in places])
            for i, answer in zip(places, answers, strict=True):
                self.outcomes[i] = answer.outcome  # type: ignore[assignment]  # it is canonical
                self.pixels += answer.pixels

    async def _answers(self, pictures: Sequence[bytes]) -> list[Answer]:
        """Of a job that ends its decoder, each picture is tried alone: a bad one spoils no other."""
        if self._seconds > REQUEST_SECONDS:
            over = f"the request's pictures took more than {REQUEST_SECONDS:g} seconds of processor time to decode"
            return [Answer(TooCostly(over))] * len(pictures)
        try:
            answers = await self._decoders.submit(self._caller, pictures)
        except Died as died:
            self._seconds += SECONDS
            if len(pictures) == 1:
                return [Answer(TooCostly(str(died)))]
            return [answer for data in pictures for answer in await self._answers([data])]
        self._seconds += sum(answer.decoding + answer.canonical for answer in answers)
        return answers


def _jobs(pictures: Sequence[bytes]) -> Iterator[range]:
    """The places of the pictures of each job."""
    first = size = 0
    for i, data in enumerate(pictures):
        if i > first and (i - first == JOB_PICTURES or size + len(data) > JOB_BYTES):
            yield range(first, i)
            first, size = i, 0
        size += len(data)
    yield range(first, len(pictures))


def _no_decoder() -> Problem:
    return Problem("no-decoder", "no process that decodes pictures could be started", retry_after=1)
