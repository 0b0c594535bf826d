"""Counts what was made and paid before days were counted as they happen."""

from django.db import migrations

# As `playground.tally` had it when this was written.
FILL = """
    INSERT INTO playground_usageday
           (user_id, day, variant_id, pictures, pictures_micros, previews, kept, kept_micros)
    SELECT user_id, day, variant_id, SUM(pictures), SUM(pictures_micros), SUM(previews), SUM(kept), SUM(kept_micros)
      FROM (
        SELECT j.user_id, {of_transfer} AS day, j.variant_id, 1 AS pictures, t.amount AS pictures_micros,
               0 AS previews, 0 AS kept, 0 AS kept_micros
          FROM accounts_transfer t JOIN playground_job j ON j.hold_id = t.hold_id
         WHERE t.kind = 'charge' AND j.state = 'succeeded'
        UNION ALL
        SELECT j.user_id, {of_job}, j.variant_id, 0, 0, 1, 0, 0
          FROM playground_job j WHERE j.state = 'succeeded' AND j.is_preview
        UNION ALL
        SELECT p.user_id, {of_transfer}, p.variant_id, 0, 0, 0, 1, t.amount
          FROM accounts_transfer t JOIN playground_picture p ON t.business_id = {keep_id} WHERE t.kind = 'keep'
      ) AS made GROUP BY user_id, day, variant_id
"""
DIALECT = {
    "sqlite": {
        "of_transfer": "date(t.created)",
        "of_job": "date(j.finished)",
        "keep_id": "'keep:' || substr(p.id, 1, 8) || '-' || substr(p.id, 9, 4) || '-' || substr(p.id, 13, 4)"
        " || '-' || substr(p.id, 17, 4) || '-' || substr(p.id, 21)",
    },
    "postgresql": {
        "of_transfer": "(t.created AT TIME ZONE 'UTC')::date",
        "of_job": "(j.finished AT TIME ZONE 'UTC')::date",
        "keep_id": "'keep:' || p.id",
    },
}


def fill(apps, schema_editor):
    schema_editor.execute(FILL.format(**DIALECT[schema_editor.connection.vendor]))


class Migration(migrations.Migration):
    dependencies = [
        ("playground", "0004_usage"),
        ("accounts", "0003_warn_levels"),
    ]
    operations = [migrations.RunPython(fill, migrations.RunPython.noop)]
