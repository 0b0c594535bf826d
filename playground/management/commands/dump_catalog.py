from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from playground.catalogue_dump import dump


class Command(BaseCommand):
    help = (
        "Writes the whole catalogue as TOML, to standard output or a file: the shape that load_catalog reads."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", nargs="?", type=Path, help="Where to write it.")

    def handle(self, *args: Any, file: Path | None, **options: Any) -> None:
        text = dump()
        if file is None:
            self.stdout.write(text)
            return
        try:
            file.write_text(text, encoding="utf-8")
        except OSError as error:
            raise CommandError(f"{file} cannot be written: {error.strerror}") from error
