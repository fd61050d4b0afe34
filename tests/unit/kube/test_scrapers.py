"""Who may read the metrics: asked of the API server, remembered, and no flood for it."""

from __future__ import annotations

from typing import Any

import pytest

from llm_operator.kube.client import ApiError
from llm_operator.kube.scrapers import MOST_REMEMBERED, REVIEWS_PER_SECOND, ScrapeReview


class Api:
    """Stands in for the API client: it knows two users."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.error: Exception | None = None

    async def review(self, kind: str, spec: dict[str, Any]) -> dict[str, Any]:
        self.asked.append((kind, spec))
        if self.error is not None:
            raise self.error
        if kind == "TokenReview":
            name = {"good": "prometheus", "poor": "somebody"}.get(spec["token"])
            user = {"username": name, "uid": "u", "groups": ["system:authenticated"], "extra": {"a": ["b"]}}
            return {"authenticated": True, "user": user} if name else {"authenticated": False, "error": "no"}
        return {"allowed": spec["user"] == "prometheus"}


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("header", "status"),
    [
        (None, 401), ("", 401), ("Bearer", 401), ("Bearer ", 401), ("Basic good", 401), ("Bearer " + "x" * 9000, 401),
        ("Bearer unknown", 401), ("Bearer \udcff\udcfe", 401), ("Bearer poor", 403), ("Bearer good", 200),
        ("bearer good", 200),
    ],
)  # fmt: skip
async def test_statuses(header: str | None, status: int) -> None:
    assert await ScrapeReview(Api())(header) == status


async def test_the_users_right_to_the_url_is_asked_for() -> None:
    api = Api()
    await ScrapeReview(api)("Bearer good")
    assert api.asked[1] == (
        "SubjectAccessReview",
        {
            "nonResourceAttributes": {"path": "/metrics", "verb": "get"},
            "user": "prometheus",
            "uid": "u",
            "groups": ["system:authenticated"],
            "extra": {"a": ["b"]},
        },
    )


async def test_an_answer_is_remembered_for_a_while() -> None:
    api, clock = Api(), Clock()
    review = ScrapeReview(api, clock)
    for _ in range(100):
        assert await review("Bearer good") == 200
    assert len(api.asked) == 2
    clock.now += 61
    assert await review("Bearer good") == 200
    assert len(api.asked) == 4


async def test_made_up_tokens_are_no_flood_and_drive_nobody_out() -> None:
    api, clock = Api(), Clock()
    review = ScrapeReview(api, clock)
    assert await review("Bearer good") == 200
    statuses = [await review(f"Bearer made-up-{number}") for number in range(1000)]
    assert statuses.count(503) == 1000 - (REVIEWS_PER_SECOND - 1)
    assert len(api.asked) == REVIEWS_PER_SECOND + 1
    for second in range(2 * MOST_REMEMBERED // REVIEWS_PER_SECOND):
        clock.now = 1001.0 + second / 100
        await review(f"Bearer more-{second}")
    assert await review("Bearer good") == 200
    assert len(review._known) <= MOST_REMEMBERED


@pytest.mark.parametrize("error", [ApiError(500, "InternalError", ""), TimeoutError(), OSError("away")])
async def test_who_cannot_be_asked_is_not_let_in_and_not_remembered(error: Exception) -> None:
    api = Api()
    api.error = error
    review = ScrapeReview(api)
    assert await review("Bearer good") == 503
    api.error = None
    assert await review("Bearer good") == 200


@pytest.mark.parametrize(
    "told", [{}, {"authenticated": "true"}, {"authenticated": True}, {"authenticated": True, "user": 5}]
)
async def test_an_answer_that_is_no_review_lets_nobody_in(told: dict[str, Any]) -> None:
    class Odd(Api):
        async def review(self, kind: str, spec: dict[str, Any]) -> dict[str, Any]:
            return told

    assert await ScrapeReview(Odd())("Bearer good") == 401
