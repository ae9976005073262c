"""Says in one line that this Python is too old, before pip says it in fifty."""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - it is run by whatever Python there is
    sys.exit("Python 3.11 or newer is needed; name another one: make PYTHON=python3.12 …")
