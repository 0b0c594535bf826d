"""`python -m playground.granian_server`: granian, but for its advice to have few threads. Most of ours sleep; see turnstile.py."""

import logging

from granian.cli import entrypoint


def _is_news(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith("Configuration allows spawning up to")


if __name__ == "__main__":
    logging.getLogger("_granian").addFilter(_is_news)
    entrypoint()
