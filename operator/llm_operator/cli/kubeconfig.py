"""Access to an API server, with what is wrong with it in the words of a command."""

from __future__ import annotations

from llm_operator import kubeconfig as files
from llm_operator.cli.errors import BadInputError
from llm_operator.kubeconfig import Access, contexts

__all__ = ["Access", "contexts", "load"]


def load(kubeconfig: str | None, context: str | None) -> Access:
    """The access of a kubeconfig; inside a pod without one, the pod's own.

    Args:
        kubeconfig: path; None: $KUBECONFIG (several files are merged), else ~/.kube/config.
        context: context in it; None: its current one.

    Raises:
        BadInputError: there is no such file or context, or it cannot be used.
    """
    try:
        return files.load(kubeconfig, context)
    except files.KubeconfigError as error:
        raise BadInputError(error.problems) from error
