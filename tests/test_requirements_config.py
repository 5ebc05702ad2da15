"""Configuration: no option is ever silently ignored or overridden, and none runs code from anywhere."""

import inspect
import json
import os
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
import yaml

import zoo
from tests.conftest import Zoo
from zoo.cli.effects import MAXOUT_PIECES
from zoo.cli.errors import UserError
from zoo.cli.parser import Parser, restrict_imports
from zoo.cli.training import FitCLI
from zoo.datamodules import create_datamodule
from zoo.datamodules.registry import DATASETS
from zoo.mlp import MLP
from zoo.registry import MODELS

MLP_RUN = ("fit", "--model", "mlp")
DRY = ("--trainer.fast_dev_run", "true")
CALLBACKS = "lightning.pytorch.callbacks"


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def resolved(zoo_main: Zoo, *words: object) -> dict[str, Any]:
    """The settings that a command would run with."""
    outcome = zoo_main("fit", *words, "--print_config")
    assert outcome.status == 0, outcome.err
    content = yaml.safe_load(outcome.out)
    assert isinstance(content, dict)
    return content


def assert_refused(zoo_main: Zoo, tmp_path: Path, message: str, *words: object) -> None:
    """Status 2, one line that says so, and nothing written."""
    before = set(tmp_path.rglob("*"))
    outcome = zoo_main(*words)
    assert outcome.status == 2, outcome.out
    assert message in outcome.err
    assert outcome.err.count("\n") == 1, outcome.err
    assert set(tmp_path.rglob("*")) == before


# REQ-C1: names


@pytest.mark.parametrize("name", MODELS)
def test_every_models_name_is_known_to_the_command_and_in_files(name: str, zoo_main: Zoo, tmp_path: Path) -> None:
    """REQ-C1: `--model NAME` and `model: NAME` choose the same class, for every registered name."""
    short, long = write(tmp_path / "a.yaml", f"model: {name}"), tmp_path / "b.yaml"
    write(long, f"model: {{class_path: {name}}}")
    ways = [("--model", name), ("--config", short), ("--config", long)]
    chosen = [resolved(zoo_main, *words)["model"] for words in ways]
    assert chosen[0] == chosen[1] == chosen[2]
    assert chosen[0]["class_path"].rpartition(".")[2] == name
    assert chosen[0]["init_args"].items() >= zoo.model_info(name).defaults.items()


@pytest.mark.parametrize("name", DATASETS)
def test_every_data_sets_name_is_known_to_the_command_and_in_files(name: str, zoo_main: Zoo, tmp_path: Path) -> None:
    """REQ-C1: `--data NAME` and `data: NAME` choose the same class, for every registered name."""
    file = write(tmp_path / "a.yaml", f"model: mlp\ndata: {name}")
    typed, filed = resolved(zoo_main, "--model", "mlp", "--data", name)["data"], resolved(zoo_main, "--config", file)
    assert typed == filed["data"]
    assert typed["class_path"].rpartition(".")[2] == name


# REQ-C2: order and shadowing


def test_order_of_the_command_line_does_not_matter(zoo_main: Zoo, tmp_path: Path) -> None:
    """REQ-C2: arguments before the class, and a file after the model: what is typed wins over the file."""
    file = write(tmp_path / "lenet.yaml", "model: {class_path: lenet5, init_args: {norm: group}}\nrecipe: {lr: 0.5}")
    typed = ("--model", "vgg11", "--model.dropout", 0.25, "--recipe.lr", 0.125)
    one = resolved(zoo_main, "--config", file, *typed)
    other = resolved(zoo_main, *typed[2:], *typed[:2], "--config", file)
    assert one == other
    assert one["model"]["class_path"] == "zoo.names.vgg11"
    assert one["model"]["init_args"]["dropout"] == one["recipe"]["lr"] * 2 == 0.25
    assert one["model"]["init_args"]["norm"] == "group", "what only the file says counts too"


@pytest.mark.parametrize("name", [*MODELS, *DATASETS])
def test_a_file_in_the_folder_does_not_stand_in_for_a_name(name: str, zoo_main: Zoo, tmp_path: Path) -> None:
    """REQ-C2: a file called like a model or a data set is no trouble, neither to the command nor to a file."""
    option, usual = ("model", ()) if name in MODELS else ("data", ("--model", "mlp"))
    config = write(tmp_path / "a.yaml", f"{option}: {name}" if option == "model" else f"model: mlp\ndata: {name}")
    before = resolved(zoo_main, *usual, f"--{option}", name)[option]
    for path in (name, before["class_path"]):
        write(tmp_path / path, "class_path: zoo.names.lenet5")
    assert resolved(zoo_main, *usual, f"--{option}", name)[option] == before
    assert resolved(zoo_main, "--config", config)[option] == before


def test_no_value_is_read_from_a_file_called_like_it(zoo_main: Zoo, tmp_path: Path) -> None:
    """REQ-C2: strategy auto and a callback's class are what they say, whatever files there are."""
    for path in ("auto", "batch", f"{CALLBACKS}.DeviceStatsMonitor"):
        write(tmp_path / path, "junk")
    words = ("--model", "mlp", "--model.norm", "batch", "--trainer.strategy", "auto")
    settings = resolved(zoo_main, *words, "--trainer.callbacks", f"{CALLBACKS}.DeviceStatsMonitor")
    assert settings["trainer"]["strategy"] == "auto"
    assert settings["trainer"]["callbacks"]["class_path"] == f"{CALLBACKS}.DeviceStatsMonitor"


@pytest.mark.parametrize("option", ["--trainer.max_epoch", "--model.drop", "--recipe.weight", "--data.val", "--seed"])
def test_abbreviations_are_refused(option: str, zoo_main: Zoo, tmp_path: Path) -> None:
    """REQ-C2: an option has one name."""
    assert_refused(zoo_main, tmp_path, f"option {option}", *MLP_RUN, option, 1)


def test_the_first_lines_say_what_is_trained(zoo_main: Zoo) -> None:
    """REQ-C2: model, data, optimiser, rate, batch and seed as resolved."""
    outcome = zoo_main(*MLP_RUN, *DRY, "--data", "fake", "--recipe.lr", 0.25, "--seed_everything", 4)
    assert outcome.out.startswith("mlp: ")
    assert "\nfake: " in outcome.out
    assert "adamw, rate 0.25 (cosine), batch 64, at most 1 step, seed 4" in outcome.out


# REQ-C3: silently ignored options

REFUSED: dict[str, tuple[tuple[object, ...], str]] = {
    "Lightning's optimiser": (("--optimizer", "AdamW"), "Did you mean --recipe.optimizer?"),
    "Lightning's schedule": (("--lr_scheduler", "StepLR"), "Did you mean --recipe.schedule?"),
    "a rate of the model": (("--model.lr", 0.5), "unknown option --model.lr"),
    "classes of other data": (("--model.num_classes", 5), "model.num_classes is 5, but 'digits' has 10 classes"),
    "a seed that is none": (("--seed_everything", "true"), "--seed_everything is 'True': it must be a whole number"),
    "no seed": (("--seed_everything", "false"), "--seed_everything is 'False': it must be a whole number"),
    "null for a seed": (("--seed_everything", "null"), "--seed_everything is 'None': it must be a whole number"),
    "a seed out of range": (("--seed_everything", -1), "seed_everything is -1: it must be a whole number from 0 to "),
    "other nodes of nowhere": (("--trainer.num_nodes", 2), "trainer.num_nodes is 2, and nothing says where the other"),
    "no time": (("--trainer.max_time", "00:00:00:00"), "trainer.max_time is 00:00:00:00: there is no time to train"),
    "times that nothing takes": (
        ("--profile", "--trainer.barebones", "true"),
        "profile is true, and trainer.barebones",
    ),
    "logs that nothing writes": (
        ("--trainer.logger", "true", "--trainer.barebones", "true"),
        "trainer.logger is true, and trainer.barebones is true, which measures nothing: choose",
    ),
    "folds and no fold": (("--data.kfold", 5), "kfold is 5: give fold too, 0 to 4"),
    "one option twice": (("--recipe.lr", 0.1, "--recipe.lr=0.2"), "--recipe.lr is given twice, as 0.1 and 0.2"),
    "one option twice, short": (("--recipe", "default", "--recipe.name=x"), "--recipe.name is given twice"),
    "two models": (("--model", "lenet5"), "--model is given twice, as mlp and lenet5"),
    "two models, in two ways": (("--model.class_path", "lenet5"), "--model is given twice, as mlp and lenet5"),
    "one argument, in two ways": (
        ("--model.norm", "batch", "--model.init_args.norm=layer"),
        "--model.norm is given twice, as batch and layer",
    ),
    "an argument that is nobody's": (("--model.dict_kwargs.width", 3), "unknown option --model.width"),
    "an empty value": (("--run_dir=",), "option --run_dir needs a value"),
    "a file of the trainer's": (("--trainer", "a.yaml"), "--trainer takes no file"),
    "two batch sizes": (("--data.batch_size", 16, "--recipe.batch_size", 8), "say one of them"),
    "two lengths": (("--trainer.max_epochs", 1, "--recipe.epochs", 2), "say one of them"),
    "a length and no end": (
        ("--trainer.max_epochs", -1, "--recipe.epochs", 2, "--recipe.schedule", "constant"),
        "recipe.epochs is 2 and trainer.max_epochs is -1: say one of them",
    ),
    "two clips": (("--trainer.gradient_clip_val", 1, "--recipe.gradient_clip", 2), "say one of them"),
    "a clip below zero": (("--trainer.gradient_clip_val", -1), "recipe.gradient_clip is -1"),
    "how to clip, and no clip": (
        ("--trainer.gradient_clip_algorithm", "value"),
        "trainer.gradient_clip_algorithm is value: nothing is clipped",
    ),
    "more epochs than the run has": (
        ("--recipe.epochs", 2, "--trainer.min_epochs", 3),
        "trainer.min_epochs is 3: the run has 2 epochs",
    ),
    "more steps than the run has": (
        ("--recipe.epochs", 2, "--trainer.min_steps", 41),
        "trainer.min_steps is 41: the run ends after 40 steps",
    ),
    "more steps than the most": (
        ("--trainer.max_steps", 5, "--trainer.min_steps", 6),
        "trainer.min_steps is 6: the run ends after 5 steps",
    ),
    "no steps": (("--trainer.max_steps", 0), "trainer.max_steps is 0: there is nothing to train"),
    "a warm-up longer than the run": (
        ("--recipe.epochs", 2, "--recipe.warmup_epochs", 3),
        "recipe.warmup_epochs is 3.0: the run has 2 epochs",
    ),
    "milestones without steps": (
        ("--recipe.milestones", "[0.3]"),
        "recipe.milestones is [0.3]: the cosine schedule has none",
    ),
    "momentum where there is none": (
        ("--recipe.optimizer", "adadelta", "--recipe.momentum", 0.5),
        "recipe.momentum is 0.5: adadelta has none",
    ),
    "nesterov without momentum": (
        ("--recipe.optimizer", "nesterov", "--recipe.momentum", 0),
        "recipe.momentum is 0.0: it must be above 0 with nesterov",
    ),
    "decay of all, by nothing": (
        ("--recipe.decay_all", "true", "--recipe.weight_decay", 0),
        "recipe.decay_all is True: nothing decays",
    ),
    "frozen statistics, and nothing frozen": (
        ("--finetune.freeze_bn", "false"),
        "finetune.freeze_bn is false: the method none freezes nothing",
    ),
    "images for fitting only": (("--trainer.overfit_batches", 2), "--data.train_size N"),
    "a sampler of Lightning's": (("--trainer.use_distributed_sampler", "true"), "count every image once"),
    "a registry of checkpoints": (("--trainer.model_registry", "x"), "checkpoints are files"),
    "limits of what is not done": (("--trainer.limit_predict_batches", 2), "zoo fit has no such batches"),
    "limits of a test that is left out": (
        ("--no-test", "--trainer.limit_test_batches", 2),
        "trainer.limit_test_batches is 2, and no_test is true: choose",
    ),
    "a limit that leaves nothing": (("--trainer.limit_val_batches", 0.1), "of 3 batches, that is none"),
    "validation after the epoch's end": (
        ("--trainer.val_check_interval", 21),
        "trainer.val_check_interval is 21: an epoch has 20 batches",
    ),
    "never validated": (("--trainer.check_val_every_n_epoch", 0), "it must be at least 1"),
    "always validated": (("--trainer.val_check_interval", 0), "it must be greater than 0"),
    "no batches in a step": (("--trainer.accumulate_grad_batches", 0), "it must be at least 1"),
    "logging that nobody does": (("--trainer.log_every_n_steps", 1), "metrics are logged once an epoch"),
    "a search for the rate": (("--trainer.callbacks", f"{CALLBACKS}.LearningRateFinder"), "set --recipe.lr"),
    "a search for the batch": (("--trainer.callbacks", f"{CALLBACKS}.BatchSizeFinder"), "set --recipe.batch_size"),
    "a schedule of a callback's": (
        ("--trainer.callbacks", f"{CALLBACKS}.StochasticWeightAveraging", "--trainer.callbacks.swa_lrs", 0.1),
        "set --recipe.swa",
    ),
    "frozen layers of a callback's": (
        ("--trainer.callbacks", f"{CALLBACKS}.BackboneFinetuning"),
        "use --finetune gradual",
    ),
    "steps that a callback puts together": (
        ("--trainer.callbacks", f"{CALLBACKS}.GradientAccumulationScheduler", "--trainer.callbacks.scheduling", "{}"),
        "use --trainer.accumulate_grad_batches",
    ),
    "an average of a callback's": (("--trainer.callbacks", f"{CALLBACKS}.EMAWeightAveraging"), "set --recipe.ema"),
    "another average of a callback's": (("--trainer.callbacks", f"{CALLBACKS}.WeightAveraging"), "set --recipe.ema or"),
    "a monitor of what is not validated": (
        (
            *("--trainer.callbacks", f"{CALLBACKS}.EarlyStopping", "--trainer.callbacks.monitor", "val/acc"),
            *("--trainer.limit_val_batches", 0),
        ),
        "the monitor of EarlyStopping is 'val/acc', but trainer.limit_val_batches is 0: choose",
    ),
    "a patience below zero": (
        (
            *("--trainer.callbacks", f"{CALLBACKS}.EarlyStopping", "--trainer.callbacks.monitor", "val/acc"),
            *("--trainer.callbacks.patience", -3),
        ),
        "the patience of EarlyStopping is -3: it must be at least 0",
    ),
    "an option of no callback": (
        ("--trainer.callbacks.monitor", "val/acc"),
        "there is no callback for the options --trainer.callbacks.NAME",
    ),
    "how often to validate nothing": (
        ("--trainer.limit_val_batches", 0, "--trainer.check_val_every_n_epoch", 2),
        "trainer.check_val_every_n_epoch is 2, and trainer.limit_val_batches is 0: choose",
    ),
    "validation after the run's end": (
        ("--recipe.epochs", 2, "--trainer.check_val_every_n_epoch", 5),
        "trainer.check_val_every_n_epoch is 5: the run has 2 epochs",
    ),
    "the length of a dry run": (
        ("--trainer.fast_dev_run", 1, "--trainer.max_steps", 7),
        "trainer.max_steps is 7, and trainer.fast_dev_run is 1: choose",
    ),
    "a limit of a dry run": (
        ("--trainer.fast_dev_run", 1, "--trainer.limit_train_batches", 2),
        "trainer.limit_train_batches is 2, and trainer.fast_dev_run is 1: choose",
    ),
    "checkpoints of a dry run": (("--checkpoint_every", 5, *DRY), "checkpoint_every is 5, and trainer.fast_dev_run is"),
    "checkpoints of a bare run": (
        ("--checkpoint_every", 5, "--trainer.barebones", "true"),
        "checkpoint_every is 5, and trainer.barebones is true, with which nothing is kept: choose",
    ),
    "weights and a checkpoint": (
        ("--pretrained", "mnist", "--ckpt_path", "a.ckpt"),
        "ckpt_path is a.ckpt and pretrained is mnist: say one of them",
    ),
    "first values and weights": (
        ("--pretrained", "mnist", "--model.init", "orthogonal"),
        "model.init is orthogonal, but all weights come from mlp.mnist: leave one of them out",
    ),
    "a checkpoint that would be taken up": (
        ("--trainer.callbacks", f"{CALLBACKS}.OnExceptionCheckpoint", "--trainer.callbacks.dirpath", "x"),
        "last.ckpt is written without it",
    ),
    "a metric that there is not": (
        ("--trainer.callbacks", f"{CALLBACKS}.EarlyStopping", "--trainer.callbacks.monitor", "val/ac"),
        "the monitor of EarlyStopping is 'val/ac'. Did you mean 'val/acc'?",
    ),
    "checkpoints that are switched off": (
        ("--checkpoint_every", 5, "--trainer.enable_checkpointing", "false"),
        "checkpoint_every is 5, and trainer.enable_checkpointing is false, with which nothing is kept: choose",
    ),
    "two places": (
        ("--run_dir", "a", "--trainer.default_root_dir", "b"),
        "run_dir is a and trainer.default_root_dir is b: say one of them",
    ),
    "norm without hidden layers": (("--model.hidden", "[]", "--model.norm", "batch"), "model.norm is batch: it is for"),
    "dropout without hidden layers": (("--model.hidden", "[]", "--model.dropout", 0.5), "model.dropout is 0.5: it is"),
    "activation without hidden layers": (
        ("--model.hidden", "[]", "--model.activation", "tanh"),
        "model.activation is tanh: it is for hidden layers",
    ),
    "pieces without maxout": (("--model.maxout_pieces", 3), "model.maxout_pieces is 3: the activation relu has none"),
    "more processes than a machine holds": (("--data.num_workers", 100_000), "data.num_workers is 100000"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_would_have_no_effect_is_refused(case: str, zoo_main: Zoo, tmp_path: Path) -> None:
    """REQ-C3: an option that would be ignored or overridden ends the command with one line."""
    words, message = REFUSED[case]
    assert_refused(zoo_main, tmp_path, message, *MLP_RUN, *words)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("recipe: {lr: 0.1, lr: 0.2}", "'a.yaml' says recipe.lr twice, in lines 2 and 2"),
        ("recipe: {lr: 0.1}\nrecipe: {momentum: 0.2}", "'a.yaml' says recipe twice, in lines 2 and 3"),
        ("recipe: {lr: 0.1}\nrecipe.lr: 0.2", "'a.yaml' says recipe.lr twice, in lines 2 and 3"),
        ("data: {class_path: fake, init_args: {seed: 1, seed: 2}}", "says data.seed twice"),
        ("trainer: {callbacks: [{class_path: x, class_path: y}]}", "says trainer.callbacks[0].class_path twice"),
        ("config: other.yaml", "'a.yaml' names another file as config"),
        ("recipe: paper", "recipe is paper: it must be settings, such as {name: paper}"),
        ("trainer: 3", "trainer is 3: it must be settings"),
        ("data: 3", "data is 3: it must be a name"),
        ("seed_everything: true", "seed_everything is 'True': it must be a whole number"),
        ("run_dir: ''", "run_dir is empty"),
        ("data: {class_path: digits, dict_kwargs: {augment: strong}}", "data.dict_kwargs is {'augment': 'strong'}"),
        ("data: {class_path: digits, augment: none}", "data.augment is none: arguments go into data.init_args"),
        ("data: {class_path: digits, init_args: null}", "data.init_args is null: it must be settings"),
        ("recipe: {<<: {lr: 0.1}, <<: {lr: 0.2}}", "'a.yaml' merges twice into one place (<<), in lines 2 and 2"),
        ("recipe: {schedule: linear, milestones: [0.3]}", "the linear schedule has none"),
        ("recipe: {epochs: 3}\ntrainer: {max_epochs: 4}", "say one of them"),
        ("trainer: {overfit_batches: 3}", "trainer.overfit_batches is 3"),
    ],
)
def test_what_a_file_says_in_vain_is_refused(text: str, message: str, zoo_main: Zoo, tmp_path: Path) -> None:
    """REQ-C3: YAML keeps the last of two equal keys; here they are an error, as is all else without effect."""
    write(tmp_path / "a.yaml", f"model: mlp\n{text}\n")
    assert_refused(zoo_main, tmp_path, message, "fit", "--config", "a.yaml")


EVALUATED: dict[str, tuple[tuple[object, ...], str]] = {
    **{
        f"{verb} with {option}": (
            (verb, f"--{option}", value),
            f"{option} is {value}: it changes nothing in zoo {verb}",
        )
        for verb in ("test", "validate", "features")
        for option, value in {"data.augment": "none", "data.sampler": "balanced", "data.drop_last": "true"}.items()
    },
    **{
        f"test with {option}": (("test", f"--{option}", value), f"{option} is {value}: it changes nothing in zoo test")
        for option, value in {
            **{"model.init": "orthogonal", "model.dropout": 0.5, "seed_everything": 3, "data.seed": 3},
            **{"data.train_size": 50, "data.train_fraction": 0.5, "data.kfold": 5, "data.val_size": 0.2},
        }.items()
    },
    "validate with fewer training images": (("validate", "--data.train_size", 50), "data.train_size is 50"),
    "a callback of training": (
        ("test", "--trainer.callbacks", f"{CALLBACKS}.EarlyStopping", "--trainer.callbacks.monitor", "val/acc"),
        "the callback EarlyStopping is for training, and zoo test does not train",
    ),
    "a callback that ends training": (
        ("predict", "--trainer.callbacks", f"{CALLBACKS}.Timer", "black.png"),
        "the callback Timer is for training, and zoo predict does not train",
    ),
    "two limits": (
        ("test", "--trainer.fast_dev_run", "true", "--trainer.limit_test_batches", 3),
        "trainer.limit_test_batches is 3, and trainer.fast_dev_run is True: choose",
    ),
    "two limits of predictions": (
        ("predict", "--trainer.fast_dev_run", "true", "--trainer.limit_predict_batches", 3, "black.png"),
        "trainer.limit_predict_batches is 3, and trainer.fast_dev_run is True: choose",
    ),
    "a table that is none": (("test", "--trainer.enable_model_summary", "true"), "zoo test does not train"),
    "a seed of no split": (("validate", "--seed_everything", 3), "seed_everything is 3: it changes nothing"),
    "another network": (("test", "--model.activation", "tanh"), "model.activation is tanh, but "),
    "a place for nothing": (("test", "--trainer.default_root_dir", "x"), "zoo test writes nothing there"),
    "no result": (("validate", "--trainer.barebones", "true"), "zoo validate would have no result to show"),
}


@pytest.mark.parametrize("case", EVALUATED)
def test_what_would_have_no_effect_on_a_trained_model_is_refused(case: str, zoo_main: Zoo, tmp_path: Path) -> None:
    """REQ-C3: what matters in training alone is no option of commands that do not train."""
    (verb, *words), message = EVALUATED[case]
    path = write_checkpoint(tmp_path / "model.ckpt")
    assert_refused(zoo_main, tmp_path, message, verb, "--ckpt_path", path, *words)


def write_checkpoint(path: Path) -> Path:
    """An untrained model that knows its data."""
    model, data = zoo.create_model("mlp", image_size=8), create_datamodule("digits")
    model.data = data.describe()
    model.preprocessing, model.class_names = model.data["preprocessing"], model.data["class_names"]
    torch.save({"state_dict": model.state_dict(), "zoo": model.description()}, path)
    return path


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model: perceptron", "holds mlp, not perceptron: leave the model out"),
        ("model: {class_path: mlp, init_args: {activation: tanh}}", "model.activation is tanh, but "),
        ("model: {class_path: mlp, init_args: {activation: relu}}", ""),
    ],
)
def test_a_file_names_no_other_network_than_the_checkpoint(
    text: str, message: str, zoo_main: Zoo, tmp_path: Path
) -> None:
    """REQ-C4: weights fit into many networks."""
    path, file = write_checkpoint(tmp_path / "model.ckpt"), write(tmp_path / "a.yaml", text)
    outcome = zoo_main("test", "--ckpt_path", path, "--config", file)
    assert (outcome.status, message in outcome.err) == (2 if message else 0, True), outcome.err
    assert outcome.err.count("\n") <= 1


def test_what_a_short_run_never_does_is_said(zoo_main: Zoo) -> None:
    """REQ-C3: a longer run would, so that it is no error."""
    words = ("--recipe.early_stopping", 5, "--trainer.max_steps", 3, "--checkpoint_every", 9)
    outcome = zoo_main(*MLP_RUN, *words, "--trainer.sync_batchnorm", "true")
    assert outcome.status == 0, outcome.err
    for note in (
        "trainer.sync_batchnorm changes nothing on one device",
        "checkpoint_every is 9: the run ends after 3 steps",
        "recipe.early_stopping is 5: the run is validated 0 times",
    ):
        assert f"note: {note}\n" in outcome.out
    words = ("--recipe.early_stopping", 1, "--recipe.epochs", 2, "--checkpoint_every", 9)
    assert "note: recipe" not in zoo_main(*MLP_RUN, *words).out


@pytest.mark.parametrize(("verb", "split"), [("test", "test"), ("validate", "val")])
@pytest.mark.parametrize("limit", ["limit", "fast_dev_run"])
def test_of_one_batch_no_number_of_images_is_claimed(
    verb: str, split: str, limit: str, zoo_main: Zoo, tmp_path: Path
) -> None:
    """REQ-C3: 1 is one batch, and 1.0 all of them."""
    name = f"limit_{split}_batches" if limit == "limit" else limit
    done = zoo_main(verb, "--ckpt_path", write_checkpoint(tmp_path / "model.ckpt"), f"--trainer.{name}", 1)
    assert done.status == 0, done.err
    assert f"mlp on digits, some {split} images\n" in done.out
    assert "(of the batches asked for)" in done.out


@pytest.mark.parametrize("words", [("--private",), ("--message", "first")])
def test_what_is_for_publishing_is_refused_with_a_folder(words: tuple[str, ...], zoo_main: Zoo, tmp_path: Path) -> None:
    """REQ-C3: a folder has no privacy and no history."""
    message = f"{words[0]} is for what is published, and --output publishes nothing: choose"
    assert_refused(zoo_main, tmp_path, message, "push", "lenet5.mnist", "me/it", "--output", "folder", *words)


def test_a_configuration_that_is_no_file_is_not_waited_for(zoo_main: Zoo, tmp_path: Path) -> None:
    """REQ-C6: a pipe that nobody writes to would never end."""
    os.mkfifo(tmp_path / "pipe")
    assert_refused(zoo_main, tmp_path, "'pipe' is no file: name a configuration file", "fit", "--config", "pipe")


def test_a_library_that_a_callback_needs_is_one_line(
    zoo_main: Zoo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """REQ-C6: it is found missing when training begins; the record of the run does not say that it goes on."""

    def missing(*_: object, **__: object) -> None:
        raise ModuleNotFoundError("No module named 'psutil'")

    monkeypatch.setattr("lightning.pytorch.callbacks.DeviceStatsMonitor.setup", missing)
    done = zoo_main(*MLP_RUN, "--trainer.callbacks", f"{CALLBACKS}.DeviceStatsMonitor", "--run_dir", "run")
    assert (done.status, done.err) == (2, "zoo: error: No module named 'psutil'\n")
    assert json.loads((tmp_path / "run/run.json").read_text())["status"] == "failed"


def test_what_a_file_says_gives_way_to_what_is_typed(zoo_main: Zoo, tmp_path: Path) -> None:
    """REQ-C3: a file that a run wrote holds every setting, and each can be typed over."""
    first = ("--recipe.schedule", "step", "--recipe.milestones", "[0.3]", "--recipe.warmup_epochs", 3)
    assert zoo_main(*MLP_RUN, *DRY, *first, "--recipe.optimizer", "sgd", "--run_dir", "run").status == 0
    over = ("--recipe.schedule", "cosine", "--recipe.epochs", 2, "--recipe.optimizer", "adadelta")
    outcome = zoo_main("fit", "--config", "run/config.yaml", *DRY, *over, "--run_dir", "again")
    assert outcome.status == 0, outcome.err
    recipe = json.loads((tmp_path / "again/run.json").read_text())["recipe"]
    assert (recipe["schedule"], recipe["epochs"], recipe["optimizer"]) == ("cosine", 2, "adadelta")


def test_a_length_that_is_typed_ends_an_endless_file(zoo_main: Zoo, tmp_path: Path) -> None:
    """REQ-C3: recipe.epochs over a file's trainer.max_epochs, and the other way round."""
    write(tmp_path / "endless.yaml", "model: mlp\nrecipe: {schedule: constant}\ntrainer: {max_epochs: -1}")
    outcome = zoo_main("fit", "--config", "endless.yaml", "--recipe.epochs", 1, "--run_dir", "run")
    assert outcome.status == 0, outcome.err
    assert json.loads((tmp_path / "run/run.json").read_text())["steps"] == 20
    write(tmp_path / "short.yaml", "model: mlp\nrecipe: {schedule: constant, epochs: 1}")
    endless = ("--trainer.max_epochs", -1, "--trainer.max_steps", 25)
    assert zoo_main("fit", "--config", "short.yaml", *endless, "--run_dir", "longer").status == 0
    assert json.loads((tmp_path / "longer/run.json").read_text())["steps"] == 25


def test_every_field_of_the_recipe_arrives(zoo_main: Zoo, tmp_path: Path) -> None:
    """REQ-C3: what is typed is what the run record says it was trained with."""
    fields = {
        "optimizer": "sgd", "lr": 0.125, "momentum": 0.5, "weight_decay": 0.25, "decay_all": True, "l1": 0.5,
        "schedule": "step", "milestones": [0.25, 0.5], "warmup_epochs": 1.5, "batch_size": 32, "epochs": 7,
        "loss": "cross_entropy", "class_weights": "balanced", "label_smoothing": 0.25, "mixup": 0.5, "cutmix": 0.0,
        "ema": 0.5, "swa": 0.0, "early_stopping": 3, "layer_decay": 0.5, "gradient_clip": 2.0, "max_norm": 3.0,
    }  # fmt: skip
    words = [word for name, value in fields.items() for word in (f"--recipe.{name}", json.dumps(value).strip('"'))]
    outcome = zoo_main(*MLP_RUN, *DRY, *words, "--run_dir", "run")
    assert outcome.status == 0, outcome.err
    recipe = json.loads((tmp_path / "run/run.json").read_text())["recipe"]
    assert {name: recipe[name] for name in recipe.keys() - {"name", "source", "scale_lr"}} == fields


def test_the_seed_is_the_one_that_is_typed(zoo_main: Zoo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """REQ-C3: no variable of the environment that another run left behind changes it, nor any other setting."""
    runs = {}
    for name, variables in {"plain": {}, "other": {"PL_GLOBAL_SEED": "5", "PL_TRAINER__MAX_EPOCHS": "3"}}.items():
        run = zoo_main(*MLP_RUN, *DRY, "--print_config")  # which clears what an earlier run left
        for variable, value in variables.items():
            monkeypatch.setenv(variable, value)
        import zoo.cli

        status = zoo.cli.main([*MLP_RUN, *DRY, "--run_dir", name])
        assert (run.status, status) == (0, 0)
        runs[name] = json.loads((tmp_path / name / "run.json").read_text())
    assert runs["plain"]["seed"] == runs["other"]["seed"] == 0
    assert runs["plain"]["recipe"] == runs["other"]["recipe"]


# What `zoo fit --trainer.X VALUE` gives the trainer; a callable checks what is not the value itself.
ARRIVES: dict[str, tuple[tuple[object, ...], Any]] = {
    "accelerator": (("cpu",), "cpu"),
    "strategy": (("ddp", "--trainer.accelerator", "cpu"), "ddp"),
    "devices": ((2, "--trainer.accelerator", "cpu"), "2"),
    "num_nodes": ((2, "--trainer.accelerator", "cpu"), 2),
    "precision": (("bf16-mixed",), "bf16-mixed"),
    "logger": (("false",), False),
    "callbacks": ((f"{CALLBACKS}.DeviceStatsMonitor",), lambda v: type(v[0]).__name__ == "DeviceStatsMonitor"),
    "fast_dev_run": ((2,), 2),
    "max_epochs": ((3,), 3),
    "min_epochs": ((2,), 2),
    "max_steps": ((30,), 30),
    "min_steps": ((10,), 10),
    "max_time": (("00:01:00:00",), "00:01:00:00"),
    "limit_train_batches": ((3,), 3),
    "limit_val_batches": ((0.5,), 0.5),
    "limit_test_batches": ((2,), 2),
    "val_check_interval": ((0.5,), 0.5),
    "check_val_every_n_epoch": ((2,), 2),
    "num_sanity_val_steps": ((1,), 1),
    "log_every_n_steps": ((2, "--trainer.callbacks", f"{CALLBACKS}.LearningRateMonitor"), 2),
    "enable_checkpointing": (("false",), False),
    "enable_progress_bar": (("false",), False),
    "enable_model_summary": (("true",), True),
    "accumulate_grad_batches": ((2,), 2),
    "gradient_clip_val": ((0.5,), lambda v: v is None),  # the recipe has it: see below
    "gradient_clip_algorithm": (("value", "--recipe.gradient_clip", 1), "value"),
    "deterministic": (("warn",), "warn"),
    "benchmark": (("true",), True),
    "inference_mode": (("false",), False),
    "profiler": (("simple",), "simple"),
    "detect_anomaly": (("true",), True),
    "barebones": (("true",), True),
    "plugins": (("lightning.pytorch.plugins.DoublePrecision",), lambda v: type(v).__name__ == "DoublePrecision"),
    "sync_batchnorm": (("true",), True),
    "reload_dataloaders_every_n_epochs": ((1,), 1),
    "default_root_dir": (("there",), lambda v: v.startswith("there/runs/mlp-digits/")),
    "enable_autolog_hparams": (("false",), False),
}
NEVER_ARRIVES = {"limit_predict_batches", "overfit_batches", "use_distributed_sampler", "model_registry"}


def test_what_becomes_of_every_option_of_the_trainer_is_decided() -> None:
    """REQ-C3: an option that a new version of Lightning brings is not passed over."""
    known = set(inspect.signature(L.Trainer.__init__).parameters) - {"self"}
    assert known == ARRIVES.keys() | NEVER_ARRIVES
    assert {name.split(".")[-1] for words, _ in REFUSED.values() for name in map(str, words)} >= NEVER_ARRIVES


@pytest.mark.parametrize("name", ARRIVES)
def test_every_other_option_of_the_trainer_arrives(name: str, zoo_main: Zoo, monkeypatch: pytest.MonkeyPatch) -> None:
    """REQ-C3: the trainer is made with the value that was typed."""
    monkeypatch.setenv("MASTER_PORT", "29500")  # says that other nodes know of this one
    words, expected = ARRIVES[name]
    made: list[tuple[FitCLI, dict[str, Any]]] = []
    make_trainer = FitCLI.make_trainer

    def note(cli: FitCLI, settings: dict[str, Any]) -> L.Trainer:
        made.append((cli, dict(settings)))
        if len(made) == 2:  # the first one is for trial
            raise UserError("that is all")
        return make_trainer(cli, settings)

    monkeypatch.setattr(FitCLI, "make_trainer", note)
    outcome = zoo_main(*MLP_RUN, f"--trainer.{name}", *words)
    torch.use_deterministic_algorithms(False)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    assert "that is all" in outcome.err
    cli, settings = made[1]
    assert expected(settings[name]) if callable(expected) else settings[name] == expected
    assert cli.recipe.gradient_clip == {"gradient_clip_val": 0.5, "gradient_clip_algorithm": 1}.get(name, 0)


@pytest.mark.parametrize("verb", ["test", "validate", "predict"])
@pytest.mark.parametrize(
    "option", ["max_epochs=3", "gradient_clip_val=1", "limit_train_batches=2", "overfit_batches=1"]
)
def test_options_of_training_are_refused_where_nothing_is_trained(
    verb: str, option: str, zoo_main: Zoo, checkpoint: Path, tmp_path: Path
) -> None:
    """REQ-C3: zoo test, validate and predict take no option that they would not use."""
    picture = write(tmp_path / "x.png", "") if verb == "predict" else ""
    name = option.partition("=")[0]
    words = [verb, "--ckpt_path", checkpoint, f"--trainer.{option}", *([picture] if picture else [])]
    assert_refused(zoo_main, tmp_path, f"trainer.{name} is ", *words)


FLAGS = {
    "mlp": {"image_size": 8},
    "lenet5": {},
    "lenet5_1998": {},
    "alexnet": {"image_size": 64},
    "vgg11": {},
    "vgg11_lrn": {},
    "resnet18": {"image_size": 64},
    "resnet50": {"image_size": 64},
    "resnet20": {},
    "plain20": {},
}
"""One network of each kind, at a size that is quick to build."""


@pytest.mark.parametrize("name", FLAGS)
def test_every_flag_of_a_model_changes_it_or_is_refused(name: str) -> None:
    """REQ-C3: norm, dropout and so on: another value is another network."""
    with torch.device("meta"):
        base = repr(zoo.create_model(name, **FLAGS[name]))
        for flag, parameter in inspect.signature(type(zoo.create_model(name))).parameters.items():
            for value in _values(flag, parameter.annotation):
                if value == parameter.default:
                    continue
                try:
                    changed = repr(zoo.create_model(name, **{**FLAGS[name], flag: value}))
                except ValueError:
                    continue
                assert changed != base, f"{flag} {value}"


def _values(flag: str, kind: Any) -> list[object]:
    """Values of a flag that shows in the layers: initialisations do not, and sizes follow the data."""
    if flag in ("init", "zero_init_residual", "num_classes", "in_channels", "image_size"):
        return []
    if kind in (bool, float):
        return [True, False] if kind is bool else [0.25]
    choices: list[object] = []
    for part in getattr(kind, "__args__", ()):
        choices += _values(flag, part) if hasattr(part, "__args__") else [part] if isinstance(part, str | int) else []
    return choices


def test_what_perceptrons_do_without_hidden_layers_is_known() -> None:
    """REQ-C3: the defaults that `zoo.cli.effects` compares with are the network's."""
    parameters = inspect.signature(MLP).parameters
    assert parameters["maxout_pieces"].default == MAXOUT_PIECES
    assert [parameters[name].default for name in ("norm", "dropout", "activation")] == ["none", 0.0, "relu"]


# REQ-C4: a checkpoint does not override the user


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The last checkpoint of a short run of mlp on digits."""
    from zoo.cli import main

    folder = tmp_path_factory.mktemp("trained")
    words = [*MLP_RUN, "--model.hidden", "[16]", "--recipe.epochs", "1", "--run_dir", str(folder / "run"), "--no-test"]
    assert main(words) == 0
    return folder / "run" / "checkpoints" / "last.ckpt"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("fit", "--model", "lenet5"), "lenet5"),
        (("fit", "--model", "mlp"), "mlp"),  # with 300 and 100 units
        (("fit", "--model", "mlp", "--model.hidden", "[16]", "--recipe.lr", 0.5), "recipe.lr was 0.001 and is 0.5"),
        (("fit", "--model", "mlp", "--model.hidden", "[16]", "--recipe.optimizer", "sgd"), "was adamw and is sgd"),
        (("fit", "--model", "mlp", "--model.hidden", "[16]", "--model.lr", 0.5), "unknown option --model.lr"),
        (("fit", "--model", "mlp", "--model.hidden", "[16]", "--model.dropout", 0.5), "model.dropout was 0.0 and is"),
        (("test", "--model", "vgg16"), "holds mlp, not vgg16"),
        (("test", "--model.hidden", "[4]"), "model.hidden is [4], but "),
        (("test", "--data", "fake", "--data.num_classes", 4, "--data.in_channels", 1), "classes"),
    ],
)
def test_a_checkpoint_does_not_override_what_is_typed(
    words: tuple[object, ...], message: str, zoo_main: Zoo, checkpoint: Path, tmp_path: Path
) -> None:
    """REQ-C4: one line that names both, where Lightning would quietly take the checkpoint's value."""
    assert_refused(zoo_main, tmp_path, message, *words, "--ckpt_path", checkpoint)


def test_the_checkpoint_says_what_is_not_typed(zoo_main: Zoo, checkpoint: Path) -> None:
    """REQ-C4: `zoo test --ckpt_path X` takes name and arguments from it, through the registry."""
    outcome = zoo_main("test", "--ckpt_path", checkpoint)
    assert outcome.status == 0, outcome.err
    assert outcome.out.startswith("mlp on digits, 360 test images")


# REQ-C5: run folders


def test_a_second_run_has_a_folder_of_its_own(zoo_main: Zoo, tmp_path: Path) -> None:
    """REQ-C5: also without loggers; the same folder again is refused, and taken up with --resume."""
    words = (*MLP_RUN, "--recipe.epochs", 1, "--no-test", "--trainer.logger", "false")
    assert [zoo_main(*words).status for _ in range(2)] == [0, 0]
    assert len(list((tmp_path / "runs/mlp-digits").iterdir())) == 2
    assert zoo_main(*words, "--run_dir", "run").status == 0
    config = (tmp_path / "run/config.yaml").read_text()
    assert_refused(zoo_main, tmp_path, "'run' holds a run already: add --resume", *words, "--run_dir", "run")
    resumed = zoo_main("fit", "--run_dir", "run", "--resume")
    assert resumed.status == 0, resumed.err
    assert (tmp_path / "run/config.yaml").read_text() == config


# REQ-C8: only allowed classes

PLACES = ("callbacks", "logger", "strategy", "plugins", "profiler", "accelerator")
HOSTILE = "{class_path: subprocess.Popen, init_args: {args: [touch, marker]}}"


@pytest.mark.parametrize("place", [*PLACES, "model", "data", "model.hidden", "callbacks.on_fit_start"])
def test_classes_from_anywhere_are_refused(place: str, zoo_main: Zoo, tmp_path: Path) -> None:
    """REQ-C8: on the command line, in files and in nested places, by themselves and in lists; nothing runs."""
    if place in PLACES:
        texts = [f"model: mlp\ntrainer: {{{place}: {value}}}" for value in (HOSTILE, f"[{HOSTILE}]", "os.system")]
        lines = [("--model", "mlp", f"--trainer.{place}", "subprocess.Popen")]
    elif place == "callbacks.on_fit_start":
        function = "{class_path: lightning.pytorch.callbacks.LambdaCallback, init_args: {on_fit_start: NAME}}"
        paths = ("os.system", "zoo.cli.os.system", "zoo.cli.front.Path.unlink")
        texts = [f"model: mlp\ntrainer: {{callbacks: {function.replace('NAME', path)}}}" for path in paths]
        lines = [
            ("--model", "mlp", "--trainer.callbacks", f"{CALLBACKS}.LambdaCallback", f"--trainer.{place}", "os.abort")
        ]
    elif place == "model.hidden":
        texts = [f"model: {{class_path: mlp, init_args: {{hidden: {HOSTILE}}}}}"]
        lines = [("--model", "mlp", "--model.hidden", HOSTILE)]
    else:
        texts = [f"model: mlp\n{place}: {HOSTILE}" if place == "data" else f"model: {HOSTILE}", "model: os.system"]
        lines = [
            ("--model", "mlp", "--data", "subprocess.Popen") if place == "data" else ("--model", "subprocess.Popen")
        ]
    for number, text in enumerate(texts):
        file = write(tmp_path / f"{number}.yaml", text)
        assert_refused(zoo_main, tmp_path, "zoo: error: ", "fit", *DRY, "--config", file)
    for words in lines:
        assert_refused(zoo_main, tmp_path, "zoo: error: ", "fit", *DRY, *words)
    assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize("how", ["command", "file"])
def test_a_package_of_ones_own_can_be_allowed(
    how: str, zoo_main: Zoo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """REQ-C8: ZOO_ALLOW_IMPORTS extends the list by the packages that it names, and by no others."""
    package = f"mine_{how}"  # what was allowed once stays so for the rest of a process
    write(
        tmp_path / f"{package}.py",
        "from pathlib import Path\nfrom lightning.pytorch import Callback\n\n\nclass Mark(Callback):\n"
        "    def on_fit_start(self, *_):\n        Path('marker').touch()\n",
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    write(tmp_path / "a.yaml", f"model: mlp\ntrainer: {{callbacks: {{class_path: {package}.Mark}}}}")
    typed = ("--model", "mlp", "--trainer.callbacks", f"{package}.Mark")
    words = ("fit", *DRY, *(typed if how == "command" else ("--config", "a.yaml")))
    hint = f"class '{package}.Mark' is not allowed: name its package in ZOO_ALLOW_IMPORTS={package} if you trust it"
    assert_refused(zoo_main, tmp_path, hint, *words)
    monkeypatch.setenv("ZOO_ALLOW_IMPORTS", "others, another")
    assert_refused(zoo_main, tmp_path, hint, *words)
    monkeypatch.setenv("ZOO_ALLOW_IMPORTS", f"others, {package}")
    outcome = zoo_main(*words)
    assert outcome.status == 0, outcome.err
    assert (tmp_path / "marker").exists()


class Limited:
    """Takes shares and numbers, its types in the order in which typing may remember them."""

    def __init__(self, first: float | int = 1.0, second: float | int | None = None, third: float = 1.0) -> None:
        self.values = (first, second, third)


class Holder:
    """Has another class among its arguments."""

    def __init__(self, inner: Limited) -> None:
        self.inner = inner


def test_one_is_not_the_whole_whatever_was_imported_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """REQ-C3: typing knows no order in a union: a limit of 1 batch must not become 1.0, which is all of them."""
    monkeypatch.setenv("ZOO_ALLOW_IMPORTS", "tests")
    restrict_imports()  # each command does that anew
    parser = Parser(prog="zoo fit")
    parser.add_class_arguments(Limited, "own")
    parser.add_class_arguments(Holder, "nested")
    words = [f"--{where}.{name}" for where in ("own", "nested.inner") for name in ("first=1", "second=2", "third=1")]
    config = parser.parse_args(words)
    for found in (config.own, config.nested.inner.init_args):
        values = [found.first, found.second, found.third]
        assert [repr(value) for value in values] == ["1", "2", "1.0"]
    assert repr(parser.parse_args([*words, "--own.first=0.5"]).own.first) == "0.5"
