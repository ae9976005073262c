"""A request as a value: everything an endpoint may know of it."""

from typing import NamedTuple
from urllib.parse import parse_qs


class Call(NamedTuple):
    """A request that was let in, with its body read. A tuple costs a third of a frozen dataclass to make."""

    path: str
    query: bytes  # as it stands in the URL
    headers: dict[bytes, bytes]  # names in lower case
    body: bytes
    caller: str  # whom it counts for: a key's digest, or an address

    def header(self, name: bytes) -> str | None:
        """The header `name`, which is in lower case."""
        value = self.headers.get(name)
        return None if value is None else value.decode("latin-1")

    def parameter(self, name: str) -> str | None:
        """The first value of a parameter in the query."""
        if not self.query:
            return None
        return parse_qs(self.query.decode("latin-1"), keep_blank_values=True).get(name, [None])[0]
