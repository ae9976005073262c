"""`python -m service.journal.migrations`: brings the journal that NEOCOG_JOURNAL names to the newest revision."""

import sys

from sqlalchemy.exc import SQLAlchemyError

from service.journal import OFF, checked
from service.journal.database import engine
from service.journal.migrations import upgrade
from service.journal.tables import HEAD
from service.settings import Settings, SettingsError


def main() -> None:
    try:
        url = Settings.from_environment().journal
        if url == OFF:
            raise SettingsError("NEOCOG_JOURNAL is 'off': there is no journal to migrate")
        upgrade(engine(checked(url)))
    except (SettingsError, SQLAlchemyError) as error:
        sys.exit(f"neocog: {str(error).splitlines()[0]}")
    print(f"the journal is at revision {HEAD}")


if __name__ == "__main__":
    main()
