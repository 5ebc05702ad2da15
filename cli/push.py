"""`zoo push`: a trained model as a repository on the Hugging Face hub, or as the folder that would be one."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from shutil import copyfile
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from zoo.cli.errors import UserError, user_errors
from zoo.cli.listing import Parser
from zoo.cli.whole import check_folder, filled
from zoo.hub import check_login, check_repository, publish

if TYPE_CHECKING:
    from zoo.classifier import ImageClassifier

TESTED = "best.ckpt"
"""What the results of a run belong to; without it, they belong to the last epoch."""


def run(words: Sequence[str]) -> int:
    """Build the folder, and publish it unless it is all that was asked for; the exit status.

    Raises:
        UserError: The name is malformed, nobody is logged in, the hub cannot be reached, or there is no such model.
    """
    options = _parser().parse_args([*words])
    with user_errors(ValueError, OSError):
        check_repository(options.repository)
        if options.output is not None:
            _check_output(options.output)
            for name, value in (("private", options.private), ("message", options.message)):
                if value:
                    raise UserError(f"--{name} is for what is published, and --output publishes nothing: choose")
        else:
            check_login(options.repository)
    from zoo.cli.trained import load_trained  # three seconds of imports

    model = load_trained(options.checkpoint)
    with user_errors(ValueError, OSError):
        if options.output is not None:
            _write_output(model, options)
        else:
            _upload(model, options)
    return 0


def _parser() -> Parser:
    text = "Publish a trained model on the Hugging Face hub: weights, configuration, model card, curves."
    parser = Parser(prog="zoo push", allow_abbrev=False, description=text)
    parser.add_argument("checkpoint", metavar="CKPT", help="a checkpoint, an exported .safetensors, or MODEL.WEIGHTS")
    parser.add_argument("repository", metavar="USER/NAME", help="the repository, which is made if need be")
    parser.add_argument("--output", type=Path, metavar="DIR", help="write the files there and publish nothing")
    parser.add_argument("--private", action="store_true", help="a repository that only you can see")
    parser.add_argument("--message", metavar="TEXT", help="what the change is called in the repository's history")
    return parser


def _check_output(folder: Path) -> None:
    check_folder(folder)
    if folder.is_dir() and any(folder.iterdir()):
        raise UserError(f"'{folder}' is not empty: name another folder")


def _write_output(model: "ImageClassifier", options: argparse.Namespace) -> None:
    """The files appear when all of them are complete."""
    with filled(options.output) as place:
        build_folder(model, options.checkpoint, options.repository, place)
        names = sorted(path.name for path in place.iterdir())
    print(f"folder: {options.output} ({', '.join(names)})")


def _upload(model: "ImageClassifier", options: argparse.Namespace) -> None:
    from huggingface_hub import constants
    from huggingface_hub.utils.tqdm import disable_progress_bars

    if not sys.stderr.isatty() and constants.HF_HUB_DISABLE_PROGRESS_BARS is None:
        disable_progress_bars()  # a log has no use for them
    message = options.message or f"{type(model).__name__}: weights, configuration and model card"
    with TemporaryDirectory() as scratch:
        folder = Path(scratch, "model")
        build_folder(model, options.checkpoint, options.repository, folder)
        address = publish(folder, options.repository, message=message, private=options.private)
    print(f"published: {address}")
    print(f"next:  zoo predict --ckpt_path hf-hub:{options.repository} IMAGE...")


def build_folder(model: "ImageClassifier", where: str, repository: str, folder: Path) -> None:
    """Write what a repository holds: model.safetensors, config.json, README.md and, after a run, curves.png.

    Args:
        model: What `zoo.load` returned.
        where: What it was loaded from; if that lies in a run folder, the card tells the run's results.
        repository: Where it will be published, user/name.
        folder: Empty, or made if need be.
    """
    from zoo.model_card import model_card, publishable
    from zoo.weight_files import write_weights

    run_folder, record = run_of(Path(where), type(model).__name__)
    curves = None if run_folder is None else run_folder / "curves.png"
    has_curves = curves is not None and curves.is_file()
    description = publishable(model.description())
    parameters = sum(parameter.numel() for parameter in model.parameters())
    folder.mkdir(parents=True, exist_ok=True)
    write_weights(folder / "model.safetensors", model.state_dict(), description)
    card = model_card(description, {"parameters": parameters, **record}, repository, has_curves=has_curves)
    (folder / "README.md").write_text(card, encoding="utf-8")
    (folder / "config.json").write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")
    if curves is not None and has_curves:
        copyfile(curves, folder / curves.name)


def run_of(checkpoint: Path, model: str) -> tuple[Path | None, dict[str, Any]]:
    """The folder of the run that a checkpoint is from, and what run.json says that holds for this checkpoint.

    Args:
        checkpoint: A path such as runs/.../checkpoints/best.ckpt; other models are from no run.
        model: Name of the model in it.

    Raises:
        ValueError: run.json is damaged.
    """
    folder = checkpoint.absolute().parent.parent
    path = folder / "run.json"
    if checkpoint.absolute().parent.name != "checkpoints" or not checkpoint.is_file() or not path.is_file():
        return None, {}
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        is_same = record["model"] == model
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ValueError(f"'{path}' is damaged: repair it, or move the checkpoint out of its run folder") from None
    if not is_same:
        return None, {}
    is_tested = checkpoint.name == TESTED or not checkpoint.with_name(TESTED).exists()
    limited = _limited(folder / "config.yaml")
    if not is_tested or record.get("status") != "finished" or "test" in limited:
        record.pop("metrics", None)
    if not is_tested or record.get("status") != "finished" or "val" in limited:
        record.pop("best_val_acc", None)
    return folder, record


def _limited(config: Path) -> set[str]:
    """The splits of which the run used only a part, so that what it measured is not of all their images."""
    import yaml

    try:
        settings = yaml.safe_load(config.read_text(encoding="utf-8")) if config.is_file() else None
    except yaml.YAMLError as error:
        raise ValueError(f"'{config}' is damaged: {error}") from None
    trainer = (settings or {}).get("trainer") or {}
    return {split for split in ("val", "test") if trainer.get(f"limit_{split}_batches") not in (None, 1.0)}
