from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from playground.watchdog import STOP_WITHIN, watch


class Command(BaseCommand):
    help = "Does the work: the queue's cluster, and the watchdog that restarts it. Run one on every machine."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--patience",
            type=float,
            default=STOP_WITHIN,
            metavar="SECONDS",
            help="What paid calls get to end when this is asked to stop; a second signal ends it at once.",
        )

    def handle(self, *args: Any, patience: float, **options: Any) -> None:
        watch(patience=patience)
