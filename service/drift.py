"""What `pipelines.watch` last said of the served model. Reading it never makes anybody wait for the database."""

import asyncio
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

import orjson

from journal.errors import JournalUnavailable
from journal.writer import Journal
from service.bundles import Bundles

if TYPE_CHECKING:
    from sqlalchemy import Connection

EVERY: Final = 10.0  # seconds between two reads, at least; nothing is read while nobody asks
UNKNOWN: Final = orjson.dumps({"status": "unknown"})


class Drift:
    """The newest summary of each moment's model. One model's summary is never shown for another."""

    def __init__(self, journal: Journal | None, bundles: Bundles) -> None:
        self._journal, self._bundles = journal, bundles
        self._known: tuple[str, bytes] = ("", UNKNOWN)  # the version of the model, and its summary
        self._asked = -EVERY  # when the journal was asked last
        self._version = ""  # about which model
        self._reading: asyncio.Task[None] | None = None

    def summary(self) -> bytes:
        """JSON: the summary as it was read last. The journal is asked again behind the answer, if it is time."""
        version = self._bundles.current.manifest.version
        now = monotonic()
        idle = self._reading is None or self._reading.done()
        if self._journal is not None and idle and (version != self._version or now - self._asked >= EVERY):
            self._asked, self._version = now, version
            self._reading = asyncio.create_task(self._read(self._journal, version))
        known, summary = self._known
        return summary if known == version else UNKNOWN

    async def _read(self, journal: Journal, version: str) -> None:
        def question(connection: "Connection") -> str | None:
            import sqlalchemy as sa  # noqa: PLC0415 - the service imports it once it is ready

            from journal.tables import watch  # noqa: PLC0415

            return connection.execute(sa.select(watch.c.summary).where(watch.c.model_version == version)).scalar()

        try:
            said = await journal.ask(question)
        except JournalUnavailable:
            return  # what is known stays; it says when it was true
        self._known = (version, said.encode() if said and _is_summary(said) else UNKNOWN)


def _is_summary(text: str) -> bool:
    try:
        found: Any = orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return isinstance(found, dict) and isinstance(found.get("status"), str)
