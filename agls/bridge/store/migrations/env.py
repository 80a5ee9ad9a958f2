"""Bring a store up to date: run by Alembic, on the connection that `agls.bridge.store.opening` hands over."""

from alembic import context

from agls.bridge.store.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
