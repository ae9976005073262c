"""Alembic's migrations of the journal. The service applies them when it first writes.

A migration only adds, and what it adds has a default: while replicas are replaced, old code writes to new tables.
By hand: `python -m journal.migrations`, with the service's NEOCOG_JOURNAL.
"""

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Engine, text

LOCK = 7_365_061  # the key of PostgreSQL's advisory lock: replicas that start together migrate one after the other


def configuration() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    return config


def upgrade(engine: Engine) -> None:
    """Migrates to the newest revision. Several processes may call it at once."""
    config = configuration()
    with engine.connect() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
        else:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        connection.commit()
