"""Identifiers."""

import hashlib
import random
import time

_VERSION = 7 << 76 | 2 << 62  # and the variant


def new_id() -> str:
    """A UUID of version 7 (RFC 9562) as 32 hexadecimal digits. Later ids sort later.

    So a database appends them to its index; random ids would spread over all of it. They are unique, not secret:
    Python's generator is seeded once per process, which takes a tenth of the time of the system's generator.
    """
    bits = random.getrandbits(74)
    moment = time.time_ns() // 1_000_000
    return f"{moment << 80 | _VERSION | bits >> 62 << 64 | bits & 0x3FFFFFFFFFFFFFFF:032x}"


def earlier(than: str, seconds: float) -> str:
    """What sorts before every id made at most `seconds` before the id `than`, and after every older one."""
    moment = int(than[:12], 16) - round(1000 * seconds)
    return f"{max(0, moment):012x}"


def first_id(moment: float) -> str:
    """What sorts before every id that is made `moment` seconds after 1970 or later, and after every earlier one."""
    return f"{max(0, int(moment * 1000)) << 80:032x}"


def golden_id(model_version: str, place: int) -> str:
    """The prediction id that labels of a bundle's golden picture have. No prediction has it.

    `place` is the picture's place in golden.npz, from 0.
    """
    return hashlib.sha256(f"golden {model_version} {place}".encode()).hexdigest()[:32]


def moment(name: str) -> float:
    """Seconds since 1970 at which an id was made, to the millisecond."""
    return int(name[:12], 16) / 1000
