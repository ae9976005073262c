"""`python -m journal.migrations`: migrates the journal that NEOCOG_JOURNAL names to the newest revision."""

import sys

from sqlalchemy.exc import SQLAlchemyError

from journal.database import engine
from journal.errors import WrongUrl
from journal.migrations import upgrade
from journal.tables import HEAD
from journal.urls import from_environment


def main() -> None:
    try:
        upgrade(engine(from_environment()))
    except (WrongUrl, SQLAlchemyError) as error:
        sys.exit(f"neocog: {str(error).splitlines()[0]}")
    print(f"the journal is at revision {HEAD}")


if __name__ == "__main__":
    main()
