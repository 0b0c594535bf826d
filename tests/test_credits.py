import pytest

from accounts import credits


@pytest.mark.parametrize(
    ("micros", "words"),
    [
        (10_000_000, "1,428.57"),
        (35_000, "5.00"),
        (7_000, "1.00"),
        (70, "0.01"),
        (69, "0.00"),
        (0, "0.00"),
        (-35_000, "-5.00"),
        (7_000 * 1_234_567, "1,234,567.00"),
    ],
)
def test_credits_have_two_decimals(micros: int, words: str) -> None:
    assert credits.credits(micros) == words


def test_credits_are_rounded_down_so_that_nobody_is_promised_more() -> None:
    assert credits.credits(35_000 - 1) == "4.99"


@pytest.mark.parametrize(
    ("micros", "words"),
    [
        (10_000_000, "$10.00"),
        (35_000, "$0.035"),
        (49_000, "$0.049"),
        (70_000, "$0.07"),
        (168_000, "$0.168"),
        (1, "$0.000001"),
        (0, "$0.00"),
        (-35_000, "-$0.035"),
        (1_234_567_890_000, "$1,234,567.89"),
        (2**63 - 1, "$9,223,372,036,854.775807"),
    ],
)
def test_dollars_are_exact_and_have_at_least_two_decimals(micros: int, words: str) -> None:
    assert credits.usd(micros) == words


def test_both_units_together_as_on_the_account_page() -> None:
    assert credits.both(10_000_000) == "1,428.57 credits ($10.00)"


@pytest.mark.parametrize("catalogue_credits", [5, 7, 10, 14, 24])
def test_the_prices_of_the_catalogue_are_whole_in_both_units(catalogue_credits: int) -> None:
    micros = catalogue_credits * credits.MICROS_PER_CREDIT
    assert credits.credits(micros) == f"{catalogue_credits}.00"
    assert credits.usd(micros) == f"${catalogue_credits * 0.007:.3f}".rstrip("0").ljust(5, "0")


def test_a_price_has_the_four_decimals_of_the_price_table() -> None:
    assert [credits.price(micros) for micros in (35_000, 70_000, 168_000, 12_345)] == [
        "$0.0350",
        "$0.0700",
        "$0.1680",
        "$0.012345",
    ]


@pytest.mark.parametrize(
    ("typed", "micros"),
    [("2.50", 2_500_000), (" $0.035 ", 35_000), (".5", 500_000), ("7.", 7_000_000), ("0.0000010", 1), ("1000000", 10**12)],
)  # fmt: skip
def test_what_people_type_is_read_to_the_micro_dollar(typed: str, micros: int) -> None:
    assert credits.micros_of(typed) == micros


@pytest.mark.parametrize(
    "typed",
    ["", ".", "$", "-1", "NaN", "inf", "1,50", "1,000", "1e5", "1e999999", "1e-9999999", "1_000", "0.0000001", "0.1" + "0" * 30 + "1", "1000000.000001", "9" * 5000],
)  # fmt: skip
def test_anything_else_is_refused_in_words(typed: str) -> None:
    with pytest.raises(ValueError, match=r"such as 2\.50"):
        credits.micros_of(typed)
