"""Options of the operator that decide what it makes for an object; `kubectl llm render` has the same."""

from __future__ import annotations

import argparse
import logging
import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from llm_operator import __version__
from llm_operator.api.base import NAME_PATTERN, ConfigMapKeyReference
from llm_operator.api.network import NetworkSpec
from llm_operator.api.overlay_owned import PREFIX
from llm_operator.api.propagation import Propagation
from llm_operator.engines.registry import QUANTIZER
from llm_operator.foreign import natural_number, read_json
from llm_operator.image_names import reference
from llm_operator.manifests.tools import PROXY_VARIABLES
from llm_operator.settings import USER, NetworkSettings, ToolSettings

log = logging.getLogger("llm_operator")

HANDED_ON = ("HF_ENDPOINT", "MODELSCOPE_ENDPOINT", *PROXY_VARIABLES)
"""Variables of the operator's own environment that its tools need to reach the same hub in the same way."""
NAMESPACE_VARIABLE = "POD_NAMESPACE"
PULL_POLICIES = ("IfNotPresent", "Always", "Never")


def add_child_options(line: argparse.ArgumentParser, *, defaults: bool = True) -> None:
    """Declare the options.

    Args:
        line: the parser that gets them.
        defaults: False: an option that is not given leaves no attribute behind, so that it replaces nothing.
    """

    def adder(title: str) -> Callable[..., None]:
        group = line.add_argument_group(title)

        def add(name: str, **how: Any) -> None:
            group.add_argument(name, **(how if defaults else {**how, "default": argparse.SUPPRESS}))

        return add

    _add_tools(adder("model tools"))
    _add_page(adder("chat page"))
    _add_trust(adder("way to the hubs"))
    _add_network(adder("network policies"))
    _add_pods(adder("pods"))


def tool_settings(chosen: argparse.Namespace, environment: Mapping[str, str] = os.environ) -> ToolSettings:
    """What the options and the operator's environment say.

    Args:
        chosen: as parsed with the options, and `namespace`: the namespaces that are served; none: all.
        environment: the operator's own.
    """
    return ToolSettings(
        image=chosen.model_tools_image,
        quantize_image=chosen.quantize_image,
        pull_policy=chosen.tools_pull_policy,
        environment=handed_on(environment),
        ca_bundle=chosen.tools_ca_bundle,
        proxy_secret=chosen.proxy_secret,
        stall_seconds=chosen.stall_seconds,
        inspect=chosen.inspect_models,
        retention_seconds=chosen.cache_retention_seconds,
        verify_seconds=chosen.cache_verify_seconds,
        web_image=chosen.web_image,
        web_pull_policy=chosen.web_pull_policy,
        home=_home(environment.get(NAMESPACE_VARIABLE, ""), chosen.namespace),
        user=chosen.run_as_user,
        network=NetworkSettings(chosen.network_policies, chosen.network_policy_from),
        propagation=Propagation(tuple(chosen.propagate_label), tuple(chosen.propagate_annotation)),
    )


def handed_on(environment: Mapping[str, str]) -> dict[str, str]:
    """What the tools get of it as plain text: never a URL with a password, which everybody who sees a pod would see."""
    found = {name: environment[name] for name in HANDED_ON if environment.get(name)}
    for name in [name for name, value in found.items() if has_password(value)]:
        log.warning("%s has a password and is not handed on to Jobs: name a Secret with --proxy-secret", name)
        del found[name]
    return found


def has_password(url: str) -> bool:
    """Whether a proxy's or hub's address holds a user's name or password, with or without its scheme."""
    return any(
        "@" in part.partition("://")[2].partition("/")[0] or "@" in part.partition("/")[0] for part in url.split(",")
    )


def positive(text: str) -> int:
    """A number of at least 1.

    Raises:
        argparse.ArgumentTypeError: it is less.
    """
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {number}")
    return number


def _add_tools(add: Callable[..., None]) -> None:
    """What fetches, inspects and quantizes models."""
    add(
        "--model-tools-image",
        default=reference("model-tools", __version__),
        metavar="IMAGE",
        help="image that fetches and inspects models; empty: engines fetch for themselves, without a cache",
    )
    add(
        "--quantize-image",
        default=reference(QUANTIZER.image_name, QUANTIZER.options.newest),
        metavar="IMAGE",
        help="image with `lmdeploy lite` and the datasets package (images/lmdeploy)",
    )
    add("--tools-pull-policy", choices=PULL_POLICIES, default="IfNotPresent", help="of both (default IfNotPresent)")
    add(
        "--inspect-models",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="read config.json of models on claims and in images by a Job, to plan them",
    )
    add(
        "--stall-seconds",
        type=positive,
        default=60,
        help="resume a download that receives no data for this many seconds",
    )
    add(
        "--cache-retention-seconds",
        type=_not_negative,
        default=0,
        help="delete cached models that no object has used for this many seconds (default 0: keep them)",
    )
    add(
        "--cache-verify-seconds",
        type=_not_negative,
        default=30 * 86_400,
        help="compare cached models with their hashes at this interval, in seconds (default 30 days; 0: never)",
    )


def _add_page(add: Callable[..., None]) -> None:
    """The chat page that an object may have."""
    add("--web-image", default=reference("web", __version__), metavar="IMAGE", help="image of the chat page")
    add("--web-pull-policy", choices=PULL_POLICIES, default="IfNotPresent", help="of it (default IfNotPresent)")


def _add_trust(add: Callable[..., None]) -> None:
    """Certificates and proxies on the way to the hubs."""
    add(
        "--tools-ca-bundle",
        default=None,
        type=_config_map_key,
        metavar="CONFIGMAP/KEY",
        help="certificates (PEM) that model tools trust too: a ConfigMap that each namespace with LLMDeployments has",
    )
    add(
        "--proxy-secret",
        default="",
        type=_secret_name,
        metavar="NAME",
        help="Secret of each namespace with the keys HTTPS_PROXY, HTTP_PROXY and NO_PROXY, for the model tools",
    )


def _add_network(add: Callable[..., None]) -> None:
    """The NetworkPolicies of objects."""
    add(
        "--network-policies",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="make NetworkPolicies for engines, chat pages and model tools; off: those that were made are removed",
    )
    add(
        "--network-policy-from",
        type=_peers,
        default=(),
        metavar="JSON",
        help="who reaches every engine and page, as the list `from` of a NetworkPolicy: the operator, scrapers",
    )


def _add_pods(add: Callable[..., None]) -> None:
    """The user of pods, and what of an object's own metadata reaches its pods and Services."""
    add(
        "--run-as-user",
        type=_user,
        default=USER,
        metavar="ID",
        help=f"user and group of engines and model tools (default {USER}); empty: the platform or the image says it",
    )
    for kind in ("label", "annotation"):
        add(
            f"--propagate-{kind}",
            action="append",
            default=[],
            type=_name_or_prefix,
            metavar="NAME",
            help=f"hand this {kind} of an LLMDeployment on to its pods and Services; PREFIX* names several; repeatable",
        )


def _name_or_prefix(text: str) -> str:
    if len(text) > 317 or not re.fullmatch(r"[A-Za-z0-9][-A-Za-z0-9_./]*\*?", text):
        raise argparse.ArgumentTypeError(f"expected a name such as example.com/team or a prefix with *, got {text!r}")
    if text.startswith(PREFIX):
        raise argparse.ArgumentTypeError(f"{PREFIX} is the operator's own: it is never handed on")
    return text


def _config_map_key(text: str) -> ConfigMapKeyReference:
    name, _, key = text.partition("/")
    try:
        return ConfigMapKeyReference(name=name, key=key)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected CONFIGMAP/KEY such as corporate-ca/ca.crt, got {text!r}") from None


def _secret_name(text: str) -> str:
    if text and (len(text) > 253 or not re.fullmatch(NAME_PATTERN, text)):
        raise argparse.ArgumentTypeError(f"expected the name of a Secret, got {text!r}")
    return text


def _peers(text: str) -> tuple[dict[str, Any], ...]:
    try:
        told = read_json(text)
        given = NetworkSpec.model_validate({"from": None if told == [] else told}, by_alias=True, by_name=False).from_
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"not a list of peers of a NetworkPolicy: {error}") from None
    return tuple(peer.to_peer() for peer in given or ())


def _home(own: str, served: Sequence[str]) -> str:
    """The operator's own namespace, unless it serves only that."""
    return "" if set(served) == {own} else own


def _user(text: str) -> int | None:
    if not text:
        return None
    number = natural_number(text, 10)
    if number is None or not 0 < number < 2**31:
        raise argparse.ArgumentTypeError(f"expected a user id from 1 to 2147483647, or nothing, got {text[:40]!r}")
    return number


def _not_negative(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"must not be negative, got {number}")
    return number
