"""One changed configuration: does it work as it says, or end with one line and leave nothing behind?"""

import contextlib
import io
import json
import os
import socket
import sys
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import yaml

from tests.fuzz_configs_cases import Case

LONGEST_LINE = 1000


class SeveralProcesses(BaseException):
    """The command was about to start other processes, or to wait for other machines."""


@dataclass
class Outcome:
    """What became of a case.

    Attributes:
        verdict: accepted, refused, diverged or several processes.
        message: The last line for the user.
        problems: What breaks a promise.
        seconds: Time of a processor that it took.
    """

    verdict: str
    message: str = ""
    problems: list[str] = field(default_factory=list)
    seconds: float = 0.0


def run_case(case: Case) -> Outcome:
    """Run a command in the current folder, which holds what it may name; call `stay_alone` once before."""
    if case.text is not None:
        Path("case.yaml").write_bytes(case.text.encode("utf-8", "surrogateescape"))
    before = _files()
    status, out, err = _run(case.words)
    lines = [line for line in err.splitlines() if line.startswith("zoo: error: ")]
    message = (lines or err.splitlines() or [""])[-1]
    match status:
        case 0:
            return Outcome("accepted", problems=_wrong(case, out))
        case 1 if "zoo: " in out:
            return Outcome("diverged", out.partition("zoo: ")[2].splitlines()[0])
        case 2:
            problems = [] if len(lines) == 1 else [f"{len(lines)} lines of error: {err[-500:]}"]
            problems += [f"a line of {len(message)} characters"] if len(message) > LONGEST_LINE else []
            problems += [f"left {sorted(new)[:3]}"] if (new := _files() - before) else []
            return Outcome("refused", message, problems)
        case SeveralProcesses():
            return Outcome("several processes")
        case BaseException():
            return Outcome("refused", str(status)[:200], ["".join(traceback.format_exception(status))[-1500:]])
    return Outcome("refused", message, [f"exit status {status}: {err[-500:]}"])


def _run(words: list[str]) -> tuple[int | BaseException, str, str]:
    from zoo.cli import main

    out, err = io.StringIO(), io.StringIO()
    sys.argv = ["zoo", *words]
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status: int | BaseException = main(words)
        except BaseException as error:
            status = error
    return status, out.getvalue(), err.getvalue()


def _files() -> set[str]:
    """All there is in the folder and beside it."""
    return {str(path) for path in Path("..").rglob("*")}


def _wrong(case: Case, out: str) -> list[str]:
    """Settings of a file that the run did not have."""
    records = [json.loads(path.read_text()) for path in Path("..").rglob("run.json")]
    if case.text is None or not records:
        return [] if "Traceback" not in out else [out[-500:]]
    said, record = yaml.safe_load(case.text), records[0]
    model = said["model"]
    pairs = [("model", (model if isinstance(model, str) else model["class_path"]).rpartition(".")[2], record["model"])]
    pairs += [(name, value, record["arguments"].get(name)) for name, value in _part(model, "init_args").items()]
    recipe = {name: value for name, value in _part(said, "recipe").items() if name not in ("name", *_typed(case))}
    pairs += [(name, value, record["recipe"].get(name)) for name, value in recipe.items()]
    pairs += [("seed", said.get("seed_everything", 0), record["seed"])]
    return [f"{name} was {was} and became {now}" for name, was, now in pairs if was is not None and not _same(was, now)]


def _typed(case: Case) -> list[str]:
    return [word.removeprefix("--recipe.") for word in case.words if word.startswith("--recipe.")]


def _part(settings: Any, name: str) -> dict[str, Any]:
    part = settings.get(name) if isinstance(settings, dict) else None
    return part if isinstance(part, dict) else {}


def _same(said: Any, done: Any) -> bool:
    """Equal, or one written as the other: `1e5` is text to YAML."""
    if isinstance(said, list | tuple) and isinstance(done, list | tuple):
        return len(said) == len(done) and all(map(_same, said, done))
    try:
        return bool(said == done or float(said) == float(done))
    except (TypeError, ValueError, OverflowError):
        return str(said) == str(done)


def stay_alone() -> None:
    """Keep this process from the network, from starting others of its kind, and from waiting for them."""
    import torch.distributed
    from lightning.pytorch.strategies.launchers import _MultiProcessingLauncher, _SubprocessScriptLauncher

    def stop(*_: object, **__: object) -> NoReturn:
        raise SeveralProcesses

    def refuse(*_: object, **__: object) -> NoReturn:
        raise OSError("the network is off")

    _SubprocessScriptLauncher._call_children_scripts = stop  # type: ignore[method-assign]
    _MultiProcessingLauncher.launch = stop  # type: ignore[method-assign]
    torch.distributed.init_process_group = stop
    connect = socket.socket.connect

    def connect_here(one: socket.socket, address: Any) -> None:
        if one.family != socket.AF_UNIX:
            refuse()
        connect(one, address)

    socket.socket.connect = connect_here  # type: ignore[method-assign,assignment]
    socket.getaddrinfo = refuse
    os.environ["HF_HUB_OFFLINE"] = "1"
