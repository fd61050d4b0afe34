"""Looks whether the Deployment controller begins a rollout: only the ReplicaSet of the old pods says."""

from __future__ import annotations

import dataclasses
import logging

from llm_operator.kube.client import ApiClient, ApiError
from llm_operator.kube.keys import Key
from llm_operator.reconcile.observed import Observed
from llm_operator.reconcile.rollout import may_stand, stands

UNSEEN = "whether the Deployment controller begins the rollout is not seen: the operator may not get replicasets"

log = logging.getLogger("llm_operator.rollouts")


async def with_rollout(client: ApiClient, key: Key, observed: Observed) -> Observed:
    """What is observed, with whether the rollout stands. Asks while no pod of the new template is there.

    Raises:
        ApiError: the API server failed; the key is to be tried again.
    """
    child = observed.workload
    for name in may_stand(observed):
        try:
            live = await client.get("ReplicaSet", key[0], name)
        except ApiError as error:
            # 403: after an upgrade of the image alone, before the chart's rights.
            if error.status == 403:
                return dataclasses.replace(observed, unseen=(*observed.unseen, UNSEEN))
            if error.status != 404:
                raise
            continue
        if child is not None and stands(child, live):
            log.info("the Deployment controller does not begin the rollout: replicas are lowered by one for a moment")
            return dataclasses.replace(observed, rollout_stands=True)
    return observed
