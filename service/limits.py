"""How much each caller may ask for, and the same answer to the same request: in memory, or in Redis for all replicas.

When Redis is away, each replica goes on with its own memory: a limit that is too generous for a while is better than a
service that refuses everybody.
"""

import asyncio
import base64
import hashlib
import hmac
import logging
import math
import time
from collections import OrderedDict
from typing import Any, Final, Protocol

import orjson
from starlette.responses import Response

from service.problems import Problem

log = logging.getLogger("neocog.limits")

KEPT: Final = 24 * 3600  # seconds an answer can be had again
BUSY: Final = 60  # seconds after which a request that never ended no longer blocks its key
REMEMBERED: Final = 32_000_000  # bytes of answers in memory
LARGEST: Final = 64_000  # bytes of an answer that is kept
KEY_LENGTH: Final = 255  # characters of an Idempotency-Key
PATIENCE: Final = 0.5  # seconds for Redis
AWAY: Final = 5.0  # seconds Redis is left alone after it failed


class Keys:
    """The accepted API keys, as SHA-256."""

    def __init__(self, digests: str) -> None:
        self._digests = [digest for digest in digests.split(",") if digest]

    def caller(self, headers: dict[bytes, bytes], client: str) -> str:
        """Whom a request counts for: its key's digest, or its address where no key is needed. Raises `Problem`."""
        if not self._digests:
            return client
        given = headers.get(b"x-api-key") or headers.get(b"authorization", b"").removeprefix(b"Bearer ")
        digest = hashlib.sha256(given.strip()).hexdigest()
        if not sum(hmac.compare_digest(digest, known) for known in self._digests):  # all of them: constant time
            raise Problem(401, "unauthorized", "an API key is needed: X-API-Key, or Authorization: Bearer")
        return digest


class Absence:
    """Of Redis: for some seconds after it failed nobody waits for it again."""

    def __init__(self) -> None:
        self._until = 0.0

    def lasts(self) -> bool:
        return time.monotonic() < self._until

    def begins(self, error: Exception) -> None:
        self._until = time.monotonic() + AWAY
        log.warning("Redis is away, each replica goes on alone: %s", error)


class Rate:
    """So many requests of each caller in each window."""

    def __init__(self, rate: str, redis: str) -> None:
        # Loaded when it is asked for: most services stand behind something that limits rates already.
        from limits import parse  # noqa: PLC0415
        from limits.aio.storage import MemoryStorage  # noqa: PLC0415
        from limits.aio.strategies import SlidingWindowCounterRateLimiter as Limiter  # noqa: PLC0415
        from limits.storage import storage_from_string  # noqa: PLC0415

        self._item = parse(rate)
        self._here = Limiter(MemoryStorage())
        self._there = None
        if redis:
            options = {"socket_timeout": PATIENCE, "socket_connect_timeout": PATIENCE}
            self._there = Limiter(storage_from_string(f"async+{redis}", implementation="redispy", **options))
        self._redis = Absence()

    async def count(self, caller: str) -> None:
        """Raises `Problem` when the caller has used its share up."""
        if self._there is not None and not self._redis.lasts():
            try:
                await self._hit(self._there, caller)
            except Problem:
                raise
            except Exception as error:  # noqa: BLE001 - its client's own errors, without importing it
                self._redis.begins(error)
            else:
                return
        await self._hit(self._here, caller)

    async def _hit(self, limiter: Any, caller: str) -> None:
        if not await limiter.hit(self._item, caller):
            reset, _ = await limiter.get_window_stats(self._item, caller)
            wait = max(1, math.ceil(reset - time.time()))
            raise Problem(429, "rate-limited", f"more than {self._item} from one caller", retry_after=wait)


class Store(Protocol):
    """Where answers are kept: `put` with `new` only where there is nothing, and says whether it did."""

    async def get(self, key: str) -> bytes | None: ...
    async def put(self, key: str, value: bytes, seconds: int, *, new: bool) -> bool: ...
    async def drop(self, key: str) -> None: ...


class Memory:
    """A `Store` of this process alone; the oldest answers make room."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, tuple[float, bytes]] = OrderedDict()
        self._bytes = 0

    async def get(self, key: str) -> bytes | None:
        until, value = self._kept.get(key, (0.0, None))
        return value if until > time.monotonic() else None

    async def put(self, key: str, value: bytes, seconds: int, *, new: bool) -> bool:
        if new and await self.get(key) is not None:
            return False
        await self.drop(key)
        self._kept[key] = (time.monotonic() + seconds, value)
        self._bytes += len(key) + len(value)
        while self._bytes > REMEMBERED:
            await self.drop(next(iter(self._kept)))
        return True

    async def drop(self, key: str) -> None:
        if (kept := self._kept.pop(key, None)) is not None:
            self._bytes -= len(key) + len(kept[1])


class Redis:
    """A `Store` of all replicas."""

    def __init__(self, url: str) -> None:
        from redis.asyncio import Redis as Client  # noqa: PLC0415 - needed by those who set NEOCOG_REDIS

        self._client = Client.from_url(url, socket_timeout=PATIENCE, socket_connect_timeout=PATIENCE)

    async def get(self, key: str) -> bytes | None:
        found = await self._client.get(key)
        return found.encode() if isinstance(found, str) else found

    async def put(self, key: str, value: bytes, seconds: int, *, new: bool) -> bool:
        return bool(await self._client.set(key, value, ex=seconds, nx=new))

    async def drop(self, key: str) -> None:
        await self._client.delete(key)


class Fallback:
    """Redis, and this process's memory while it is away."""

    def __init__(self, url: str) -> None:
        self._there, self._here = Redis(url), Memory()
        self._redis = Absence()

    async def get(self, key: str) -> bytes | None:
        found: bytes | None = await self._either("get", key)
        return found

    async def put(self, key: str, value: bytes, seconds: int, *, new: bool) -> bool:
        return bool(await self._either("put", key, value, seconds, new=new))

    async def drop(self, key: str) -> None:
        await self._either("drop", key)

    async def _either(self, method: str, *arguments: object, **options: object) -> Any:
        if not self._redis.lasts():
            try:
                return await getattr(self._there, method)(*arguments, **options)
            except Exception as error:  # noqa: BLE001 - its client's own errors, without importing it
                self._redis.begins(error)
        return await getattr(self._here, method)(*arguments, **options)


class Replays:
    """Answers by Idempotency-Key: a request sent again is answered as before, and not carried out again."""

    def __init__(self, redis: str) -> None:
        self._store: Store = Fallback(redis) if redis else Memory()

    async def claim(self, caller: str, path: str, key: str, body: bytes) -> tuple[str, Response | None]:
        """(the name to keep the answer under, the answer if there is one already). Raises `Problem`."""
        if not 0 < len(key) <= KEY_LENGTH:
            raise Problem(400, "bad-parameter", f"Idempotency-Key: {len(key)} characters, allowed: 1 to {KEY_LENGTH}")
        name = "neocog:replay:" + hashlib.sha256("\0".join([caller, path, key]).encode()).hexdigest()
        print_ = hashlib.sha256(body).hexdigest()
        claim = orjson.dumps({"body": print_})
        if await self._store.put(name, claim, BUSY, new=True):
            return name, None
        kept = orjson.loads(await self._store.get(name) or claim)  # gone meanwhile: as if it were being answered
        if kept["body"] != print_:
            raise Problem(422, "idempotency-key-reused", "this Idempotency-Key came with another body before")
        if "status" not in kept:
            raise Problem(409, "in-progress", "the request with this Idempotency-Key is being answered", retry_after=1)
        headers = {"Idempotent-Replayed": "true"}
        return name, Response(base64.b64decode(kept["answer"]), kept["status"], headers, kept["type"])

    async def keep(self, name: str, body: bytes, response: Response) -> None:
        """For the next one who asks; neither an answer that says to try again, nor one that would fill the memory."""
        if response.status_code >= 500 or response.status_code in (408, 429) or len(response.body) > LARGEST:
            await self._store.drop(name)
            return
        kept = {
            "body": hashlib.sha256(body).hexdigest(),
            "status": response.status_code,
            "type": response.headers.get("content-type"),
            "answer": base64.b64encode(bytes(response.body)).decode(),
        }
        await asyncio.shield(self._store.put(name, orjson.dumps(kept), KEPT, new=False))
