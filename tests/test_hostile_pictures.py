"""Hostile files as uploads and as what an upstream delivers: no crash, no flood, and nothing kept of them but pixels.

Those in the folder that the environment variable HOSTILE_IMAGES names are fed too.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from accounts.models import User
from playground import images, upkeep, uploads
from playground.models import Upload
from tests import hostile
from tests.conftest import BASE_DIR
from tests.pictures import metadata_in, opened

MOST_SECONDS = 25.0
MOST_MEGABYTES = 900
GOOD = "odd_but_good-"

# In a process of its own: a crash of a decoder would be the end of the tests, and its peak of memory is its own.
FEED = """
import json, resource, sys, time, warnings
from pathlib import Path
from django.conf import settings
settings.configure()
from playground import images
warnings.simplefilter("ignore")
resource.setrlimit(resource.RLIMIT_AS, (3_000_000_000, 3_000_000_000))
feed = {"render": lambda data: images.render(data, with_preview=True), "normalise": images.normalise}[sys.argv[1]]
for folder in sys.argv[2:]:
    for file in sorted(path for path in Path(folder).rglob("*") if path.is_file()):
        data, began = file.read_bytes(), time.monotonic()
        try:
            made = feed(data)
            ended = f"{made.format} {made.width}x{made.height}"
        except images.ImageError as no:
            ended = f"ImageError {no}"
        except BaseException as wrong:
            ended = f"WRONG {type(wrong).__name__} {wrong}"
        # Not ru_maxrss, which begins with what the process that started this one had.
        peak = int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) // 1024
        print(json.dumps([file.name, ended, time.monotonic() - began, peak]), flush=True)
"""

pytestmark = pytest.mark.once


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    ours = tmp_path_factory.mktemp("hostile")
    hostile.write_all(str(ours))
    theirs = os.environ.get("HOSTILE_IMAGES", "")
    return [ours, Path(theirs)] if theirs else [ours]


@pytest.mark.parametrize("door", ["render", "normalise"])
def test_no_file_brings_a_worker_down(folders: list[Path], door: str) -> None:
    """Only ImageError, in bounded time and memory; what is strange but good is taken."""
    done = subprocess.run(
        [sys.executable, "-c", FEED, door, *map(str, folders)],
        capture_output=True, text=True, check=False, cwd=BASE_DIR, timeout=1200,
    )  # fmt: skip
    fed = [json.loads(line) for line in done.stdout.splitlines()]
    files = sum(len([path for path in folder.rglob("*") if path.is_file()]) for folder in folders)
    assert (done.returncode, len(fed)) == (0, files), f"died after {fed[-1:]}: {done.stderr[-500:]}"
    wrong = [line for line in fed if line[1].startswith("WRONG")]
    assert wrong == []
    assert [line for line in fed if line[2] > MOST_SECONDS] == []
    assert max(line[3] for line in fed) < MOST_MEGABYTES
    scans = {line[1] for line in fed if line[0].startswith("jpeg_bombs-") and "scans" in line[0]}
    assert scans == {"ImageError The JPEG has too many scans."}
    good = [line for line in fed if line[0].startswith(GOOD)]
    assert len(good) > 20
    assert [line for line in good if line[1].startswith("ImageError")] == []


@pytest.mark.django_db
@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_nothing_is_kept_of_an_upload_but_our_own_encoding(
    alice: User, folders: list[Path], settings: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr(uploads, "A_MINUTE", 100_000)
    client, kept, refused = Client(), 0, 0
    client.force_login(alice)
    for file in sorted(path for folder in folders for path in folder.rglob("*") if path.is_file()):
        data = file.read_bytes()
        before = Upload.objects.count()
        response = client.post("/uploads/", {"file": SimpleUploadedFile(file.name, data)})
        assert response.status_code in (201, 413, 422), (file.name, response.content[:200])
        if response.status_code != 201:
            assert len(response.json()["error"]) > 10, file.name
            assert Upload.objects.count() == before, file.name
            refused += 1
            continue
        upload = Upload.objects.get(pk=response.json()["id"])
        for size in ("original", "preview", "thumb"):
            check_plain(images.path(upload.key, size, upload.format).read_bytes(), file.name)
        kept += 1
    assert kept > 60 and refused > 150
    stored = [path for path in Path(settings.MEDIA_ROOT).rglob("*") if path.is_file()]
    assert len(stored) == 3 * Upload.objects.count()
    assert upkeep.audit() == []


def check_plain(data: bytes, name: str) -> None:
    assert metadata_in(data) == set(), name
    assert opened(data).format in ("JPEG", "PNG", "WEBP")
    for told in (b"secret", b"script", b"PK\x03\x04", b"evil"):
        assert told not in data or len(data) > 100_000, name
