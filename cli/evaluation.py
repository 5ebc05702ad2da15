"""`zoo test` and `zoo validate`: model, preprocessing and class names come from the checkpoint."""

from typing import Any

from zoo.checkpoint import load_weights
from zoo.cli import front
from zoo.cli.app import ZooCLI
from zoo.cli.early import FALSE
from zoo.cli.errors import UserError, user_errors
from zoo.cli.progress_bar import read_data
from zoo.cli.report import accuracy, evaluated
from zoo.cli.trained import as_text, check_classes, data_words, load_trained, typed_preprocessing

WITHOUT_EFFECT = {"init", "dropout"}
"""Arguments of a model that matter in training alone."""


def evaluate(verb: str, arguments: list[str]) -> int:
    """Evaluate a checkpoint on its data's test set or validation split, or on other data that is named."""
    if {"-h", "--help"} & set(arguments):
        ZooCLI(verb, ["--help"])
    path = front.option(arguments, "--ckpt_path")
    source = front.option(arguments, "--pretrained")
    if path is not None and source is not None:
        raise UserError(f"ckpt_path is {path} and pretrained is {source}: say one of them")
    if path is None and (source or "false").lower() in FALSE:
        raise UserError(f"{verb} needs a checkpoint: --ckpt_path runs/.../checkpoints/best.ckpt")
    front.check_idle(verb, arguments, is_rebuilt=path is not None)
    cli = ZooCLI(verb, arguments) if path is None else _rebuild(verb, arguments, path)
    with user_errors(ValueError, OSError):
        read_data(cli.datamodule, verb)
        split = "test" if verb == "test" else "val"
        if split not in cli.datamodule.splits:
            other = "validate" if verb == "test" else "test"
            raise UserError(f"{cli.datamodule.root or cli.datamodule.spec.name} has no {split} images: zoo {other}?")
    cli.model.preprocessing = cli.datamodule.preprocessing()
    run = cli.trainer.test if verb == "test" else cli.trainer.validate
    with user_errors(ValueError, OSError):  # a file may have gone since
        results = run(cli.model, datamodule=cli.datamodule, verbose=False)
    if not results:
        raise UserError(f"nothing to {verb}: the trainer is limited to no batches")
    metrics = results[0]
    if cli.trainer.is_global_zero:
        share, count = metrics[f"{split}/acc"], evaluated(cli, split)
        images = f"{count:,} {split} images" if count else f"some {split} images"
        print(f"{cli.model_name} on {cli.datamodule.spec.name}, {images}")
        print(f"{split}/acc  {share!r}   {accuracy(share, count)}")
        print(f"{split}/loss {metrics[f'{split}/loss']!r}")
    return 0


def _rebuild(verb: str, arguments: list[str], path: str) -> ZooCLI:
    """The command line of a trained model and of its data, or of others that are named."""
    trained = load_trained(path)
    facts = trained.description()
    cli = ZooCLI(verb, [*_from_checkpoint(facts, arguments, path), *arguments])
    _check_network(cli.model.description(), facts, path)
    with user_errors(ValueError, OSError):
        load_weights(cli.model, {"state_dict": trained.state_dict()}, path)
        cli.model.recipe = trained.recipe  # the loss is one of its fields
        if trained.preprocessing:
            size, typed = trained.preprocessing["image_size"], front.option(arguments, "--data.image_size")
            if typed is not None and typed != str(size):
                raise UserError(f"data.image_size is {typed}, but '{path}' was trained on images of {size}")
            cli.datamodule.use_preprocessing(trained.preprocessing, keep=typed_preprocessing(arguments))
        check_classes(cli.datamodule, trained.class_names, path)
    return cli


def _from_checkpoint(facts: dict[str, Any], arguments: list[str], path: str) -> list[str]:
    """The options that rebuild the checkpoint's model and data; the user's own come after them and win."""
    asked = front.option(arguments, "--model")
    if asked is not None and asked.rpartition(".")[2] != facts["name"]:
        raise UserError(f"'{path}' holds {facts['name']}, not {asked.rpartition('.')[2]}: leave --model out")
    words = [f"--model=zoo.names.{facts['name']}"]
    words += [f"--model.{key}={as_text(value)}" for key, value in facts["args"].items()]
    return [*words, *data_words(facts["data"], arguments)]


def _check_network(asked: dict[str, Any], facts: dict[str, Any], path: str) -> None:
    """Weights fit into many networks, of which one has learnt them: a configuration must not name another."""
    if asked["name"] != facts["name"]:
        raise UserError(f"'{path}' holds {facts['name']}, not {asked['name']}: leave the model out")
    for name in facts["args"].keys() - front.FOLLOWS_DATA - WITHOUT_EFFECT:
        held, other = facts["args"][name], asked["args"].get(name)
        if held != other:
            raise UserError(f"model.{name} is {other}, but '{path}' was trained with {held}: leave it out")
