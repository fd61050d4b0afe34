"""STEPS: loads data sets with loaders of several LMDeploy releases, as the child of `calibration.probe` does.

STEPS is a JSON list of {"loader": calib_dataloader.py of a release, "tokenizer": chat or plain, "dataset": LMDeploy's
word}; a plain tokenizer has no chat template. Everything is done in one process, whose imports take longer than all of
it, in its working directory. Prints a JSON list of the child's answers.
"""

import contextlib
import importlib.util
import io
import json
import sys
from pathlib import Path
from typing import Any

import lmdeploy.lite.utils
from make_tiny_model import make_tokenizer

from llm_operator.modeltools import calibration

LENGTH = "64"


def loader(path: str) -> Any:
    """The loader of a release, which imports nothing else of it."""
    spec = importlib.util.spec_from_file_location("calib_dataloader", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_calib_loaders


def main() -> None:
    """Go through the steps."""
    tokenizer = make_tokenizer()
    tokenizer.save_pretrained("chat")
    tokenizer.chat_template = None
    tokenizer.save_pretrained("plain")
    answers = []
    for step in json.loads(Path(sys.argv[1]).read_text()):
        lmdeploy.lite.utils.get_calib_loaders = loader(step["loader"])
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            calibration.main([step["tokenizer"], step["dataset"], LENGTH])
        answers.append(json.loads(output.getvalue().splitlines()[-1]))
    print(json.dumps(answers))


if __name__ == "__main__":
    main()
