"""What is wrong, as one type; and the order in which chains of checks find it."""

from __future__ import annotations

from llm_operator.problems import Problem, every, first, together, wrong_field


def negative(number: int) -> Problem | None:
    return Problem("Negative", f"{number} is negative", "Warning") if number < 0 else None


def odd(number: int) -> Problem | None:
    return Problem("Odd", f"{number} is odd", "Error", "add 1") if number % 2 else None


def test_the_first_check_that_finds_something_counts() -> None:
    for chain, reason in (((negative, odd), "Negative"), ((odd, negative), "Odd")):
        found = first(chain, -3)
        assert found is not None
        assert found.reason == reason
    assert first((negative, odd), 2) is None
    assert first((), -3) is None


def test_every_check_of_a_chain_is_heard() -> None:
    def digits(number: int) -> list[Problem]:
        return [wrong_field("Digit", f"[{place}]", digit) for place, digit in enumerate(str(number)) if digit > "5"]

    found = every((digits, digits), 678)
    assert [one.text for one in found] == ["[0]: 6", "[1]: 7", "[2]: 8"] * 2
    assert every((digits,), 123) == ()


def test_several_problems_are_one_under_the_first_ones_reason() -> None:
    one, other = negative(-3), odd(-3)
    assert one is not None
    assert other is not None
    both = together((one, other))
    assert both is not None
    assert (both.reason, both.text, both.stalls) == ("Negative", "-3 is negative; -3 is odd; add 1", True)
    assert together((one,)) == Problem("Negative", "-3 is negative", "Warning")
    assert together(()) is None


def test_the_text_names_the_field_and_the_remedy() -> None:
    assert wrong_field("Odd", "spec.replicas", "3 is odd").text == "spec.replicas: 3 is odd"
    assert Problem("Odd", "3 is odd", "Error", "add 1", "spec.replicas").text == "spec.replicas: 3 is odd; add 1"


def test_a_problem_is_a_value() -> None:
    """It is kept in snapshots and compared with later ones, and there are many."""
    problem = wrong_field("Odd", "spec.replicas", "3 is odd")
    assert {problem} == {wrong_field("Odd", "spec.replicas", "3 is odd")}
    assert not hasattr(problem, "__dict__")
