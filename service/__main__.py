"""`python -m service`: serves on NEOCOG_HOST and NEOCOG_PORT until SIGTERM or SIGINT."""

import sys

from service.edge.server import run
from service.settings import Settings, SettingsError


def main() -> None:
    """Exits with 1 and one line for a wrong setting, with 3 for a bad bundle."""
    try:
        run(Settings.from_environment())
    except SettingsError as error:
        sys.exit(f"neocog: {error}")


if __name__ == "__main__":
    main()
