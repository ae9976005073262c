"""How long predictions are kept. What somebody labelled is kept with its label, whatever its age.

By hand: `python -m journal.retention DAYS`, with the service's NEOCOG_JOURNAL.
"""

import argparse
import logging
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from journal.errors import JournalError
from journal.ids import first_id
from journal.urls import from_environment

if TYPE_CHECKING:
    from journal.database import Database

log = logging.getLogger("neocog.journal")

BATCH: Final = 500  # predictions looked at in one transaction, 10 ms in SQLite; as many as the writer inserts in one
PAUSE: Final = 3600.0  # seconds between two sweeps
DAY: Final = 86_400.0  # seconds


class Retention:
    """Removes unlabelled predictions that are older than `days`, a batch at each `step`. 0 days keep all for ever.

    A sweep goes from the oldest prediction to those that are just old enough. Predictions whose label came meanwhile
    are passed over, so each sweep begins anew, an hour after the last.
    """

    def __init__(self, days: float) -> None:
        self._days = days
        self._after = ""  # the last id that this sweep has looked at
        self._due = 0.0

    @property
    def wait(self) -> float | None:
        """Seconds until the next step is due. None where none ever is."""
        return max(0.0, self._due - time.monotonic()) if self._days else None

    def step(self, opened: "Callable[[], Database]") -> None:
        """Removes a batch, if it is time. A failure ends the sweep, and only the log tells: the next one repeats it."""
        if self.wait != 0:
            return
        last = None
        try:
            last = opened().remove(self._after, first_id(time.time() - self._days * DAY), BATCH).last
        except Exception as error:  # noqa: BLE001 - the writer's thread must go on, whatever fails
            log.warning("old predictions could not be removed: %s", error)
        if last is None:
            self._due = time.monotonic() + PAUSE
        self._after = last or ""


def main() -> None:
    from journal.database import Database  # noqa: PLC0415 - the service imports this module, and SQLAlchemy later

    parser = argparse.ArgumentParser("python -m journal.retention", description=__doc__)
    parser.add_argument("days", type=float, help="remove unlabelled predictions that are older")
    days = parser.parse_args().days
    if not days >= 0:
        parser.error(f"{days:g} days are no age")
    removed, after = 0, ""
    try:
        database = Database(from_environment())
        before = first_id(time.time() - days * DAY)
        while (found := database.remove(after, before, BATCH)).last is not None:
            removed, after = removed + found.removed, found.last
    except JournalError as error:
        sys.exit(f"neocog: {error}")
    print(f"{removed:,} predictions are removed")


if __name__ == "__main__":
    main()
