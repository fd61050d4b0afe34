"""The engines' own packages, each in an environment of its own in the cache, made from scratch where it is missing.

    python -m tests.engines.environments            # the versions that the tests use
    python -m tests.engines.environments --all      # every version of the flag tables

LMDeploy's parsers need a few small packages: its worker stubs the rest. `lmdeploy lite` runs for real, in what the CPU
test image holds. That and vLLM need torch for the CPU (devcluster/torch_wheel.py). The chat page has its image's
packages, and its browser is Debian's Chromium.
Sources of further versions lie beside the environments, without their compiled libraries, and go on PYTHONPATH.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import functools
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from devcluster import torch_wheel
from devcluster.cache import Steps, cache_dir, need_room
from devcluster.debian import ensure_packages, missing_packages

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
FOLDERS = REPOSITORY / "operator" / "llm_operator" / "engines"
TORCH = torch_wheel.VERSION
VLLM_INSTALLED = "0.33.0"
TESTED = {
    "lmdeploy": ("0.9.2.post1", "0.10.2", "0.12.3", "0.14.0", "0.18.0"),
    "vllm": ("0.20.2", "0.26.0", VLLM_INSTALLED),
}
"""Versions whose parsers the tests run: the first, the last, and those between at which a rule of ours changes."""
ALL_VERSIONS_VARIABLE = "LLM_OPERATOR_ENGINE_VERSIONS"
"""`all` makes the tests run every version of the flag tables: about 7 GB are downloaded once."""
LITE_REQUIREMENTS = (
    REPOSITORY / "images" / "cpu-test-base" / "requirements.txt",
    REPOSITORY / "images" / "lmdeploy-cpu-test" / "requirements.txt",
)
DOCS_REQUIREMENTS = REPOSITORY / "docs" / "requirements.lock"
WEB_REQUIREMENTS = REPOSITORY / "images" / "web" / "requirements.lock"
BROWSER = Path("/usr/bin/chromium")
BROWSER_PACKAGES = ("chromium", "fonts-dejavu-core")
INSTALL_TIMEOUT_SECONDS = 1800
COMPLETE = ".complete"
KEPT_SECONDS = 24 * 3600
"""How long an environment of other requirements is kept after its last use."""


def cache_root() -> Path:
    """Folder of everything that is made once and kept outside of the tree."""
    return cache_dir() / "engines"


def known_versions(engine: str) -> tuple[str, ...]:
    """Every version in the engine's flag table, oldest first."""
    return tuple(json.loads((FOLDERS / engine / "options.json").read_text())["versions"])


def tested_versions(engine: str) -> tuple[str, ...]:
    """The versions whose parsers the tests run.

    Raises:
        ValueError: the variable says something else than `all`.
    """
    asked = os.environ.get(ALL_VERSIONS_VARIABLE, "")
    if asked not in ("", "all"):
        raise ValueError(f"{ALL_VERSIONS_VARIABLE}={asked}: expected `all`, or the variable unset")
    return known_versions(engine) if asked else TESTED[engine]


def prepare() -> None:
    """Make whatever the tests need and is missing, saying which step of how many runs and how long each took."""
    wanted: list[tuple[str, Callable[[], object]]] = []
    for engine in TESTED:
        wanted.append((f"{engine}: environment", functools.partial(interpreter, engine)))
        wanted += [
            (f"{engine} {version}", functools.partial(sources, engine, version)) for version in tested_versions(engine)
        ]
    wanted.append(("lmdeploy lite: environment", lite_interpreter))
    wanted.append(("chat page: environment", web_interpreter))
    wanted.append(("documentation: environment", docs_interpreter))
    wanted.append(("chat page: browser", ensure_browser))
    need_room(missing_bytes(), "the engines' environments")
    steps = Steps("engines", len(wanted))
    for name, make in wanted:
        with steps.step(name):
            make()


def prepared() -> bool:
    """Whether nothing is missing, so that there is no progress to show."""
    return BROWSER.exists() and not missing_bytes()


def missing_bytes() -> int:
    """Bytes that what is missing would take on the disk."""
    sizes = {
        _environment("lmdeploy"): 150,
        _environment("vllm"): 2700,
        _lite_environment(): 2500,
        _web_environment(): 450,
        _docs_environment(): 60,
    }
    for engine in TESTED:
        for version in tested_versions(engine):
            folder = _sources(engine, version)
            if folder is not None:
                sizes[folder] = 100
    return sum(size for folder, size in sizes.items() if not (folder / COMPLETE).exists()) * 1_000_000


def interpreter(engine: str) -> Path:
    """The Python of the engine's environment; makes the environment where it is missing."""
    folder = _environment(engine)
    with _made_once(folder) as target:
        if target is not None:
            python = _virtual_environment(target)
            _install(python, "--no-deps", "-r", str(_requirements(engine)))
            if engine == "vllm":
                _install(python, "--no-deps", _torch(), f"vllm=={VLLM_INSTALLED}")
    return folder / "bin" / "python"


def lite_interpreter() -> Path:
    """The Python that runs `lmdeploy lite` on the CPU, from the test image's own list of packages."""
    folder = _lite_environment()
    with _made_once(folder) as target:
        if target is not None:
            python = _virtual_environment(target)
            for requirements in LITE_REQUIREMENTS:
                _install(python, "--no-deps", "-r", str(requirements))
            _install(python, "--no-deps", _torch())
    return folder / "bin" / "python"


def web_interpreter() -> Path:
    """The Python that runs the chat page, from its image's own list of packages."""
    folder = _web_environment()
    with _made_once(folder) as target:
        if target is not None:
            _install(_virtual_environment(target), "--no-deps", "-r", str(WEB_REQUIREMENTS))
    return folder / "bin" / "python"


def docs_interpreter() -> Path:
    """The Python that builds the documentation's site."""
    folder = _docs_environment()
    with _made_once(folder) as target:
        if target is not None:
            _install(_virtual_environment(target), "--no-deps", "-r", str(DOCS_REQUIREMENTS))
    return folder / "bin" / "python"


def ensure_browser() -> Path:
    """Chromium, installed with apt-get where it is missing and this machine has apt-get.

    Raises:
        ClusterError: it can't be installed: no apt-get, or no root.
    """
    if not BROWSER.exists() or missing_packages(BROWSER_PACKAGES):
        ensure_packages(BROWSER_PACKAGES)
    return BROWSER


def sources(engine: str, version: str) -> Path | None:
    """Folder for PYTHONPATH that holds this version of the engine; None where the environment itself has it."""
    folder = _sources(engine, version)
    if folder is None:
        return None
    python = interpreter(engine)
    with _made_once(folder) as target:
        if target is not None:
            _install(python, "--no-deps", "--target", str(target), f"{engine}=={version}", cached=False)
            # Parsers need no kernels, and these are nine tenths of the size.
            for library in target.rglob("*.so*"):
                library.unlink()
    return folder


def _requirements(engine: str) -> Path:
    return HERE / "requirements" / f"{engine}.txt"


def _environment(engine: str) -> Path:
    extra = f"torch {TORCH} vllm {VLLM_INSTALLED}" if engine == "vllm" else ""
    return cache_root() / f"{engine}-env-{_key(_requirements(engine).read_text(), extra, sys.version)}"


def _lite_environment() -> Path:
    lists = [requirements.read_text() for requirements in LITE_REQUIREMENTS]
    return cache_root() / f"lmdeploy-lite-env-{_key(*lists, f'torch {TORCH}', sys.version)}"


def _docs_environment() -> Path:
    return cache_root() / f"docs-env-{_key(DOCS_REQUIREMENTS.read_text(), sys.version)}"


def _web_environment() -> Path:
    return cache_root() / f"chat-page-env-{_key(WEB_REQUIREMENTS.read_text(), sys.version)}"


def _sources(engine: str, version: str) -> Path | None:
    if engine == "vllm" and version == VLLM_INSTALLED:
        return None
    return cache_root() / "sources" / f"{engine}-{version}"


def _key(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]


@contextlib.contextmanager
def _made_once(folder: Path) -> Iterator[Path | None]:
    """Yield a folder to fill, or None where it is complete; other processes wait for the one that fills it."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    complete = folder / COMPLETE
    if complete.exists():
        complete.touch()
        yield None
        return
    with open(folder.parent / f"{folder.name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if complete.exists():
            yield None
            return
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        yield folder
        complete.touch()
        _remove_older(folder)


def _remove_older(made: Path) -> None:
    """Remove what earlier requirements made of the same environment, unless another checkout may still use it."""
    kind, mark, _ = made.name.rpartition("-env-")
    for folder in made.parent.glob(f"{kind}{mark}*") if mark else ():
        stamp = folder / COMPLETE
        if folder != made and stamp.exists() and time.time() - stamp.stat().st_mtime > KEPT_SECONDS:
            shutil.rmtree(folder)
            folder.with_name(f"{folder.name}.lock").unlink(missing_ok=True)
    shutil.rmtree(cache_root() / "wheels", ignore_errors=True)


def _virtual_environment(folder: Path) -> Path:
    if shutil.which("uv"):
        subprocess.run(["uv", "venv", "--quiet", "--allow-existing", "--python", sys.executable, folder], check=True)
    else:
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    return folder / "bin" / "python"


def _install(python: Path, *arguments: str, cached: bool = True) -> None:
    if shutil.which("uv"):
        tool = ["uv", "pip", "install", "--quiet", "--python", str(python), *([] if cached else ["--no-cache"])]
    else:
        tool = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        tool += [] if cached else ["--no-cache-dir"]
    done = subprocess.run(
        [*tool, *arguments], check=False, timeout=INSTALL_TIMEOUT_SECONDS, capture_output=True, text=True
    )
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join([*tool, *arguments])} failed:\n{done.stderr[-2000:]}")


def _torch() -> str:
    """What installs torch: the wheel for the CPU, or PyPI's where that is for the CPU."""
    wheel = torch_wheel.find(f"cp{sys.version_info.major}{sys.version_info.minor}")
    return str(wheel) if wheel else f"torch=={TORCH}"


def main() -> None:
    """Make the environments and say where they are."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--all", action="store_true", help="every version of the flag tables, not only the tested ones")
    parser.add_argument("only", nargs="?", choices=["docs"], help="one environment; default all that the tests use")
    arguments = parser.parse_args()
    if arguments.only:
        docs_interpreter()
        return
    if not prepared():
        prepare()
    for engine, tested in TESTED.items():
        print(engine, interpreter(engine))
        for version in known_versions(engine) if arguments.all else tested:
            print(" ", version, sources(engine, version) or "(in the environment)")
    print("lmdeploy lite", lite_interpreter())
    print("chat page", web_interpreter())


if __name__ == "__main__":
    main()
