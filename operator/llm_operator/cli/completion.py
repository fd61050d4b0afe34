"""`kubectl llm completion`: the script that completes kubectl-llm in a shell.

`kubectl llm` needs none: kubectl's own completion (`kubectl completion bash`) asks the program
kubectl_complete-llm, which lies beside kubectl-llm on the PATH.
"""

from __future__ import annotations

import argparse
from typing import Any

SCRIPTS = {
    "bash": """# source <(kubectl-llm completion bash)
_kubectl_llm() {
    local word line directive=0
    COMPREPLY=()
    word="${COMP_WORDS[COMP_CWORD]}"
    while IFS= read -r line; do
        if [[ $line == :* ]]; then directive="${line#:}"; else COMPREPLY+=("${line%%$'\\t'*}"); fi
    done < <(kubectl_complete-llm "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
    if [[ ${#COMPREPLY[@]} -eq 0 && $directive == 0 ]]; then
        mapfile -t COMPREPLY < <(compgen -f -- "$word")
    fi
}
complete -o filenames -F _kubectl_llm kubectl-llm
""",
    "zsh": """#compdef kubectl-llm
# source <(kubectl-llm completion zsh)
_kubectl_llm() {
    local line directive=0
    local -a found
    while IFS= read -r line; do
        if [[ $line == :* ]]; then directive="${line#:}"; continue; fi
        found+=("${${line%%$'\\t'*}//:/\\\\:}:${line#*$'\\t'}")
    done < <(kubectl_complete-llm "${(@)words[2,CURRENT]}" 2>/dev/null)
    if (( ${#found} )); then _describe 'kubectl llm' found; elif [[ $directive == 0 ]]; then _files; fi
}
compdef _kubectl_llm kubectl-llm
""",
    "fish": """# kubectl-llm completion fish | source
function __kubectl_llm
    set -l words (commandline -opc) (commandline -ct)
    kubectl_complete-llm $words[2..-1] 2>/dev/null | string match -v ':*'
end
complete -c kubectl-llm -f -a '(__kubectl_llm)'
complete -c kubectl-llm -n '__fish_seen_subcommand_from plan render' -F
""",
}


def add_to(commands: Any) -> None:
    """Declare the command."""
    line = commands.add_parser(
        "completion",
        help="completion for a shell",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    line.add_argument("shell", choices=sorted(SCRIPTS), help="the shell")


def run(chosen: argparse.Namespace) -> int:
    """Print the script."""
    print(SCRIPTS[chosen.shell], end="")
    return 0
