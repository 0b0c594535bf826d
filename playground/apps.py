from django.apps import AppConfig
from django.core.checks import register

from playground import checks


class PlaygroundConfig(AppConfig):
    name = "playground"
    verbose_name = "Flux Playground"

    def ready(self) -> None:
        for check in checks.ALL:
            register(check)
