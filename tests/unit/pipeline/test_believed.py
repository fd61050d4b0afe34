"""A result of a Job is believed for the directory that the Job was to make, and for no other."""

from __future__ import annotations

import pytest

from llm_operator.pipeline.prepare import prepare
from tests.support.build import plan
from tests.support.model_jobs import COMMIT, DIRECTORY, TOOLS, cached, done, fetched, quantized, seen, stages

AWQ = {"method": "AWQ"}


@pytest.mark.parametrize(
    "directory",
    [
        "attacker/weights", f"models/hf--org--other/{COMMIT}", f"models/ms--org--model/{COMMIT}",
        "models/hf--org--model/main", f"models/hf--org--model/{COMMIT}/sub", f"models/hf--org--model/{COMMIT}.partial",
        f"{DIRECTORY}--awq", "", ".",
        f"models/hf--org--model/{COMMIT.upper()}", f"models/hf--org--model-2/{COMMIT}",
    ],
)  # fmt: skip
def test_a_result_of_another_directory_is_not_believed(directory: str) -> None:
    of = cached()
    told = prepare(of, seen(done(stages(of)["fetch"], fetched(directory=directory))), plan(of), TOOLS)
    assert told.prepared is None
    assert told.trouble is not None
    assert (told.trouble.reason, told.trouble.stalls) == ("JobFailed", True)
    assert "kubectl delete job llm-fetch-" in told.trouble.message
    # Also not of a commit other than the one that the spec names.
    pinned = cached(model={"huggingFace": {"repository": "org/model", "revision": "f" * 40}})
    assert prepare(pinned, seen(done(stages(pinned)["fetch"], fetched())), plan(pinned), TOOLS).prepared is None


@pytest.mark.parametrize(
    "directory",
    [
        "attacker/weights", f"models/hf--org--other/{COMMIT}--awq", DIRECTORY, f"{DIRECTORY}--turbomind-12345678",
        f"{DIRECTORY}--awq/../x", "models/hf--org--model/main--awq", f"{DIRECTORY}--awq.partial",
    ],
)  # fmt: skip
def test_a_quantized_result_of_another_directory_is_not_believed(directory: str) -> None:
    of = cached(weightQuantization=AWQ)
    jobs = (done(stages(of)["fetch"], fetched()), done(stages(of)["quantize"], quantized(directory=directory)))
    told = prepare(of, seen(*jobs), plan(of), TOOLS)
    assert told.prepared is None
    assert told.trouble is not None
    assert told.trouble.reason == "JobFailed"


def test_a_result_of_an_earlier_commit_is_of_the_same_model() -> None:
    of = cached(weightQuantization=AWQ)
    earlier = DIRECTORY.replace(COMMIT, "e" * 40) + "--awq-w4-g128-0a1b2c3d"
    jobs = (done(stages(of)["fetch"], fetched()), done(stages(of)["quantize"], quantized(directory=earlier)))
    told = prepare(of, seen(*jobs), plan(of), TOOLS)
    assert told.prepared is not None
    assert told.prepared.directory == earlier
