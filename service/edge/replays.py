"""Idempotent replay: a request that is sent again with its key is answered as before, and not carried out again."""

import asyncio
import base64
import hashlib
import time
from collections import OrderedDict
from typing import Any, Final, Protocol

import orjson
from starlette.responses import Response

from service.edge.absence import PATIENCE, Absence
from service.edge.problems import Problem

KEPT: Final = 24 * 3600  # seconds an answer is kept
BUSY: Final = 60  # seconds after which a request that never ended no longer blocks its key
REMEMBERED: Final = 32_000_000  # bytes of memory for answers, with what Python needs for each
OVERHEAD: Final = 350  # bytes of an answer's objects and its place in the dictionary, beside its key and its value
LARGEST: Final = 64_000  # bytes of an answer that is kept
KEY_LENGTH: Final = 255  # characters of an Idempotency-Key


class Store(Protocol):
    """Where answers are kept. `put` with `new` stores only where there is nothing yet, and returns whether it did."""

    async def get(self, key: str) -> bytes | None: ...
    async def put(self, key: str, value: bytes, seconds: int, *, new: bool) -> bool: ...
    async def drop(self, key: str) -> None: ...


class Memory:
    """A `Store` in this process, of at most `REMEMBERED` bytes. The oldest make room, even one still in progress.

    Values are copied, since orjson leaves each of its results 4 KB of memory, whatever its length.
    """

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
        self._kept[key] = (time.monotonic() + seconds, bytes(memoryview(value)))
        self._bytes += OVERHEAD + len(key) + len(value)
        while self._bytes > REMEMBERED:
            await self.drop(next(iter(self._kept)))
        return True

    async def drop(self, key: str) -> None:
        if (kept := self._kept.pop(key, None)) is not None:
            self._bytes -= OVERHEAD + len(key) + len(kept[1])


class Redis:
    """A `Store` that all replicas share."""

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
    """Redis, and this process's memory while Redis is away."""

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
            except Exception as error:  # noqa: BLE001 - the errors of redis-py, which is not imported here
                self._redis.begins(error)
        return await getattr(self._here, method)(*arguments, **options)


class Replays:
    """The answers, by Idempotency-Key."""

    def __init__(self, redis: str) -> None:
        self._store: Store = Fallback(redis) if redis else Memory()

    async def claim(self, caller: str, path: str, key: str, body: bytes) -> tuple[str, Response | None]:
        """Returns the name to keep the answer under, and the answer where there is one already. Raises `Problem`."""
        if not 0 < len(key) <= KEY_LENGTH:
            raise Problem("bad-parameter", f"Idempotency-Key: {len(key)} characters, allowed: 1 to {KEY_LENGTH}")
        name = "neocog:replay:" + hashlib.sha256("\0".join([caller, path, key]).encode()).hexdigest()
        print_ = hashlib.sha256(body).hexdigest()
        claim = orjson.dumps({"body": print_})
        if await self._store.put(name, claim, BUSY, new=True):
            return name, None
        kept = orjson.loads(await self._store.get(name) or claim)  # dropped since: treat it as in progress
        if kept["body"] != print_:
            raise Problem("idempotency-key-reused", "this Idempotency-Key came with another body before")
        if "status" not in kept:
            raise Problem("in-progress", "the request with this Idempotency-Key is being answered", retry_after=1)
        headers = {"Idempotent-Replayed": "true"}
        return name, Response(base64.b64decode(kept["answer"]), kept["status"], headers, kept["type"])

    async def keep(self, name: str, body: bytes, response: Response) -> None:
        """Keeps an answer, unless it says to try again or is too large."""
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
