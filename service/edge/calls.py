"""A request as a value: everything an endpoint may know of it."""

from typing import Final, NamedTuple
from urllib.parse import parse_qs

from service.edge.problems import Problem

MAX_PARAMETERS: Final = 16  # in a query; no route knows more than one


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
        """The first value of a parameter in the query. Raises `Problem` where that has more than `MAX_PARAMETERS`."""
        if not self.query:
            return None
        query = self.query.decode("latin-1")
        try:
            found = parse_qs(query, keep_blank_values=True, max_num_fields=MAX_PARAMETERS)
        except ValueError:
            raise Problem("bad-parameter", f"the query has more than {MAX_PARAMETERS} parameters") from None
        return found.get(name, [None])[0]
