"""HTTP/1.1 on one connection: uvicorn's protocol, fed one request at a time, with a bound on all that a client does.

uvicorn's protocol gives its parser whatever arrives, so a client decides how much is parsed, queued and kept. Here the
bytes are cut into requests first, and the parser gets the next request once the last one is answered.
"""

import asyncio
import enum
import re
from typing import Final, NamedTuple

import httptools
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from service.edge import problems
from service.edge.admission import Admission, raw
from service.edge.buffers import Buffers
from service.edge.problems import Problem

KEEP_ALIVE: Final = 75  # seconds; longer than the proxies in front, which otherwise send into a closing connection
MAX_HEAD: Final = 65_536  # bytes of a request's first line and headers, of a chunk's head, and of trailers
MAX_FIELDS: Final = 128  # header fields; 64 KB of them can be 16,000, which would take 2 MB once they are parsed
SMALL: Final = 65_536  # bytes of a request that may wait unparsed
UNCOUNTED: Final = 4096  # bytes of a head, or of a body that arrives whole, which are not counted in `Buffers`

# What the first line of a request begins with, while it has not all come; and what the whole line looks like.
_BEGINNING: Final = re.compile(rb"[A-Z-]{1,32}( ([!-\xff]+( (H(T(T(P(/(1(\.([01]\r?)?)?)?)?)?)?)?)?)?)?)?")
_FIRST_LINE: Final = re.compile(rb"[A-Z-]{1,32} [!-\xff]+ HTTP/1\.[01]\r\n")
_UPGRADE: Final = re.compile(rb"\r\nupgrade:", re.IGNORECASE)
# The head of a request that leaves no doubt about where it ends, so that its refusal may leave the connection open.
_FIELD: Final = (
    rb"(?:\r\n(?!(?:content-length|connection|transfer-encoding|expect|upgrade):)"
    rb"[!#$%&'*+.^_`|~0-9a-z-]+:[\t\x20-\x7e\x80-\xff]*)*"
)
_PLAIN: Final = re.compile(
    rb"POST [!-~]+ HTTP/1\.1" + _FIELD + rb"\r\ncontent-length: *(\d{1,9}) *" + _FIELD + rb"\r\n\r\n", re.IGNORECASE
)


class Phase(enum.Enum):
    """What the next bytes of a connection belong to."""

    HEAD = enum.auto()  # a request that is not parsed yet
    BODY = enum.auto()  # the request that is being parsed
    WAIT = enum.auto()  # the one after a request that waits for room
    ANSWER = enum.auto()  # the one after a request that is being answered


class Door(NamedTuple):
    """What the protocol must know of the application; the lifespan hands it over."""

    admission: Admission
    buffers: Buffers
    read_seconds: float
    max_connections: int
    first_lines: tuple[bytes, ...]  # of the requests that may wait unparsed: those to direct routes


class Protocol(HttpToolsProtocol):
    """uvicorn's protocol, with these additions.

    - The next request of a connection is parsed once the last one is answered. Until then, little of it is read.
    - While there is no room, a request waits unparsed, or is refused unparsed. `Admission` decides.
    - A client is cut off that has not sent a whole request, or not read its answer, within `NEOCOG_READ_SECONDS`. Each
      connection has one timer, not each request.
    - A client that has ended its side is answered, too: it may still read.
    - Heads, chunk heads and trailers are bounded. Trailers are no headers: an API key in them is none.
    - An `Upgrade` is ignored, as RFC 9110 allows: the request is answered in HTTP/1.1.
    - While the service drains, every answer closes its connection.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._door: Door = self.app_state["door"]
        self._admission, self._buffers = self._door.admission, self._door.buffers
        self._phase = Phase.HEAD
        self._unparsed = b""  # of a request that has not all come, or that waits, or that is not its turn
        self._missing: int | None = 0  # bytes that the body lacks; None: its chunks will tell
        self._begun = self._begun_again = False  # the request that the parser was given; another one
        self._overhead = 0  # bytes of chunk heads and trailers that the body's own bytes do not make up for
        self._task: asyncio.Task[None] | None = None  # that answers the newest request
        self._ended = False  # the client sends no more
        self._counted = False  # in `Buffers`
        self._bodiless = False  # a body is thrown away: that of a GET means nothing
        self._last = False  # the service ends: the request that waits is the last one
        self._reading_since: float | None = self.loop.time()  # when the request began that has not all come
        self._stuck_since: float | None = None  # when the client stopped reading
        self.used = self._reading_since  # when the connection was made, or the last answer ended
        self._admission.connections += 1
        if len(self.connections) > self._door.max_connections:
            self._make_room()
        self._timer = self.loop.call_later(self._door.read_seconds, self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._timer.cancel()  # it would keep this object for ten seconds
        self._admission.connections -= 1
        self._admission.forget(self)
        if self._counted and self._task is not None and not self._task.done():
            self._task.add_done_callback(lambda _: self._free())  # it holds the request until then
        else:
            self._free()

    def eof_received(self) -> bool:  # type: ignore[override]
        """The client has left, or has ended its side and waits for the answer: nobody can tell. True: it is answered.

        Where there is no room, it is refused at once, since most of those who end while they wait have left.
        """
        self._ended = True
        if self._phase is Phase.WAIT:
            self._admission.forget(self)
            self.expired()
        return self._phase is Phase.ANSWER

    # What arrives: bytes

    def data_received(self, data: bytes) -> None:
        if self._phase is Phase.HEAD:
            self._begin(data)
        elif self._phase is Phase.BODY:
            self._continue(data)
        else:
            self._unparsed += data
            self.flow.pause_reading()
            self._count(len(data))

    def _begin(self, data: bytes) -> None:
        """Takes bytes of a request that is not parsed yet."""
        seen = len(self._unparsed)
        if seen:
            data = self._unparsed + data
        else:
            self._unset_keepalive_if_required()
            data = data.lstrip(b"\r\n")  # RFC 9112, 2.2: a server ignores empty lines before a request
            if self._reading_since is None:
                self._reading_since = self.loop.time()
        end = data.find(b"\r\n\r\n", max(0, seen - 3)) + 4
        if (end if end > 3 else len(data)) > MAX_HEAD:
            self._refuse(Problem("headers-too-large", f"more than {MAX_HEAD:,} bytes of headers"))
        elif end > 3 and data.count(b"\r\n", 0, end) > MAX_FIELDS + 2:
            self._refuse(Problem("headers-too-large", f"more than {MAX_FIELDS} headers"))
        elif end > 3:
            if self._admission.full and len(data) <= SMALL and data.startswith(self._door.first_lines):
                self._phase, self._unparsed, self._reading_since = Phase.WAIT, data, None
                self._admission.wait(self)
                self._count(len(data) - seen)
            else:
                self._parse(data, end)
        elif _FIRST_LINE.match(data) if b"\n" in data else not data or _BEGINNING.fullmatch(data):
            self._unparsed = data
            self._count(len(data) - seen)
        else:
            self._malformed()

    def _parse(self, data: bytes, end: int) -> None:
        """Gives the parser a request whose head ends before `end`, and what has come of its body."""
        self._unparsed, self._missing, self._overhead, self._begun = b"", 0, 0, False
        self._free()
        if end > UNCOUNTED:
            self._count(end)
            if self.transport.is_closing():
                return
        head, rest = data[:end], data[end:]
        if b"pgrade" in head or b"PGRADE" in head:  # the parser would take the body for bytes of another protocol
            head = _UPGRADE.sub(b"\r\nx-upgrade:", head)
        if self._fed(head) and rest:
            self.data_received(rest)

    def _continue(self, data: bytes) -> None:
        """Takes bytes of the body of the request that is being parsed, and what follows it."""
        rest = b""
        if self._missing is None:
            self._overhead += len(data)
            if self._overhead > MAX_HEAD + len(data):
                self._refuse(Problem("headers-too-large", f"more than {MAX_HEAD:,} bytes of chunks' heads or trailers"))
                return
        else:
            if len(data) > self._missing:
                data, rest = data[: self._missing], data[self._missing :]
            self._missing -= len(data)
        kept = not (self._bodiless or self.cycle.response_complete)
        if kept and (self._missing != 0 or len(data) > UNCOUNTED or self._counted):
            self._count(len(data))
            if self.transport.is_closing():
                return
        if self._fed(data) and rest:
            self.data_received(rest)

    def _fed(self, data: bytes) -> bool:
        """Gives bytes to the parser. False where they are not HTTP, or not of this request alone."""
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:  # CONNECT: it is answered like any other method
            pass
        except httptools.HttpParserError:
            if not self._begun_again:
                self._malformed()
            elif self.cycle.response_complete:
                self.transport.close()
            else:
                self.cycle.keep_alive = False
            return False
        return not self.transport.is_closing()

    # What the parser finds

    def on_message_begin(self) -> None:
        if self._begun:  # a request after a body of chunks, whose end only the parser knows: that ends the connection
            self._begun_again = True
            raise ValueError("one request at a time")  # `_fed` catches it
        self._begun = True
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._phase is not Phase.HEAD:
            return  # a trailer
        super().on_header(name, value)
        name = name.lower()
        if name == b"content-length":
            self._missing = int(value)
        elif name == b"transfer-encoding":
            self._missing = None

    def on_headers_complete(self) -> None:
        """While the service drains, the answer closes the connection, so the client opens the next one elsewhere."""
        super().on_headers_complete()
        self._phase = Phase.BODY
        self._bodiless = self.scope["method"] in ("GET", "HEAD")
        if self._last or self._admission.draining:
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        self._overhead = max(0, self._overhead - len(body) - len(body) // 8)  # 10 MB of one-byte chunks take 9 s
        if not self._bodiless:
            super().on_body(body)

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._reading_since = None
        if self.cycle.response_complete:
            self._rest()
        else:
            self._phase = Phase.ANSWER
            if self._counted:
                self._buffers.complete(self)

    # What becomes of a request

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        """As uvicorn's, but the task is known."""
        self._task = self.loop.create_task(cycle.run_asgi(app))
        self._task.add_done_callback(self.tasks.discard)
        self.tasks.add(self._task)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._phase is Phase.ANSWER:
            self._rest()
        else:
            self._free()  # the rest of the body is read and thrown away

    def _rest(self) -> None:
        """The request is over, and the next one may begin: what has come of it already, in the loop's next turn."""
        self._phase = Phase.ANSWER if self._unparsed else Phase.HEAD  # until then, what comes is put behind it
        self.used = self.loop.time()
        self._free()
        if self._unparsed:
            self._count(len(self._unparsed))
            self.loop.call_soon(self._next)
        elif self._ended:
            self.transport.close()

    def _next(self) -> None:
        if self.transport.is_closing():
            return
        data, self._unparsed, self._phase = self._unparsed, b"", Phase.HEAD
        if data:
            self._free()
            self.flow.resume_reading()
            self._begin(data)
            if self._ended and self._phase in (Phase.HEAD, Phase.BODY):
                self.transport.close()  # the rest of the request will not come
            elif self._ended and self._phase is Phase.WAIT:
                self.eof_received()

    def admitted(self) -> None:
        """There is room for the request that waits."""
        data = self._unparsed
        self._phase, self._reading_since = Phase.HEAD, self.loop.time()  # its body may not have come
        self._free()
        self.flow.resume_reading()
        self._parse(data, data.index(b"\r\n\r\n") + 4)

    def expired(self) -> None:
        """There was no room for the request that waits."""
        data = self._unparsed
        plain = _PLAIN.match(data)
        end = plain.end() + int(plain[1]) if plain else 0
        if not plain or len(data) < end or self._last or self._admission.draining:
            self.admitted()  # `Front` refuses it, or the parser
            return
        self._unparsed = data[end:]
        self.transport.write(self._admission.refused_unread())
        self.timeout_keep_alive_task = self.loop.call_later(KEEP_ALIVE, self.timeout_keep_alive_handler)
        self.flow.resume_reading()
        self._rest()

    def shutdown(self) -> None:
        """uvicorn calls this when the service ends. It would close the connection of a request that waits."""
        if self._phase is Phase.WAIT:
            self._last = True
        else:
            super().shutdown()

    def evicted(self) -> None:
        """Others need the memory that this request holds."""
        if self._phase is Phase.WAIT:
            self._admission.forget(self)
            self.expired()
        else:
            self._refuse(Problem("busy", "the requests that are arriving fill the memory for them", retry_after=1))

    # Bounds

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stuck_since = self.loop.time()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stuck_since = None

    def _look(self) -> None:
        """Cuts the client off where it is late, or looks again when it may be."""
        patience = self._door.read_seconds
        if self.transport.is_closing() and self._stuck_since is None:
            self._stuck_since = self.loop.time()  # it closes once the client has read what was written
        since = [time for time in (self._reading_since, self._stuck_since) if time is not None]
        left = min(since, default=self.loop.time()) + patience - self.loop.time()
        if left > 0:
            self._timer = self.loop.call_later(left, self._look)
        elif self._stuck_since is not None:
            self.transport.abort()
        else:
            self._refuse(Problem("too-slow", f"the request had not arrived after {patience:g} seconds"))
            self._look()

    def _make_room(self) -> None:
        """Closes the connections that have been idle longest, a hundredth of all; or this one, if none is idle."""
        idle = sorted((c for c in self.connections if c is not self and c.idle), key=lambda c: c.used)  # type: ignore[union-attr]
        for connection in idle[: max(1, self._door.max_connections // 100)]:
            connection.transport.close()
        if not idle:
            self._refuse(Problem("busy", "every connection that may be open is in use", retry_after=1))

    @property
    def idle(self) -> bool:
        return self._phase is Phase.HEAD and not self._unparsed

    def _count(self, size: int) -> None:
        """Counts bytes that the service holds for this connection."""
        self._counted = True
        self._buffers.add(self, size)

    def _free(self) -> None:
        if self._counted:
            self._counted = False
            self._buffers.free(self)

    def _malformed(self) -> None:
        self._refuse(Problem("malformed-http", "what arrived is not a request in HTTP/1.1"))

    def _refuse(self, problem: Problem) -> None:
        """Ends the connection. Sends the problem first, unless an answer has begun."""
        if self.transport.is_closing():
            return
        if self._phase not in (Phase.BODY, Phase.ANSWER) or not self.cycle.response_started:
            self.transport.write(raw(problems.answer(problem), (b"connection", b"close")))
        self.transport.close()
        self._unparsed, self._reading_since = b"", None
        if self._phase is Phase.BODY:  # the application hears of it at once
            self.cycle.disconnected = True
            self.cycle.message_event.set()
