"""Input pictures named by their addresses: fetched by the engine before anything is sent, and never charged in vain."""

from typing import Any

import pytest

from accounts import ledger
from accounts.models import Hold, User
from playground import images, records, sources, steps, upkeep, uploads
from playground.models import Job, JobEvent, Upload
from playground.providers.sandbox import Sandbox
from tests.calling import Api
from tests.driving import drive_until, drive_until_final
from tests.making import EDIT, give, load_catalogue
from tests.pictures import photo
from tests.receiving import Receiver, reply, silence

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.once]


@pytest.fixture
def api(alice: User, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Api:
    settings.SANDBOX_DELAY_S = 0.0
    monkeypatch.setattr(sources, "PAUSE_S", 0.01)
    load_catalogue()
    give(alice)
    return Api(alice)


@pytest.fixture
def server(settings: Any) -> Any:
    with Receiver(
        red=reply(photo("red")),
        blue=reply(photo("blue", (480, 640))),
        missing=reply(b"no", status="404 Not Found"),
        ill=reply(b"ill", status="503 Ill"),
        page=reply(b"<!doctype html><html></html>"),
        huge=reply(b"x" * 11_000_000),
        inside=reply(status="302 Found", Location="http://169.254.169.254/latest/"),
        hangs=silence,
    ) as server:
        settings.NET_ALLOWED_HOSTS = [server.host]
        yield server


def ordered(api: Api, *urls: str, **asked: Any) -> Job:
    response = api.post(
        "/api/v1/jobs/createTask",
        {"model": EDIT, "input": {"prompt": "a fox", "input_urls": list(urls), **asked}},
    )
    assert response.status_code == 200, response.json()
    return Job.objects.get(pk=response.json()["data"]["taskId"])


def ended(job: Job) -> Job:
    drive_until_final()
    job.refresh_from_db()
    return job


def test_a_picture_is_fetched_and_the_task_made_from_it(api: Api, alice: User, server: Any) -> None:
    job = ended(ordered(api, server.url("red")))
    upload = Upload.objects.get()
    assert job.state == Job.State.SUCCEEDED and job.params["inputs"] == [str(upload.pk)]
    assert "sources" not in job.params and upload.user == alice
    assert list(job.run.inputs.values_list("upload_id", flat=True)) == [upload.pk]
    assert records.charged(job) == 5 and upkeep.audit() == []


@pytest.mark.parametrize(
    ("name", "failure", "words"),
    [
        ("missing", "input_unreachable", "answered 404"),
        ("ill", "input_unreachable", "answered 503"),
        ("page", "input_refused", "a web page"),
        ("huge", "input_refused", "more than 10 MB"),
        ("inside", "input_unreachable", "not a public address"),
    ],
)
def test_what_cannot_be_had_fails_the_task_for_nothing(
    api: Api, alice: User, server: Any, monkeypatch: Any, name: str, failure: str, words: str
) -> None:
    monkeypatch.setattr(Sandbox, "create", None)  # nothing is sent
    job = ended(ordered(api, server.url("red"), server.url(name)))
    assert (job.state, job.failure) == (Job.State.FAILED, failure), job.failure_detail
    assert job.failure_detail.startswith("Input picture 2: ") and words in job.failure_detail
    assert job.submitted is None and job.hold.state == Hold.State.RELEASED
    assert ledger.wallet_of(alice).available == 10_000_000 and upkeep.audit() == []
    told = api.get("/api/v1/jobs/recordInfo", {"taskId": str(job.pk)}).json()["data"]
    assert told["state"] == "fail" and told["failCode"] == "422" and told["creditsCharged"] == 0


def test_an_address_inside_is_never_asked(api: Api, server: Any, settings: Any) -> None:
    settings.NET_ALLOWED_HOSTS = []
    job = ended(ordered(api, server.url("red")))
    assert job.failure == "input_unreachable" and "not a public address" in job.failure_detail
    assert server.seen == []


def test_a_server_that_is_ill_for_a_moment_is_asked_again(api: Api, server: Any) -> None:
    times = [0]

    async def at_last(writer: Any) -> None:
        times[0] += 1
        writer.write(reply(photo()) if times[0] == 3 else reply(status="503 Ill"))
        await writer.drain()

    server.answers["/at_last"] = at_last
    assert ended(ordered(api, server.url("at_last"))).state == Job.State.SUCCEEDED


def test_a_server_that_hangs_has_its_time_and_no_more(api: Api, server: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(sources, "TOTAL_S", 0.2)
    job = ended(ordered(api, server.url("hangs")))
    assert job.failure == "input_unreachable" and "took longer than 0.2 s" in job.failure_detail
    assert len(server.at("hangs")) == 3


def test_many_that_hang_have_one_time_together(api: Api, server: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(sources, "TOTAL_OF_JOB_S", 0.3)
    job = ended(ordered(api, server.url("red"), server.url("hangs"), server.url("hangs") + "?2"))
    assert job.failure == "input_unreachable" and job.failure_detail.startswith("Input picture 2")


def test_an_address_that_is_named_twice_is_asked_once(api: Api, server: Any) -> None:
    job = ended(ordered(api, server.url("red"), server.url("red")))
    assert job.state == Job.State.SUCCEEDED and len(server.at("red")) == 1 == Upload.objects.count()
    assert job.run.inputs.count() == 1 and len(job.params["inputs"]) == 2


def test_uploads_and_addresses_keep_their_order(api: Api, alice: User, server: Any) -> None:
    mine = uploads.take(alice, photo("green"))
    job = ordered(api, server.url("blue"), uploads.link(mine, "http://testserver"), server.url("red"))
    assert job.params["sources"][1] == f"upload:{mine.pk}"
    ended(job)
    found = [Upload.objects.get(pk=pk) for pk in job.params["inputs"]]
    assert [(one.width, one.height) for one in found] == [(480, 640), (640, 480), (640, 480)]
    assert found[1] == mine and job.state == Job.State.SUCCEEDED


def test_an_upload_that_was_removed_meanwhile_fails_the_task(api: Api, alice: User, server: Any) -> None:
    mine = uploads.take(alice, photo("green"))
    job = ordered(api, server.url("red"), uploads.link(mine, "http://testserver"))
    uploads.remove(mine)
    assert ended(job).failure == "input_gone" and job.hold.state == Hold.State.RELEASED


def test_auto_follows_the_first_picture(api: Api, server: Any) -> None:
    job = ordered(api, server.url("blue"), server.url("red"), aspect_ratio="auto")
    assert job.params["follows_input"]
    ended(job)
    assert job.params["aspect_ratio"] == "3:4" and (job.params["width"], job.params["height"]) == (880, 1168)
    assert "follows_input" not in job.params and job.state == Job.State.SUCCEEDED


def test_a_full_account_is_told_so(api: Api, server: Any, settings: Any) -> None:
    settings.UPLOADS_PER_ACCOUNT = 0
    job = ended(ordered(api, server.url("red")))
    assert job.failure == "input_refused" and "input pictures" in job.failure_detail


def test_other_large_pictures_are_waited_for(api: Api, server: Any, monkeypatch: Any) -> None:
    normalise, times = images.normalise, [0]

    def busy_at_first(data: bytes, **more: Any) -> images.Rendered:
        times[0] += 1
        if times[0] < sources.BUSY_TRIES:
            raise images.Busy
        return normalise(data, **more)

    monkeypatch.setattr(images, "normalise", busy_at_first)
    assert ended(ordered(api, server.url("red"))).state == Job.State.SUCCEEDED


def test_a_house_that_stays_busy_is_no_fault_of_the_picture(api: Api, server: Any, monkeypatch: Any) -> None:
    normalise, times = images.normalise, [0]

    def busy(data: bytes, **more: Any) -> images.Rendered:
        times[0] += 1
        if times[0] <= sources.BUSY_TRIES:
            raise images.Busy
        return normalise(data, **more)

    monkeypatch.setattr(images, "normalise", busy)
    monkeypatch.setattr(steps, "BUSY_S", 0.01)
    assert ended(ordered(api, server.url("red"))).state == Job.State.SUCCEEDED
    assert len(server.at("red")) == 2  # let go of, and taken up again


def test_one_account_takes_only_its_places(api: Api, bob: User, server: Any, monkeypatch: Any) -> None:
    """While every place of Alice's hangs, Bob's picture is fetched."""
    monkeypatch.setattr(steps, "COLLECTING_AT_ONCE", 2)
    monkeypatch.setattr(steps, "COLLECTING_OF_ACCOUNT", 1)
    monkeypatch.setattr(steps, "BUSY_S", 0.05)
    monkeypatch.setattr("playground.engine.DRAIN_S", 0.1)
    give(bob)
    hanging = [ordered(api, server.url("hangs")) for _ in range(2)]
    his = ordered(Api(bob), server.url("red"))
    drive_until(lambda: Job.objects.get(pk=his.pk).is_final)
    his.refresh_from_db()
    assert his.state == Job.State.SUCCEEDED
    assert [Job.objects.get(pk=job.pk).finished for job in hanging] == [None, None]


def test_a_drive_that_ends_in_the_middle_has_sent_nothing(api: Api, server: Any, monkeypatch: Any) -> None:
    """The next one begins anew, and the picture is made and charged once."""
    monkeypatch.setattr("playground.engine.DRAIN_S", 0.1)
    job = ordered(api, server.url("hangs"))
    drive_until_final(seconds=0.5)
    job.refresh_from_db()
    assert job.state == Job.State.QUEUED and job.submitted is None and "sources" in job.params
    server.answers["/hangs"] = reply(photo())
    Job.objects.update(lease_owner="", lease_until=None, next_look=job.created)  # as when the lease runs out
    assert ended(job).state == Job.State.SUCCEEDED
    assert JobEvent.objects.filter(job=job, state=Job.State.SUBMITTING).count() == 1
    assert upkeep.audit() == []
