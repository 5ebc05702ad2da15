"""The command `zoo`. This module answers what needs no torch; the rest is imported when a verb needs it."""

import errno
import importlib
import io
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext

from zoo.benchmarks.launchers import terminable
from zoo.cli.errors import UserError, memory_error, print_error

VERBS = {
    "fit": "train a model, test it once, write a run folder",
    "validate": "evaluate a checkpoint on the validation split",
    "test": "evaluate a checkpoint on the test set",
    "predict": "classify image files with a checkpoint",
    "tune": "find a learning rate, a batch size",
    "search": "find settings by many short runs, the bad ones stopped early",
    "features": "what a trained model's last layer sees of each image, as a file",
    "probe": "other learners on such features: logistic regression, nearest neighbours",
    "export": "a trained model as safetensors, ONNX or torch.export, checked against the original",
    "push": "publish a trained model on the Hugging Face hub, with a model card",
    "benchmark": "comparison tables: published beside measured, with a verdict",
    "data": "the data sets: list, show, check, prepare",
    "list": "the models, and what is known about them",
    "info": "one model: paper, parameters, published results, deviations from the paper",
}
OWN_VERBS = ("tune", "search", "features", "probe", "export", "push")
"""Commands with a module of the same name, whose function `run` takes the words after the verb."""
HELP = {"-h", "--help"}
EXAMPLES = """\
  zoo fit --model vgg16                                    embedded digits, no download
  zoo fit --model lenet5 --data mnist --data.root DIR      add --data.download true to fetch MNIST
  zoo test --ckpt_path runs/.../checkpoints/best.ckpt
  zoo predict --ckpt_path runs/.../checkpoints/best.ckpt photo.png folder/
  zoo fit --config runs/.../config.yaml --resume           goes on where it stopped
  zoo data show --data digits                              a picture of what augmentation does"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status: 0, or 2 after a message about wrong input."""
    args = list(sys.argv[1:] if arguments is None else arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # for what the terminal has no letters for
    try:
        status = _status(args)
        if sys.stdout is not None:  # None if it was closed
            sys.stdout.flush()  # what cannot be written is known now, and not at Python's very end
    except BrokenPipeError:  # the reader of a pipe, such as `head`, has gone
        _print_no_more()
        return 0
    except OSError as error:
        if error.filename is not None or error.errno != errno.ENOSPC:
            raise
        _print_no_more()
        return print_error(UserError("what the command prints cannot be written: no space is left"))
    return status


def _status(args: list[str]) -> int:
    """Run the command; what ends it early is a message and a status."""
    try:
        return _dispatch(args)
    except UserError as error:
        return print_error(error)
    except (MemoryError, RuntimeError) as error:
        found = memory_error(error)
        if found is None or os.environ.get("ZOO_TRACEBACK") == "1":
            raise
        return print_error(found)
    except KeyboardInterrupt:
        return _interrupted(signal.SIGINT)
    except SystemExit as end:  # the parser printed what was asked for: help, a configuration
        if isinstance(end.__context__, KeyboardInterrupt):  # Lightning makes that of it
            return _interrupted(signal.SIGINT)
        status = end.code if isinstance(end.code, int) else 0
        return _interrupted(signal.SIGTERM) if status == 128 + signal.SIGTERM else status


def _interrupted(number: signal.Signals) -> int:
    print("interrupted", file=sys.stderr)
    return 128 + number


def _print_no_more() -> None:
    """Keep Python from trying once more at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _dispatch(args: list[str]) -> int:
    from zoo.cli import front

    verb = args[0] if args else "--help"
    if verb in ("-h", "--help", "help"):
        print(_help())
        return 0
    if verb == "--version":
        from zoo import __version__

        print(f"zoo {__version__}")
        return 0
    front.check_choice("command", verb, list(VERBS))
    if verb in ("list", "info"):
        from zoo.cli import listing

        return listing.run(verb, args[1:])
    if verb == "data":
        from zoo.cli import data

        return data.run(args[1:])
    if verb == "benchmark":
        from zoo.cli import benchmark

        return benchmark.run(args[1:])
    if not (HELP | {"--print_config"}) & set(args):
        from zoo.cli.early import check_network

        check_network(args[1:], are_options=verb not in OWN_VERBS or verb in ("tune", "search"))
    if verb in OWN_VERBS:
        if not HELP & set(args):  # what costs three seconds of imports
            _prepare()
        with _leave_at_once():
            run = importlib.import_module(f"zoo.cli.{verb}").run
        with terminable() if verb == "tune" else nullcontext():
            return int(run(args[1:]))
    arguments = front.prepare(verb, args[1:])
    return _run(verb, arguments)


def _run(verb: str, arguments: list[str]) -> int:
    """The verbs that need torch: three seconds of imports, only when there is something to run."""
    _prepare()
    if verb == "fit":
        with _leave_at_once():
            from zoo.cli.training import fit

        return fit(arguments)
    with _leave_at_once():
        from zoo.cli import evaluation, prediction

    with terminable():  # Lightning would note SIGTERM, and go on or end with status 0
        return prediction.predict(arguments) if verb == "predict" else evaluation.evaluate(verb, arguments)


def _prepare() -> None:
    """What comes before the libraries: their harmless warnings are silenced, and memory is kept for the next step."""
    from zoo.allocator import keep_freed_memory
    from zoo.cli.quiet import quiet

    quiet()
    keep_freed_memory()


@contextmanager
def _leave_at_once() -> Iterator[None]:
    """Let Ctrl-C end the process while libraries are imported: some take its exception for a fault and go on."""

    def leave(*_: object) -> None:
        os.write(2, b"interrupted\n")
        os._exit(130)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _help() -> str:
    verbs = "\n".join(f"  {verb:<10}{what}" for verb, what in VERBS.items())
    return (
        "zoo: textbook image classifiers, trained, tested and compared\n\n"
        f"usage: zoo COMMAND [options]\n\n{verbs}\n\n{EXAMPLES}\n\n"
        "zoo COMMAND --help explains the options of a command."
    )
