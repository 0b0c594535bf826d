from django.db import migrations, models

import accounts.models.topups


class Migration(migrations.Migration):
    dependencies = [("accounts", "0006_keys_once")]

    operations = [
        migrations.AlterField(
            model_name="topup",
            name="state",
            field=models.CharField(
                choices=[
                    ("started", "Started"),
                    ("waiting", "Waiting for the bank"),
                    ("paid", "Paid"),
                    ("expired", "Expired"),
                    ("failed", "Failed"),
                ],
                default="started",
                max_length=10,
            ),
        ),
        migrations.AddField(
            model_name="topup",
            name="next_look",
            field=models.DateTimeField(
                default=accounts.models.topups._first_look,
                help_text="When to ask Stripe, in case its webhook does not come.",
            ),
        ),
        migrations.AddIndex(
            model_name="topup",
            index=models.Index(
                condition=models.Q(("state__in", ["started", "waiting"])), fields=["next_look"], name="topup_open"
            ),
        ),
        migrations.AddField(
            model_name="stripeevent",
            name="payment_id",
            field=models.CharField(default="", help_text="The payment intent it is about.", max_length=200),
        ),
        migrations.AlterField(
            model_name="stripeevent",
            name="payload",
            field=models.JSONField(help_text="What we need of it; no names, addresses or cards."),
        ),
        migrations.AddIndex(
            model_name="stripeevent", index=models.Index(fields=["payment_id"], name="stripeevent_payment")
        ),
    ]
