"""What running engines measured, in a ConfigMap of the operator: read by each leader, written after a start."""

from __future__ import annotations

import logging

from llm_operator.kube import tasks
from llm_operator.kube.client import UNREADABLE, ApiClient, ApiError
from llm_operator.memory.calibration import NOTHING_LEARNED, Calibration, StartKind
from llm_operator.planning import PlanInputError, calibration_text, read_calibration
from llm_operator.planning.learning import KEY

log = logging.getLogger("llm_operator.learned")


async def read_learned(client: ApiClient, namespace: str, name: str) -> Calibration:
    """What earlier leaders kept; nothing if there is no such ConfigMap, or one that cannot be read."""
    if not name:
        return NOTHING_LEARNED
    try:
        data = (await client.get("ConfigMap", namespace, name)).get("data")
        text = data.get(KEY) if isinstance(data, dict) else None
        return read_calibration(text) if isinstance(text, str) else NOTHING_LEARNED
    except (*UNREADABLE, PlanInputError) as error:
        level = logging.INFO if isinstance(error, ApiError) and error.status == 404 else logging.WARNING
        log.log(level, "the measurements in ConfigMap %s/%s are left out: %s", namespace, name, error)
        return NOTHING_LEARNED


class Learned:
    """The measurements of this leader and those before it."""

    def __init__(self, client: ApiClient, namespace: str, name: str, calibration: Calibration) -> None:
        self._client = client
        self._namespace = namespace
        self._name = name
        self.calibration = calibration
        self._unwritten = False
        self._writing = False

    def saw(self, kind: StartKind, extra: int) -> None:
        """Count one more start, and keep it."""
        self.calibration = self.calibration.seen(kind, extra)
        self._unwritten = True
        if self._name and not self._writing:
            self._writing = True
            tasks.once(self._write(), "learned")

    async def _write(self) -> None:
        """Write until nothing is unwritten. What cannot be written is written with the next start."""
        try:
            while self._unwritten:
                self._unwritten = False
                data = {KEY: calibration_text(self.calibration)}
                patch = [{"op": "add", "path": "/data", "value": data}]
                try:
                    await self._client.patch("ConfigMap", self._namespace, self._name, patch)
                except UNREADABLE as error:
                    log.warning("the measurements could not be kept in ConfigMap %s: %s", self._name, error)
        finally:
            self._writing = False
