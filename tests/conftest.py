import functools
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
from django.core.cache import cache
from django.db import connection
from django.db.backends.sqlite3.base import DatabaseOperations
from django.test import Client

from accounts.models import User
from playground import catalog, drives, upkeep, upstreams
from playground.api import limits
from tests.driving import driving
from tests.racing import PostgresDatabases, Track, track_on

TrackOn = Callable[[str], Track]
BASE_DIR = Path(__file__).resolve().parent.parent


# --- What a machine may lack --------------------------------------------------------------------------
def needs(present: object, what: str, how: str) -> None:
    """Skips a test on a machine without `what`, saying `how` to turn it on. In CI that is a failure."""
    if present:
        return
    reason = f"needs {what}. To turn it on: {how}"
    if os.environ.get("CI", "").lower() == "true":
        pytest.fail(f"CI=true, and this test {reason}", pytrace=False)
    pytest.skip(reason)


def chromium() -> str | None:
    """Where the browser is: $CHROMIUM, or the system's."""
    names = ["chromium", "chromium-browser", "google-chrome"]
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)


def has_playwright() -> bool:
    try:
        import playwright.sync_api  # noqa: F401, PLC0415
    except ImportError:
        return False
    return True


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("browser"):
        needs(has_playwright(), "Playwright", "uv sync --group browser")
        needs(chromium(), "Chromium", "apt install chromium, or set CHROMIUM to the path of one")
    if item.get_closest_marker("postgres"):
        how = "DATABASE_URL=postgresql://user@host:5432/name uv run pytest"
        needs(connection.vendor == "postgresql", "PostgreSQL", how)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The run on PostgreSQL is the second one, for what the database can change."""
    if connection.vendor == "sqlite":
        return
    again = [item for item in items if _depends_on_the_database(item)]
    config.hook.pytest_deselected(items=[item for item in items if item not in set(again)])
    items[:] = again


def _depends_on_the_database(item: pytest.Item) -> bool:
    """Races bring both databases with them, and in a browser all databases look alike."""
    fixtures = set(getattr(item, "fixturenames", ()))
    uses_it = item.get_closest_marker("django_db") or fixtures & {"db", "transactional_db"}
    once = item.get_closest_marker("once") or item.get_closest_marker("browser") or "warm_track" in fixtures
    return bool(uses_it and not once)


# --- The database -------------------------------------------------------------------------------------
@contextmanager
def _without_triggers(operations: DatabaseOperations) -> Iterator[None]:
    with operations.connection.cursor() as cursor:
        cursor.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'")
        triggers = cursor.fetchall()
        for name, _ in triggers:
            cursor.execute(f'DROP TRIGGER "{name}"')
        try:
            yield
        finally:
            for _, sql in triggers:
                cursor.execute(sql)


@pytest.fixture(scope="session", autouse=True)
def _flush_is_allowed() -> Iterator[None]:
    """After a `transaction=True` test Django empties the tables. On SQLite that is DELETE, which our triggers refuse."""
    flush = DatabaseOperations.execute_sql_flush

    def flush_without_triggers(self: DatabaseOperations, sql_list: list[str]) -> None:
        with _without_triggers(self):
            flush(self, sql_list)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DatabaseOperations, "execute_sql_flush", flush_without_triggers)
        yield


def database_url() -> str:
    """The test database as another process must be told: the value for its DATABASE_URL."""
    at = connection.settings_dict
    if connection.vendor == "sqlite":
        return f"sqlite:///{quote(str(at['NAME']))}"
    login = quote(at["USER"]) + (f":{quote(at['PASSWORD'])}" if at["PASSWORD"] else "")
    return f"postgresql://{login}@{at['HOST']}:{at['PORT'] or 5432}/{quote(at['NAME'])}"


@pytest.fixture
def process_env(settings: Any) -> dict[str, str]:
    """Environment for a process of our own on the test's database and pictures, with the product's real settings.

    Only together with `django_db(transaction=True)`: another process sees nothing that is not committed.
    """
    return {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "playground.settings",
        "DATABASE_URL": database_url(),
        "DATA_DIR": str(Path(settings.MEDIA_ROOT).parent),
        "SECRET_KEY": settings.SECRET_KEY,
    }


@pytest.fixture(autouse=True)
def _own_folder(settings: Any, tmp_path: Path) -> None:
    settings.MEDIA_ROOT = tmp_path / "pictures"
    cache.clear()
    upstreams.forget()
    catalog.forget()
    limits.forget()
    drives.forget()


# --- People -------------------------------------------------------------------------------------------
@pytest.fixture
def alice(db: None) -> User:
    """The owner."""
    return User.objects.create_user("alice@example.org", "alice-password")


@pytest.fixture
def bob(db: None) -> User:
    """A stranger."""
    return User.objects.create_user("bob@example.org", "bob-password")


@pytest.fixture
def charlie(db: None) -> User:
    """Staff."""
    return User.objects.create_superuser("charlie@example.org", "charlie-password")


@pytest.fixture
def desk(charlie: User) -> Client:
    """Charlie's browser, at the admin."""
    client = Client()
    client.force_login(charlie)
    return client


# --- A real browser -----------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def chromium_browser() -> Iterator[Any]:
    """One Chromium for a file of tests. For tests marked `browser`, with pytest-django's `live_server`.

    Not for the session: while Playwright lives, its event loop runs in this thread, and nobody else's can.
    """
    from playwright.sync_api import sync_playwright  # noqa: PLC0415 - not installed everywhere

    with pytest.MonkeyPatch.context() as patch, sync_playwright() as playwright:
        patch.setenv(
            "DJANGO_ALLOW_ASYNC_UNSAFE", "true"
        )  # Playwright's loop runs in this thread, and we touch the ORM
        browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(chromium_browser: Any) -> Iterator[Any]:
    """A page of a visitor whom nobody knows yet."""
    context = chromium_browser.new_context(viewport={"width": 1280, "height": 900})
    yield context.new_page()
    context.close()


@pytest.fixture
def _engine(live_server: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A drive for the live server's jobs."""
    with driving(monkeypatch):
        yield


# --- Races between processes --------------------------------------------------------------------------
POSTGRES = os.environ.get("TEST_POSTGRES_URL", "postgresql://postgres@127.0.0.1:5432/postgres")


def has_postgres() -> bool:
    try:
        psycopg.connect(POSTGRES, connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True


def _shared_folder(config: pytest.Config) -> Path:
    """Of all processes that xdist divides the tests among."""
    mine = Path(config._tmp_path_factory.getbasetemp())  # type: ignore[attr-defined]
    return mine.parent if hasattr(config, "workerinput") else mine


def pytest_sessionfinish(session: pytest.Session) -> None:
    if not hasattr(session.config, "workerinput") and has_postgres():
        PostgresDatabases(POSTGRES, _shared_folder(session.config)).drop_template()


@pytest.fixture(scope="session")
def _tracks(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[TrackOn]:
    """Each is opened when the first race asks for it, and stays until the last."""
    with ExitStack() as stack:

        @functools.cache
        def on(vendor: str) -> Track:
            folder = tmp_path_factory.mktemp(vendor)
            shared = _shared_folder(request.config)
            return stack.enter_context(track_on(vendor, folder, postgres=POSTGRES, shared=shared))

        yield on


@pytest.fixture(params=["sqlite", "postgres"])
def warm_track(request: pytest.FixtureRequest, _tracks: TrackOn) -> Track:
    """Real processes on a database of their own, SQLite's and PostgreSQL's in turn."""
    if request.param == "postgres":
        how = "TEST_POSTGRES_URL=postgresql://user@host:5432/postgres (it makes and drops its own databases)"
        needs(has_postgres(), "a PostgreSQL server", how)
    return _tracks(request.param)


@pytest.fixture
def track(warm_track: Track) -> Iterator[Track]:
    """An empty database for one race, and clean books behind it."""
    warm_track.clear()
    yield warm_track
    assert warm_track.alone(_audit) == []


def _audit() -> list[Any]:
    """Without the files, which each race keeps where it likes."""
    return upkeep.audit(with_files=False)
