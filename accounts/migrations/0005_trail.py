"""The trail of what staff did is added to, never changed: the database itself refuses, whoever asks.

One thing may be done to a row: the name of its object becomes "erased", when a person wants to be forgotten.
On SQLite a table that Django rebuilds loses its triggers: a later migration that alters django_admin_log must run
`create_triggers` again.
"""

from django.db import migrations

WORDS = "the trail of staff is never changed"
COLUMNS = "id, action_time, user_id, content_type_id, object_id, action_flag, change_message"
WHEN = {
    "edit": f"UPDATE OF {COLUMNS} ON django_admin_log",
    "rename": "UPDATE OF object_repr ON django_admin_log",
    "delete": "DELETE ON django_admin_log",
}
SQLITE = "CREATE TRIGGER admin_log_no_{word} BEFORE {when} {only} BEGIN SELECT RAISE(ABORT, '{words}'); END"
POSTGRES_FUNCTION = f"""
CREATE OR REPLACE FUNCTION admin_log_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION '{WORDS}'; END $$
"""
POSTGRES = (
    "CREATE TRIGGER admin_log_no_{word} BEFORE {when} FOR EACH ROW {only} EXECUTE FUNCTION admin_log_refuse()"
)
INDEXES = {
    "admin_log_by_time": "(action_time DESC, id DESC)",
    "admin_log_by_user": "(user_id, id DESC)",
    "admin_log_by_object": "(object_id, id DESC)",
    "admin_log_by_name": "(object_repr, id DESC)",
}


def create_triggers(apps, schema_editor):
    is_postgres = schema_editor.connection.vendor == "postgresql"
    if is_postgres:
        schema_editor.execute(POSTGRES_FUNCTION)
    for word, when in WHEN.items():
        only = "WHEN (NEW.object_repr <> 'erased')" if word == "rename" else ""
        template = POSTGRES if is_postgres else SQLITE
        schema_editor.execute(template.format(word=word, when=when, only=only, words=WORDS))


def drop_triggers(apps, schema_editor):
    on_table = " ON django_admin_log" if schema_editor.connection.vendor == "postgresql" else ""
    for word in WHEN:
        schema_editor.execute(f"DROP TRIGGER admin_log_no_{word}{on_table}")


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0005_key_origin"),
        ("admin", "0003_logentry_add_action_flag_choices"),
    ]
    operations = [
        *(
            migrations.RunSQL(f"CREATE INDEX {name} ON django_admin_log {on}", f"DROP INDEX {name}")
            for name, on in INDEXES.items()
        ),
        migrations.RunPython(create_triggers, drop_triggers),
    ]
