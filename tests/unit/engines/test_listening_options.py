"""Options that open or move a listener: each is the operator's, refused, or was read and found harmless."""

from __future__ import annotations

import re

import pytest

from llm_operator.engines.lmdeploy import command as lmdeploy
from llm_operator.engines.registry import ENGINES
from llm_operator.engines.vllm import command as vllm

RULES = {"LMDeploy": lmdeploy.RULES, "VLLM": vllm.RULES}
LISTENS = re.compile(r"host|port|addr|uds|socket|grpc|rpc|http|ssl|tls|listen|bind|proxy|key|server|frontend|headless")
REVIEWED = {
    "--api-server-count": "further processes with the filter, on the same port",
    "--disable-server-load-tracking": "a number in /load, which the filter hides",
    "--no-enable-server-load-tracking": "the same",
    "--enable-server-load-tracking": "the same",
    "--tool-server": "the engine calls it",
    "--numa-bind": "binds to cores, not to an address",
    "--no-numa-bind": "the same",
    "--numa-bind-cpus": "the same",
    "--numa-bind-nodes": "the same",
}


@pytest.mark.parametrize("engine", RULES)
def test_every_option_that_may_listen_was_read(engine: str) -> None:
    table, rules = ENGINES[engine].options, RULES[engine]
    known = {*rules.owned, *rules.refused, *REVIEWED}
    found = set()
    for version in table.versions:
        capabilities = table.capabilities(version)
        assert capabilities is not None
        found |= {option.names for name, option in capabilities.options.items() if LISTENS.search(name)}
    assert found
    assert {names for names in found if not known & set(names)} == set()
