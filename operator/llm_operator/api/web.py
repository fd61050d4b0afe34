"""The chat page beside an engine."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from llm_operator.api.base import WHOLE, ApiModel, Rule, SecretKeyReference
from llm_operator.api.model import ImageReference
from llm_operator.api.overlay import ChatPodTemplate
from llm_operator.api.resources import Resources
from llm_operator.api.service import ServiceSettings

UserName = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9._@+][-A-Za-z0-9._@+]*$")]


class WebUI(ApiModel):
    """A chat page in front of the engine: a Deployment and a Service beside it, named `<name>-chat`."""

    RULES = (
        Rule(
            "!has(self.userName) || has(self.password)",
            "userName needs a password: set webUI.password, or remove userName",
            lambda page: page.user_name is None or page.password is not None,
            ".userName",
        ),
    )

    # Not more than one: a conversation's stream stays with the pod that it began on.
    replicas: Annotated[int, Field(ge=0, le=1), WHOLE] = Field(
        default=1,
        description="Number of page pods; 0 stops the page. It also stops while spec.replicas is 0.",
    )
    image: ImageReference | None = Field(default=None, description="Image of the page. Default: the operator's.")
    password: SecretKeyReference | None = Field(
        default=None,
        description="Secret with the page's password. Default: anyone who reaches the page may use it. Read when the "
        "page starts: after a change of the Secret, run `kubectl llm restart`.",
    )
    user_name: UserName | None = Field(
        default=None, description="User name for the login with the password. Default: chat."
    )
    resources: Resources = Field(
        default_factory=Resources,
        description="CPU and memory of the page. Default: requests of 100m and 256Mi, a limit of 1Gi.",
    )
    service: ServiceSettings = Field(default_factory=ServiceSettings, description="The Service in front of the page.")
    pod_template: ChatPodTemplate | None = Field(
        default=None, description="Merged into the page's pods as a strategic merge patch. See docs/pods.md."
    )
