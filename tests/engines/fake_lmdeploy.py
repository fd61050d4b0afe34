"""A fake `lmdeploy`, for what a machine without a GPU cannot do by itself: run out of its memory, or hang.

It counts its calls in the folder FAKE_LMDEPLOY_STATE. FAKE_LMDEPLOY_SCRIPT says what happens in each of them, separated
by commas; the last one repeats. `gpu` and `host` run out of memory, `killed` is what the kernel does, `hang` waits for
ever, `broken` is another failure, `done` leaves the AWQ model FAKE_LMDEPLOY_OUTPUT in the directory asked for.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path

GPU = """Traceback (most recent call last):
  File "lmdeploy/lite/quantization/calibration.py", line 243, in calibrate
torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity of 23.69 GiB"""
HOST = "RuntimeError: [enforce fail] DefaultCPUAllocator: not enough memory: you tried to allocate 8589934592 bytes."


def main() -> int:
    state = Path(os.environ["FAKE_LMDEPLOY_STATE"])
    number = len(list(state.glob("call-*.json")))
    (state / f"call-{number}.json").write_text(json.dumps(sys.argv[1:]))
    script = os.environ["FAKE_LMDEPLOY_SCRIPT"].split(",")
    act = script[min(number, len(script) - 1)]
    print("Move model.embed_tokens to GPU.", flush=True)
    if act == "gpu":
        print(GPU, file=sys.stderr)
        return 1
    if act == "host":
        print(HOST, file=sys.stderr)
        return 1
    if act == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if act == "broken":
        print("ValueError: something else", file=sys.stderr)
        return 1
    if act == "hang":
        (state / "hanging").touch()
        time.sleep(600)
    words = sys.argv
    shutil.copytree(os.environ["FAKE_LMDEPLOY_OUTPUT"], words[words.index("--work-dir") + 1])
    print("model.layers.0.mlp.down_proj weight packed.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
