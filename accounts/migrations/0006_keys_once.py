from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("accounts", "0005_trail")]

    operations = [
        migrations.AddField(
            model_name="apikey",
            name="once",
            field=models.CharField(
                editable=False, help_text="The form that made it, which can make one only.", max_length=32, null=True
            ),
        ),
        migrations.AddConstraint(
            model_name="apikey",
            constraint=models.UniqueConstraint(fields=("user", "once"), name="apikey_once"),
        ),
    ]
