"""Files that a command writes because `--output` asks for them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from zoo.cli.errors import UserError


def check_output(name: str, suffixes: tuple[str, ...]) -> Path:
    """The path of a file that can be written: said before the work whose result it will hold.

    Raises:
        UserError: If the suffix is none of these, or there is no such folder.
    """
    path = Path(name)
    if path.suffix.lower() not in suffixes:
        raise UserError(f"output is '{name}': its name must end in {' or '.join(suffixes)}")
    if path.is_dir():
        raise UserError(f"output is '{name}': that is a folder")
    if not path.parent.is_dir():
        raise UserError(f"output is '{name}': there is no folder '{path.parent}'")
    return path


@contextmanager
def replacing(path: Path, mode: str = "w", **settings: Any) -> Iterator[IO[Any]]:
    """Write beside the target and rename at the end: a reader sees the old file or the new one, whole.

    Args:
        path: The target.
        mode: As for `open`: w for text in UTF-8, wb for bytes.
        settings: What else `open` takes.

    Raises:
        OSError: If it cannot be written.
    """
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with unfinished.open(mode, encoding=None if "b" in mode else "utf-8", **settings) as file:
            yield file
        unfinished.replace(path)
    except OSError as error:
        if error.filename is None:  # failed writes do not say of which file
            error.filename = str(path)
        raise
    finally:
        unfinished.unlink(missing_ok=True)
