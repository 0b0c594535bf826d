"""The product's settings, on a data folder of its own and blind to the shell of whoever runs the tests.

Only DATABASE_URL is listened to: it chooses the database the suite runs on.
"""

import atexit
import os
import shutil
import tempfile

from playground import environment

_OWN_FOLDER = (
    "FLUX_TESTS_DATA_DIR"  # processes that a test starts find the folder here instead of making one each
)


def _data_dir() -> str:
    if folder := os.environ.get(_OWN_FOLDER):
        return folder
    folder = tempfile.mkdtemp(prefix="flux-tests-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


for _name in environment.DOCUMENTED - {"DATABASE_URL", "LOG_LEVEL"}:
    os.environ.pop(_name, None)
os.environ["DATA_DIR"] = os.environ[_OWN_FOLDER] = _data_dir()

from playground.settings import *  # noqa: E402, F403
from playground.settings import DATA_DIR, DATABASES  # noqa: E402

PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
(DATA_DIR / "static").mkdir(exist_ok=True)
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}
if DATABASES["default"]["ENGINE"].endswith("sqlite3"):
    # A file, not memory: processes that a test starts must be able to open it.
    DATABASES["default"]["TEST"] = {"NAME": str(DATA_DIR / "test.sqlite3")}
    _options = DATABASES["default"]["OPTIONS"]
    _options["init_command"] = _options["init_command"].replace("synchronous=FULL", "synchronous=OFF")
else:
    # A name of its own, so that two runs on one server do not take each other's database away.
    DATABASES["default"]["TEST"] = {"NAME": "test_" + DATA_DIR.name.replace("-", "_").lower()}
