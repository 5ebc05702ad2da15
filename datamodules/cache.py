"""Where computed things are kept between runs, and how processes take turns at computing them."""

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any


def cache_folder() -> Path:
    """$ZOO_CACHE, or lightning-zoo in the user's cache folder.

    Where the user's cache folder may not be written to, it is a temporary folder, which processes that are started from
    here use too.
    """
    if os.environ.get("ZOO_CACHE"):
        return Path(os.environ["ZOO_CACHE"]).absolute()
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")  # noqa: PTH111  # Path.home() may raise
    folder = Path(home, "lightning-zoo").absolute()
    existing = next(parent for parent in (folder, *folder.parents) if os.path.exists(parent))  # noqa: PTH110  # same
    if not os.access(existing, os.W_OK):
        folder = Path(tempfile.mkdtemp(prefix="lightning-zoo-"))
        os.environ["ZOO_CACHE"] = str(folder)
    return folder


@contextmanager
def one_at_a_time(work: Path) -> Iterator[None]:
    """Let one process work on a file or folder, and the others wait: they find the work done.

    Args:
        work: What is worked on; it need not exist.
    """
    from filelock import FileLock

    name = hashlib.sha256(os.fsencode(work.absolute())).hexdigest()[:32]
    folder = cache_folder() / "locks"
    lock: AbstractContextManager[object] = FileLock(folder / f"{name}.lock")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        lock = nullcontext()  # a folder that may not be written to is the work's own matter
    with lock:
        yield


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a small file whole or not at all; a cache that cannot be written is no error."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps(content))
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)
