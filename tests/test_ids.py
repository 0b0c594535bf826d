import time

from playground.ids import new_id


def test_ids_sort_by_age_and_are_never_the_same() -> None:
    made = []
    for _ in range(200):
        made.append(new_id())
        time.sleep(0.00001)
    assert made == sorted(made) and len(set(made)) == 200


def test_an_id_is_a_version_7_uuid_of_this_moment() -> None:
    made = new_id()
    assert made.version == 7 and made.variant == "specified in RFC 4122"
    assert abs((made.int >> 80) / 1000 - time.time()) < 5
