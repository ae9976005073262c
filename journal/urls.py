"""Where the journal is: the URL that a person sets."""

import importlib.util
import os
import re
from typing import Final

from journal.errors import WrongUrl

OFF: Final = "off"  # no journal is kept
DEFAULT: Final = "sqlite:///journal.db"
VARIABLE: Final = "NEOCOG_JOURNAL"

_URL: Final = re.compile(r"(sqlite):///(?!:memory:|file:).+|(postgres(?:ql)?(?:\+psycopg)?)://\S+")


def checked(url: str) -> str:
    """`url` as SQLAlchemy wants it. Raises `WrongUrl` where no journal can be kept there."""
    match = _URL.fullmatch(url)
    if match is None or (match[2] and importlib.util.find_spec("psycopg") is None):
        shown = re.sub(r"//[^@/]*@", "//…@", url)
        allowed = "sqlite:///FILE, postgresql://USER@HOST/DATABASE (pip install 'neocog[postgres]'), or off"
        raise WrongUrl(f"{VARIABLE} is {shown!r}, allowed is: {allowed}")
    return re.sub("^postgres:", "postgresql:", url)


def from_environment() -> str:
    """The URL that the environment names, for commands. Raises `WrongUrl`, also where the journal is off."""
    url = os.environ.get(VARIABLE, DEFAULT)
    if url == OFF:
        raise WrongUrl(f"{VARIABLE} is 'off': there is no journal")
    return checked(url)
