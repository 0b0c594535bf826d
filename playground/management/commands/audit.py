import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand
from django.db.models import Model

from accounts.models import CapWindow, Hold, Transfer, Wallet
from playground import audits
from playground.models import AuditRun, Job, Picture, Upload

CHECKED: list[type[Model]] = [Wallet, Transfer, Hold, CapWindow, Job, Picture, Upload]


class Command(BaseCommand):
    help = "Checks every invariant of the money, the jobs and the stored files. Prints JSON; exits 1 if one is broken."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--no-files", action="store_true", help="Do not read every stored picture.")

    def handle(self, *args: Any, **options: Any) -> None:
        problems = audits.run(AuditRun.By.COMMAND, with_files=not options["no_files"])
        checked = {f"{model._meta.model_name}s": model._default_manager.count() for model in CHECKED}
        found = {"ok": not problems, "problems": problems, "checked": checked}
        self.stdout.write(json.dumps(found, indent=2, default=str))
        if problems:
            raise SystemExit(1)
