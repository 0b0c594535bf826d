"""Transfers are added, never changed: the database itself refuses, whoever asks.

On SQLite a table that Django rebuilds loses its triggers: a later migration that alters accounts_transfer must run
`create_triggers` again.
"""

from django.db import migrations

SQLITE = """
CREATE TRIGGER accounts_transfer_no_{word} BEFORE {verb} ON accounts_transfer
BEGIN SELECT RAISE(ABORT, 'transfers are never changed: add a compensating one'); END
"""
POSTGRES_FUNCTION = """
CREATE OR REPLACE FUNCTION accounts_transfer_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION 'transfers are never changed: add a compensating one'; END $$
"""
POSTGRES = """
CREATE TRIGGER accounts_transfer_no_{word} BEFORE {verb} ON accounts_transfer
FOR EACH ROW EXECUTE FUNCTION accounts_transfer_refuse()
"""


def create_triggers(apps, schema_editor):
    is_postgres = schema_editor.connection.vendor == "postgresql"
    if is_postgres:
        schema_editor.execute(POSTGRES_FUNCTION)
    for verb in ("UPDATE", "DELETE"):
        schema_editor.execute((POSTGRES if is_postgres else SQLITE).format(verb=verb, word=verb.lower()))


def drop_triggers(apps, schema_editor):
    on_table = " ON accounts_transfer" if schema_editor.connection.vendor == "postgresql" else ""
    for word in ("update", "delete"):
        schema_editor.execute(f"DROP TRIGGER accounts_transfer_no_{word}{on_table}")


class Migration(migrations.Migration):
    dependencies = [("accounts", "0001_initial")]
    operations = [migrations.RunPython(create_triggers, drop_triggers)]
