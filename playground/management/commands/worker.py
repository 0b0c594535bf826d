from typing import Any

from django.core.management.base import BaseCommand

from playground.watchdog import watch


class Command(BaseCommand):
    help = "Does the work: the queue's cluster, and the watchdog that restarts it. Run one on every machine."

    def handle(self, *args: Any, **options: Any) -> None:
        watch()
