"""Alembic runs this file. It applies the migrations on the connection that `upgrade` opened, in its transaction."""

from alembic import context

from journal.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
