"""API keys: who a request counts for."""

import hashlib
import hmac

from service.edge.problems import Problem


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
        if not sum(hmac.compare_digest(digest, known) for known in self._digests):  # all of them: equal time
            raise Problem("unauthorized", "an API key is needed: X-API-Key, or Authorization: Bearer")
        return digest
