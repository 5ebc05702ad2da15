"""The process of a trial: `zoo fit`, which ends when the process that started it does, even by SIGKILL."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from zoo.cli import main

GRACE_SECONDS = 20.0
"""What a trial has between SIGTERM and SIGKILL: time to finish a step and to save it."""
OF_A_RUN = ("PL_GLOBAL_SEED", "ZOO_RUN_DIR")
"""Variables that a run leaves in its environment for processes of its own."""


def start(words: Sequence[str], log: Path, *, threads: int = 0, device: str | None = None) -> "subprocess.Popen[bytes]":
    """Start `zoo` in a process of its own, in a group of its own.

    Args:
        words: What is typed after `zoo`.
        log: The file to which what it prints is added.
        threads: CPU threads; 0 leaves that to torch.
        device: The GPU that it may use, as CUDA_VISIBLE_DEVICES takes it; None leaves all.
    """
    environment = {name: value for name, value in os.environ.items() if name not in OF_A_RUN}
    environment["PYTHONSAFEPATH"] = "1"  # a file zoo.py in the current folder is not this package
    if threads:
        environment["OMP_NUM_THREADS"] = str(threads)
    if device is not None:
        environment["CUDA_VISIBLE_DEVICES"] = device
    command = [sys.executable, "-m", "zoo.cli.search_child", *words]
    with log.open("ab") as output:
        return subprocess.Popen(
            command,
            stdin=subprocess.PIPE,  # open for as long as this process lives
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,  # the terminal's Ctrl-C is for the search, which stops its trials in order
        )


def stop(process: "subprocess.Popen[bytes]", seconds: float = GRACE_SECONDS) -> None:
    """End a trial: by SIGTERM, and with all that it started by SIGKILL if it is still there after some seconds."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            kill(process)
    if process.stdin is not None:
        process.stdin.close()


def kill(process: "subprocess.Popen[bytes]") -> None:
    """End a trial now, with all that it started."""
    if sys.platform == "win32":
        process.kill()
    else:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _end_with_parent() -> None:
    """Wait until nobody holds the other end of the standard input any more."""
    while os.read(0, 1):  # not sys.stdin: a thread that waits in it blocks the end of the interpreter
        pass
    if sys.platform != "win32":
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


if __name__ == "__main__":
    threading.Thread(target=_end_with_parent, daemon=True).start()
    sys.exit(main())
