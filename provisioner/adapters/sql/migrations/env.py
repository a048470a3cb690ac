"""Alembic's entry point: migrate the database of the engine that the store passes."""

from alembic import context

with context.config.attributes["engine"].connect() as connection:
    connection.exec_driver_sql("BEGIN IMMEDIATE")
    context.configure(connection=connection, transactional_ddl=True)
    context.run_migrations()
    connection.commit()
