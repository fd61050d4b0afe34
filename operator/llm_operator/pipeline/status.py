"""What status says of the stages before serving. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from llm_operator.api.status import CacheStatus, ConditionStatus, ConditionType, ProgressStatus, QuantizationStatus
from llm_operator.manifests.model_volume import Prepared
from llm_operator.pipeline.preparation import Preparation, StageReport

_CONDITIONS: Mapping[str, ConditionType] = {"fetch": "ModelCached", "quantize": "WeightsQuantized"}

_STATUS: Mapping[str, ConditionStatus] = {"Done": "True", "Running": "Unknown", "Blocked": "False"}

_FROM_BEHIND = ("Blocked", "Running", "Done")
Entry = tuple[ConditionType, ConditionStatus, str, str]


def stage_findings(preparation: Preparation | None, prepared: Prepared | None) -> Iterator[Entry]:
    """Conditions of the stages that this object has: type, status, reason, message.

    A stage that the spec does not need has no condition. What serves needs no Job any longer: it is read from the
    pod template.
    """
    warning = prepared.quantization.get("warning") if prepared is not None else None
    if preparation is not None:
        found = (_furthest_behind(preparation.reports, stage) for stage in _CONDITIONS)
        entries = [_entry(report) for report in found if report is not None]
        yield from (_warned(entry, warning) for entry in entries)
        return
    if prepared is None or prepared.claim_name is None:
        return
    if prepared.revision is not None:
        yield "ModelCached", "True", "Cached", f"revision {prepared.revision}"
    if prepared.quantization:
        recipe = str(prepared.quantization.get("recipe", ""))
        yield _warned(("WeightsQuantized", "True", "Quantized", recipe), warning)


def _furthest_behind(reports: Sequence[StageReport], stage: str) -> StageReport | None:
    """The report of a stage; of several artifacts of one stage, the one that has come least far."""
    of_stage = [report for report in reports if report.stage == stage]
    return min(of_stage, key=lambda report: _FROM_BEHIND.index(report.state), default=None)


def _warned(entry: Entry, warning: str | int | None) -> Entry:
    """The entry with what is wrong with the quality of what is served."""
    kind, status, _, message = entry
    if warning is None or kind != "WeightsQuantized" or status != "True":
        return entry
    return kind, status, "QualityDoubtful", f"{warning}; {message}"


def _entry(report: StageReport) -> Entry:
    return _CONDITIONS[report.stage], _STATUS[report.state], report.reason, report.message


def cache_status(prepared: Prepared | None) -> CacheStatus | None:
    """status.cache of a prepared model."""
    if prepared is None or prepared.claim_name is None:
        return None
    return CacheStatus(claim_name=prepared.claim_name, directory=prepared.directory, bytes=prepared.bytes)


def quantization_status(prepared: Prepared | None) -> QuantizationStatus | None:
    """status.quantization of a prepared model."""
    if prepared is None or not prepared.quantization:
        return None
    return QuantizationStatus.model_validate(dict(prepared.quantization), by_alias=True, strict=False)


_NUMBERS = ("percent", "bytes", "totalBytes", "bytesPerSecond", "secondsLeft")


def progress_status(report: Mapping[str, Any]) -> ProgressStatus | None:
    """status.progress from one line of a tool; None if the line does not report progress."""
    stage = report.get("stage")
    if not isinstance(stage, str) or not stage:
        return None
    numbers = {
        name: value
        for name in _NUMBERS
        if isinstance(value := report.get(name), int) and not isinstance(value, bool) and 0 <= value < 2**53
    }
    detail = report.get("detail")
    words = {"detail": detail[:200]} if isinstance(detail, str) and detail else {}
    body = {"stage": stage[:64], "summary": _summary(stage[:64], numbers), **numbers, **words}
    return ProgressStatus.model_validate(body, by_alias=True)


def _summary(stage: str, numbers: Mapping[str, int]) -> str:
    parts = [stage]
    if "percent" in numbers:
        parts.append(f"{numbers['percent']} %")
    if "bytesPerSecond" in numbers:
        parts.append(f"{numbers['bytesPerSecond'] / 1e6:.1f} MB/s")
    if "secondsLeft" in numbers:
        parts.append(f"{_duration(numbers['secondsLeft'])} left")
    return " ".join(parts)


def _duration(seconds: int) -> str:
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m" if hours else f"{minutes}m{rest:02d}s" if minutes else f"{rest}s"
