"""`python -m service`: serves on NEOCOG_HOST and NEOCOG_PORT until it is told to stop."""

import sys

from service.edge.server import run
from service.settings import Settings, SettingsError


def main() -> None:
    """Exits with one line when a setting is wrong, and with uvicorn's code 3 when the bundle is."""
    try:
        settings = Settings.from_environment()
    except SettingsError as error:
        sys.exit(f"neocog: {error}")
    run(settings)


if __name__ == "__main__":
    main()
