"""The product's settings with one view more, for `tests.benchmarks.api`."""

from playground.settings import *  # noqa: F403

ROOT_URLCONF = "tests.benchmarks.api_urls"
