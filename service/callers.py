"""Whom a row of the journal is from, without naming them."""

import hmac
from functools import lru_cache
from typing import Final

from journal.rows import CALLER
from service.edge.rates import name

KNOWN: Final = 10_000  # callers whose hash is remembered, in 3 MB at most


class Callers:
    """Hashes callers with a secret: the same caller has the same hash in all replicas that share the secret.

    Whoever has the journal and the secret, or the journal of a service without one, can hash all 2^32 IPv4 addresses
    and see whose the rows are. An API key stays unknown, as long as it is random.
    """

    def __init__(self, secret: str) -> None:
        self._secret = secret.encode()
        self.hashed = lru_cache(KNOWN)(self._hashed)  # each prediction needs one

    def _hashed(self, caller: str) -> str:
        """16 hexadecimal digits for a key's digest or an address. Addresses of one IPv6 network (/64) have the same."""
        return hmac.digest(self._secret, name(caller).encode(), "sha256").hex()[:CALLER]
