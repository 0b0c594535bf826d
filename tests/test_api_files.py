"""Pictures that are sent ahead, and the calls that name them."""

import base64
import json
import time
from contextlib import ExitStack
from io import BytesIO
from typing import Any

import pytest
from django.core.cache import cache
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test.client import BOUNDARY, MULTIPART_CONTENT, encode_multipart

from accounts.models import User
from playground import images, uploads
from playground.api import files, inputs, places
from playground.api.errors import Problem
from playground.models import Job, Upload
from tests.calling import Api
from tests.making import EDIT, give, load_catalogue
from tests.pictures import encoded, photo, scene
from tests.receiving import Receiver, reply, silence

STREAM, BASE64, URL = (f"/api/file-{name}-upload" for name in ("stream", "base64", "url"))
CREATE = "/api/v1/jobs/createTask"
FIELDS = {
    "fileId",
    "fileName",
    "filePath",
    "downloadUrl",
    "fileUrl",
    "fileSize",
    "mimeType",
    "uploadedAt",
    "expiresAt",
}


def data_url(size: tuple[int, int] = (64, 48), colour: str = "red") -> str:
    return "data:image/jpeg;base64," + base64.b64encode(photo(colour, size)).decode()


@pytest.fixture
def api(alice: User) -> Api:
    load_catalogue()
    give(alice)
    return Api(alice)


def sent(api: Api, data: bytes = b"", path: str = STREAM, **fields: Any) -> Any:
    file = SimpleUploadedFile("a fox.jpg", data or photo(), "image/jpeg")
    return api.client.post(path, {"file": file, **fields}, headers=api.headers({}))


def refused(response: Any, status: int, param: str | None = None) -> dict[str, Any]:
    body: dict[str, Any] = response.json()
    assert response.status_code == status == body["code"], body
    assert body["success"] is False and body["msg"] == body["error"]["message"]
    assert param is None or body["error"]["param"] == param, body
    assert not Upload.objects.exists()
    return body


# --- Taken --------------------------------------------------------------------------------------------
@pytest.mark.parametrize("folder", ["/api", "/api/v1"])
def test_a_file_is_taken_and_its_address_serves_it(api: Api, client: Any, folder: str) -> None:
    response = sent(api, path=STREAM.replace("/api", folder), uploadPath="images/foxes", fileName="fox.jpg")
    body = response.json()
    assert response.status_code == 200 and body["success"] is True and body["code"] == 200
    assert body["msg"] == "File uploaded successfully" and set(body["data"]) == FIELDS
    data, upload = body["data"], Upload.objects.get()
    assert data["fileName"] == "fox.jpg" and data["filePath"] == "images/foxes/fox.jpg"
    assert data["fileSize"] == upload.size and data["mimeType"] == "image/jpeg"
    assert data["fileUrl"] == data["downloadUrl"] and data["downloadUrl"].startswith("http://testserver/f/")
    shown = client.get(data["downloadUrl"])
    assert shown.status_code == 200 and len(b"".join(shown.streaming_content)) == upload.size


def in_chunks(api: Api, path: str, fields: dict[str, Any]) -> Any:
    """As programs send a form that they make while they send it: nothing says how long it is."""
    body = BytesIO(encode_multipart(BOUNDARY, fields))
    return api.client.generic(
        "POST",
        path,
        headers=api.headers({"Transfer-Encoding": "chunked"}),
        **{"wsgi.input": body, "CONTENT_LENGTH": "", "CONTENT_TYPE": MULTIPART_CONTENT},
    )


def picture_file(data: bytes) -> SimpleUploadedFile:
    return SimpleUploadedFile("fox.jpg", data, "image/jpeg")


def test_forms_that_come_in_chunks_are_read(api: Api) -> None:
    response = in_chunks(api, STREAM, {"file": picture_file(photo()), "fileName": "red.jpg"})
    assert response.status_code == 200 and response.json()["data"]["fileName"] == "red.jpg"
    response = in_chunks(api, STREAM, {"file": picture_file(b"x" * 11_000_000)})
    assert response.status_code == 413
    edit = {"image": picture_file(photo()), "mask": picture_file(photo()), "prompt": "a fox"}
    assert in_chunks(api, "/v1/images/edits", edit).json()["error"]["param"] == "mask"


def test_the_same_file_twice_is_one_upload(api: Api) -> None:
    ids = {sent(api).json()["data"]["fileId"] for _ in range(2)}
    ids.add(api.post(BASE64, {"base64Data": base64.b64encode(photo()).decode()}).json()["data"]["fileId"])
    assert len(ids) == 1 == Upload.objects.count()


def in_lines(text: str) -> str:
    return "\n".join(text[at : at + 76] for at in range(0, len(text), 76))


@pytest.mark.parametrize(
    "spelt", [str, "data:image/png;base64,{}".format, in_lines, lambda text: text.rstrip("=")]
)
def test_base64_is_taken_bare_and_as_a_data_url(api: Api, spelt: Any) -> None:
    text = base64.b64encode(encoded(scene(65, 33), "PNG")).decode()
    response = api.post(BASE64, {"base64Data": spelt(text), "uploadPath": "a", "fileName": "b.png"})
    assert response.status_code == 200 and response.json()["data"]["filePath"] == "a/b.png"
    assert Upload.objects.get().format == "png"


def test_ten_megabytes_of_base64_are_read_quickly(api: Api) -> None:
    picture = photo()
    data = picture + b"\0" * (
        images.MAX_INPUT_BYTES - len(picture)
    )  # what comes after a JPEG's end is dropped
    body = {"base64Data": base64.b64encode(data).decode()}
    begun = time.perf_counter()
    response = api.post(BASE64, body)
    assert response.status_code == 200, response.json()
    assert time.perf_counter() - begun < 3  # 0.3 s here; a step of Python for each character would take many


@pytest.mark.once
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("fox.png", "fox.png"),
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\fox.png", "fox.png"),
        ("..", ""),
        (None, ""),
        ("<script>.png", "_script_.png"),
        ("Füchse 1.png", "Füchse 1.png"),
        ("a" * 500, "a" * 200),
        ("a\r\nSet-Cookie: b", "a__Set-Cookie_ b"),
    ],
)
def test_labels_are_names_and_nothing_else(text: str | None, said: str) -> None:
    assert files.label(text) == said


def test_a_path_is_said_back_without_its_tricks(api: Api) -> None:
    data = sent(api, uploadPath="/../..//a/./b\\c/", fileName="..").json()["data"]
    assert data["filePath"] == "a/b/c/a fox.jpg"


# --- Refused ------------------------------------------------------------------------------------------
def test_what_is_no_picture_is_refused(api: Api) -> None:
    text = base64.b64encode(b"<html>no picture</html>").decode()
    refused(sent(api, b"<html>no picture</html>"), 422, "file")
    refused(api.post(BASE64, {"base64Data": text}), 422, "base64Data")
    refused(api.post(BASE64, {"base64Data": "###"}), 422, "base64Data")
    refused(api.post(BASE64, {"base64Data": ""}), 422, "base64Data")


NAUGHTY = [
    (BASE64, {}, 400, "base64Data"),
    (BASE64, {"base64Data": 5}, 422, "base64Data"),
    (BASE64, {"base64Data": "a\x00b"}, 422, "base64Data"),
    (BASE64, {"base64Data": "aaaa", "path": "x"}, 422, "path"),
    (URL, {}, 400, "fileUrl"),
    (URL, {"fileUrl": ""}, 400, "fileUrl"),
    (URL, {"fileUrl": "ftp://example.com/a.png"}, 422, "fileUrl"),
    (URL, {"fileUrl": "http://example.com:0/a.png"}, 422, "fileUrl"),
    (URL, {"fileUrl": "http://[/"}, 422, "fileUrl"),
    (URL, {"fileUrl": "https://example.com/" + "a" * 3000}, 422, "fileUrl"),
    (URL, {"fileUrl": "http://testserver/f/forged/a.png"}, 422, "fileUrl"),
    (URL, {"fileUrl": "data:image/png;base64,###"}, 422, "fileUrl"),
    (URL, {"fileUrl": ["https://example.com/a.png"]}, 422, "fileUrl"),
]


@pytest.mark.parametrize(("path", "body", "status", "param"), NAUGHTY)
def test_naughty_bodies_are_refused_by_name(api: Api, path: str, body: Any, status: int, param: str) -> None:
    refused(api.post(path, body), status, param)


def test_a_form_without_a_file_or_with_more_is_refused_by_name(api: Api) -> None:
    post = api.client.post
    refused(post(STREAM, {"fileName": "a"}, headers=api.headers({})), 400, "file")
    refused(post(STREAM, {"file": "text"}, headers=api.headers({})), 400, "file")
    refused(sent(api, folder="x"), 422, "folder")
    refused(api.post(STREAM, {"file": "x"}), 415)
    broken = {"content_type": "multipart/form-data", "headers": api.headers({})}
    refused(post(STREAM, b"--x", **broken), 400)


def test_bodies_that_are_too_large_are_not_read(api: Api, monkeypatch: Any) -> None:
    refused(sent(api, b"\xff\xd8\xff" + b"x" * (files.MOST_BODY_BYTES)), 413)
    body = b'{"base64Data": "' + b"A" * 15_000_000 + b'"}'
    refused(api.client.post(BASE64, body, content_type="application/json", headers=api.headers({})), 413)
    huge = {"CONTENT_LENGTH": str(10**12), "content_type": "application/json"}
    refused(api.client.post(BASE64, b"{}", **huge, headers=api.headers({})), 413)
    unread = api.client.post(BASE64, body, content_type="application/json")
    assert unread.status_code == 401 and unread.json()["success"] is False


def test_the_pictures_of_an_account_are_counted_together(api: Api, alice: User, monkeypatch: Any) -> None:
    monkeypatch.setattr(uploads, "A_MINUTE", 2)
    bad = api.post(BASE64, {"base64Data": "###"})
    assert bad.status_code == 422 and sent(api).status_code == 200
    for response in (sent(api), api.post(URL, {"fileUrl": "https://example.com/a.png"})):
        assert response.status_code == 429 and int(response["Retry-After"]) <= 60
    api.client.force_login(alice)
    page = api.client.post("/uploads/", {"file": BytesIO(photo("blue"))})
    assert page.status_code == 429


def test_who_sends_several_at_once_waits_for_their_turn(api: Api, alice: User, monkeypatch: Any) -> None:
    """A client that has eight references sends them together; each is looked at after the one before."""
    looks = f"uploads:decoding:{alice.pk}"
    cache.add(looks, 1)
    monkeypatch.setattr(inputs.time, "sleep", lambda _: cache.delete(looks))
    with ExitStack() as others:
        for _ in range(15):
            others.enter_context(inputs._waiting.one(alice.pk))
        assert sent(api).status_code == 200
    cache.add(looks, 1)
    monkeypatch.setattr(inputs.time, "sleep", lambda _: None)
    monkeypatch.setattr(inputs, "TURN_WITHIN_S", 0.01)
    late = sent(api, photo("blue"))
    assert late.status_code == 503 and late["Retry-After"] == "2" and Upload.objects.count() == 1
    cache.delete(looks)


def test_the_quota_is_said(api: Api, settings: Any) -> None:
    settings.UPLOADS_PER_ACCOUNT = 0
    assert refused(sent(api), 409, "file")["error"]["code"] == "quota_reached"


def test_other_methods_and_no_key(api: Api) -> None:
    response = api.get(STREAM)
    assert response.status_code == 405 and response.json()["success"] is False
    assert api.client.post(STREAM, {}).status_code == 401


# --- Fetched ------------------------------------------------------------------------------------------
@pytest.mark.django_db(transaction=True)
def test_a_picture_is_fetched_from_its_address(alice: User, settings: Any) -> None:
    api = Api(alice)
    with Receiver(hook=reply(photo())) as server:
        settings.NET_ALLOWED_HOSTS = [server.host]
        response = api.post(URL, {"fileUrl": server.url(), "uploadPath": "x", "fileName": "y.jpg"})
    assert response.status_code == 200 and response.json()["data"]["filePath"] == "x/y.jpg"
    assert Upload.objects.get().user == alice


async def hang_up(writer: Any) -> None:
    writer.close()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("answer", "words", "should_retry"),
    [
        (reply(b"gone", status="404 Not Found"), "answered 404", "false"),
        (reply(b"ill", status="503 Ill"), "answered 503", "true"),
        (reply(b"<html></html>"), "a web page", "false"),
        (reply(b"x" * 11_000_000), "at most 10 MB", "false"),
        (reply(status="302 Found", Location="http://127.0.0.1:8080/"), "not a public address", "false"),
        (
            reply(status="302 Found", Location="http://169.254.169.254/latest/"),
            "not a public address",
            "false",
        ),
        (hang_up, "could not be reached", "true"),
    ],
)
def test_what_cannot_be_fetched_is_explained(
    alice: User, settings: Any, answer: Any, words: str, should_retry: str
) -> None:
    api = Api(alice)
    with Receiver(hook=answer) as server:
        settings.NET_ALLOWED_HOSTS = [server.host]
        response = api.post(URL, {"fileUrl": server.url()})
    assert words in refused(response, 422, "fileUrl")["msg"]
    assert response["x-should-retry"] == should_retry


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:9999/a.png", "http://[::1]/a.png", "http://169.254.169.254/latest/meta-data/"]
)
def test_nothing_inside_is_fetched(alice: User, url: str) -> None:
    assert "not a public address" in refused(Api(alice).post(URL, {"fileUrl": url}), 422, "fileUrl")["msg"]


@pytest.mark.django_db(transaction=True)
def test_a_server_that_hangs_is_left(alice: User, settings: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(files, "FETCHED_WITHIN_S", 0.2)
    with Receiver(hook=silence) as server:
        settings.NET_ALLOWED_HOSTS = [server.host]
        response = Api(alice).post(URL, {"fileUrl": server.url()})
    assert "took longer than 0.2 s" in refused(response, 422, "fileUrl")["msg"]


@pytest.mark.once
def test_few_fetches_at_once_and_fewer_of_one_account() -> None:
    room = places.Places(3, each=2, words="Too many.")
    with room.one(1), room.one(1):
        with pytest.raises(Problem), room.one(1):
            pass
        with room.one(2), pytest.raises(Problem), room.one(3):
            pass
        with room.one(3):
            pass
    assert not room._taken


def test_an_own_address_is_not_fetched(api: Api) -> None:
    data = sent(api).json()["data"]
    again = api.post(URL, {"fileUrl": data["downloadUrl"]})  # in this test nobody listens there
    assert again.status_code == 200 and again.json()["data"]["fileId"] == data["fileId"]


# --- Named in calls -----------------------------------------------------------------------------------
def create(api: Api, *urls: str) -> Any:
    return api.post(CREATE, {"model": EDIT, "input": {"prompt": "a fox", "input_urls": list(urls)}})


def test_an_upload_is_taken_back_without_a_fetch(api: Api) -> None:
    data = sent(api).json()["data"]
    response = create(api, data["downloadUrl"], data["downloadUrl"])
    assert response.status_code == 200, response.json()
    job = Job.objects.get()
    assert job.params["inputs"] == [data["fileId"]] and "sources" not in job.params


def test_a_data_url_is_taken_and_not_said_back(api: Api) -> None:
    response = create(api, data_url(), data_url(colour="blue"))
    assert response.status_code == 200, response.json()
    job = Job.objects.get()
    assert len(job.params["inputs"]) == 2 and "sources" not in job.params
    told = api.get("/api/v1/jobs/recordInfo", {"taskId": str(job.pk)}).json()["data"]["param"]
    said = json.loads(told)["input"]
    assert said["prompt"] == "a fox" and all(len(url) < 100 for url in said["input_urls"])


def test_a_large_data_url_fits_into_the_body(api: Api) -> None:
    large = encoded(scene(1100, 1100), "PNG", compress_level=0)
    assert len(large) > 3_000_000  # more than Django reads by itself
    response = create(api, "data:image/png;base64," + base64.b64encode(large).decode())
    assert response.status_code == 200, response.json()


def test_strangers_uploads_are_refused(api: Api, bob: User) -> None:
    url = sent(api).json()["data"]["downloadUrl"]
    give(bob)
    response = create(Api(bob), url)
    assert response.status_code == 422 and response.json()["error"]["param"] == "input.input_urls[0]"
    assert not Job.objects.exists()
