"""Bad input: one short message with the value and the rule, exit status 2, no traceback, nothing written."""

import os
import pickle
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from tests.conftest import Zoo, command, environment

MLP = ("fit", "--model", "mlp")

CASES: dict[str, tuple[tuple[str, ...], str]] = {
    "unknown command": (("ft",), "unknown command 'ft'. Did you mean 'fit'?"),
    "unknown model": (("fit", "--model", "vgg61"), "unknown model 'vgg61'. Did you mean 'vgg16'?"),
    "unknown model, with =": (("fit", "--model=lenet"), "unknown model 'lenet'. Did you mean 'lenet5'?"),
    "unknown data": ((*MLP, "--data", "mnits"), "unknown data 'mnits'. Did you mean 'mnist'?"),
    "no model": (("fit",), "zoo fit needs a model: --model NAME. Known: "),
    "no model but data": (("fit", "--data", "mnist"), "zoo fit needs a model"),
    "unknown model flag": ((*MLP, "--model.nrom", "batch"), "unknown option --model.nrom. Did you mean --model.norm?"),
    "unknown trainer flag": ((*MLP, "--trainer.max_epoch", "3"), "Did you mean --trainer.max_epochs?"),
    "unknown recipe flag": ((*MLP, "--recipe.rl", "1"), "unknown option --recipe.rl. Did you mean --recipe.lr?"),
    "unknown flag": ((*MLP, "--frobnicate", "1"), "unknown option --frobnicate"),
    "option of another model": (
        ("fit", "--model", "lenet5", "--model.hidden", "[3]"),
        "lenet5 has no option --model.hidden",
    ),
    "option of another data set": ((*MLP, "--data.root", "x"), "digits has no option --data.root"),
    "value that is an option": (("fit", "--recipe.lr", "--model", "mlp"), "option --recipe.lr needs a value"),
    "seed below zero": ((*MLP, "--seed_everything", "-1"), "-1"),
    "strategy for notebooks": ((*MLP, "--trainer.strategy", "ddp_fork"), "is for notebooks: use ddp"),
    "no batches": ((*MLP, "--trainer.limit_train_batches", "0"), "there is nothing to train on"),
    "batch normalisation of one image": (
        (*MLP, "--model.norm", "batch", "--recipe.batch_size", "1"),
        "batch normalisation needs two images",
    ),
    "test no batches": (("test", "--ckpt_path", "{good}", "--trainer.limit_test_batches", "0"), "nothing to test"),
    "test at another size": (
        ("test", "--ckpt_path", "{good}", "--data.image_size", "16"),
        "was trained on images of 8",
    ),
    "predict on two devices": (
        ("predict", "--ckpt_path", "{good}", "--trainer.accelerator", "cpu", "--trainer.devices", "2", "{text}"),
        "predict runs on one device, not 2",
    ),
    "checkpoint is noise": (("test", "--ckpt_path", "{noise}"), "is not a checkpoint"),
    "stray word": ((*MLP, "vgg16"), "unexpected argument 'vgg16'"),
    "flag without a value": ((*MLP, "--recipe.lr"), "option --recipe.lr needs a value"),
    "value of a choice": ((*MLP, "--model.norm", "bacth"), "--model.norm is 'bacth'. Did you mean 'batch'?"),
    "value that is no number": ((*MLP, "--trainer.max_epochs", "three"), "--trainer.max_epochs is 'three'"),
    "value that is no number (model)": ((*MLP, "--model.dropout", "lots"), "--model.dropout is 'lots'"),
    "value out of range": ((*MLP, "--recipe.lr", "-1"), "recipe.lr is -1.0: it must be greater than 0"),
    "value out of range (model)": ((*MLP, "--model.dropout", "2"), "dropout"),
    "unknown recipe": ((*MLP, "--recipe", "papre"), "mlp has no recipe 'papre'"),
    "unknown augmentation": ((*MLP, "--data.augment", "afine"), "affine"),
    "batch size 0": ((*MLP, "--data.batch_size", "0"), "batch_size"),
    "image too small": (("fit", "--model", "vgg16", "--data.image_size", "16"), "needs at least 32"),
    "two image sizes": ((*MLP, "--data.image_size", "16", "--model.image_size", "8"), "say one of them"),
    "two batch sizes": ((*MLP, "--data.batch_size", "16", "--recipe.batch_size", "8"), "say one of them"),
    "two lengths": ((*MLP, "--trainer.max_epochs", "1", "--recipe.epochs", "2"), "say one of them"),
    "too few classes": ((*MLP, "--model.num_classes", "5"), "model.num_classes is 5, but 'digits' has 10"),
    "other channels": ((*MLP, "--model.in_channels", "3"), "model.in_channels is 3, but images of 'digits' have 1"),
    "image too small (alexnet)": (("fit", "--model", "alexnet", "--model.image_size", "28"), "needs at least 29"),
    "unknown initialisation": ((*MLP, "--model.init", "hee"), "init is 'hee'. Did you mean 'he'?"),
    "no depth of this family": (("fit", "--model", "resnet20", "--model.depth", "21"), "have 6n + 2 layers"),
    "unknown shortcut": (
        ("fit", "--model", "resnet20", "--model.shortcut", "D"),
        "--model.shortcut is 'D'. Known: A, B, C",
    ),
    "unknown loss": ((*MLP, "--recipe.loss", "mes"), "recipe.loss is mes: it must be one of cross_entropy, mse, map"),
    "smoothing of another loss": (
        (*MLP, "--recipe.loss", "map", "--recipe.label_smoothing", "0.1"),
        "recipe.label_smoothing is 0.1: it must be 0 with the loss map",
    ),
    "unknown backbone": (
        ("fit", "--model", "timm/resnt18"),
        "timm has no backbone 'resnt18'. Did you mean 'resnet18'?",
    ),
    "flag that timm's networks lack": (
        ("fit", "--model", "timm", "--model.norm", "batch"),
        "timm has no option --model.norm",
    ),
    "norm of one pixel": (
        ("fit", "--model", "resnet18", "--model.norm", "instance"),
        "with norm 'instance' and stem 'imagenet' it needs at least 33",
    ),
    "norm without positions": ((*MLP, "--model.norm", "instance"), "norm is 'instance'"),
    "precision without a GPU": (
        (*MLP, "--trainer.accelerator", "cpu", "--trainer.precision", "16-mixed"),
        "16-mixed, which needs a GPU: on a CPU use bf16-mixed",
    ),
    "unknown precision": ((*MLP, "--trainer.precision", "17"), "--trainer.precision is '17'"),
    "accelerator not there": ((*MLP, "--trainer.accelerator", "tpu"), "torch_xla"),
    "unknown strategy": ((*MLP, "--trainer.strategy", "dpd"), "dpd"),
    "endless run": ((*MLP, "--trainer.max_epochs", "-1"), "needs an end"),
    "no configuration file": (("fit", "--config", "none.yaml"), "no configuration file at"),
    "unknown model in a file": (("fit", "--config", "{yaml_model}"), "unknown name 'vgg61'. Did you mean 'vgg16'?"),
    "unknown option in a file": (
        ("fit", "--config", "{yaml_option}"),
        "unknown option --nrom. Did you mean --model.norm?",
    ),
    "unknown trainer option in a file": (("fit", "--config", "{yaml_trainer}"), "Did you mean --trainer.max_epochs?"),
    "a file that is no YAML": (("fit", "--config", "{yaml_broken}"), "Problems parsing config"),
    "a class from anywhere": (("fit", "--model", "os.system"), "'os.system' is not allowed"),
    "missing root": ((*MLP, "--data", "mnist", "--data.root", "nowhere"), "nowhere"),
    "no root": ((*MLP, "--data", "mnist"), "--data.root"),
    "empty root": ((*MLP, "--data", "mnist", "--data.root", "{empty}"), "--data.download true"),
    "corrupt IDX file": ((*MLP, "--data", "mnist", "--data.root", "{corrupt}"), "train-images-idx3-ubyte"),
    "nothing to resume": ((*MLP, "--resume", "--run_dir", "{empty}"), "nothing to resume"),
    "resume of nothing": ((*MLP, "--resume"), "--resume needs the run"),
    "resume of two things": (
        (*MLP, "--resume", "--run_dir", "{empty}", "--ckpt_path", "{good}"),
        "leave --ckpt_path out",
    ),
    "batch that two devices cannot share": (
        (*MLP, "--recipe.batch_size", "33", "--trainer.devices", "2", "--trainer.accelerator", "cpu"),
        "recipe.batch_size is 33: it must be a multiple of the 2 devices",
    ),
    "two sizes of the training set": (
        (*MLP, "--data.train_size", "100", "--data.train_fraction", "0.5"),
        "train_size is 100 and train_fraction is 0.5: give one",
    ),
    "folds without a fold": ((*MLP, "--data.kfold", "5"), "kfold is 5: give fold too, 0 to 4"),
    "classes balanced twice": (
        (*MLP, "--recipe.class_weights", "balanced", "--data.sampler", "balanced"),
        "recipe.class_weights and data.sampler are both balanced: rare classes would count twice",
    ),
    "a last batch of one image": (
        (*MLP, "--model.norm", "batch", "--data.drop_last", "false", "--recipe.batch_size", "68"),
        "data.drop_last is false: batch normalisation needs two images on each device, 1 are left",
    ),
    "unknown class": ((*MLP, "--data.class_subset", "[3, x]"), "unknown class 'x'"),
    "unknown transform": ((*MLP, "--data.augment", "[Rotat]"), "unknown transform 'Rotat': did you mean 'Rotate'?"),
    "no policy file": ((*MLP, "--data.augment", "mine.yaml"), "augment 'mine.yaml': there is no such file"),
    "class weights of another loss": (
        (*MLP, "--recipe.loss", "mse", "--recipe.class_weights", "balanced"),
        "recipe.class_weights is balanced: it must be none with the loss mse",
    ),
    "unknown sampler": ((*MLP, "--data.sampler", "balance"), "--data.sampler is 'balance'. Did you mean 'balanced'?"),
    "folder: no root": ((*MLP, "--data", "folder"), "--data.root DIR"),
    "folder: missing": ((*MLP, "--data", "folder", "--data.root", "nowhere"), "nowhere"),
    "folder: empty": ((*MLP, "--data", "folder", "--data.root", "{empty}"), "{empty}"),
    "folder: not a folder": ((*MLP, "--data", "folder", "--data.root", "{text}"), "{text}"),
    "imagenet: wrong layout": ((*MLP, "--data", "imagenet", "--data.root", "{empty}"), "{empty}"),
    "csv: no file": ((*MLP, "--data", "csv"), "file"),
    "csv: missing": ((*MLP, "--data", "csv", "--data.file", "none.csv"), "none.csv"),
    "csv: not a table": ((*MLP, "--data", "csv", "--data.file", "{text}"), "{text}"),
    "cifar10: nothing there": (
        (*MLP, "--data", "cifar10", "--data.root", "{empty}"),
        "--data.download true",
    ),
    "emnist: unknown split": (
        (*MLP, "--data", "emnist", "--data.root", "{empty}", "--data.split", "letter"),
        "did you mean 'letters'?",
    ),
    "unknown data command": (("data", "shwo"), "unknown data command 'shwo'. Did you mean 'show'?"),
    "list no data set": (("data", "list", "zzz*"), "no data set matches 'zzz*'"),
    "show without data": (("data", "show"), "needs a data set: --data NAME"),
    "show unknown data": (("data", "show", "--data", "mnits"), "unknown data 'mnits'. Did you mean 'mnist'?"),
    "show no images": (("data", "show", "--data", "digits", "--images", "0"), "images is 0: it must be at least 1"),
    "show into nowhere": (
        ("data", "show", "--data", "digits", "--output", "none/x.png"),
        "none/",
    ),
    "prepare unknown option": (("data", "prepare", "--data", "digits", "--data.rot", "x"), "unknown option --data.rot"),
    "check nothing": (("data", "check", "nowhere"), "nowhere"),
    "run folder in use": ((*MLP, "--run_dir", "{run}"), "holds a run already"),
    "no write permission": ((*MLP, "--run_dir", "{forbidden}/run"), "{forbidden}"),
    "test without a checkpoint": (("test",), "needs a checkpoint"),
    "missing checkpoint": (("test", "--ckpt_path", "none.ckpt"), "no checkpoint at 'none.ckpt'"),
    "checkpoint is text": (("test", "--ckpt_path", "{text}"), "is not a checkpoint"),
    "checkpoint is truncated": (("test", "--ckpt_path", "{truncated}"), "is truncated"),
    "checkpoint of something else": (("validate", "--ckpt_path", "{foreign}"), "not a checkpoint of this package"),
    "checkpoint runs code": (("test", "--ckpt_path", "{hostile}"), "holds more than tensors"),
    "checkpoint at an address": (("test", "--ckpt_path", "http://localhost/x.ckpt"), "is an address"),
    "other model than the checkpoint's": (
        ("test", "--ckpt_path", "{good}", "--model", "vgg16"),
        "holds mlp, not vgg16",
    ),
    "other layers than the checkpoint's": (
        ("test", "--ckpt_path", "{good}", "--model.hidden", "[5]"),
        "model.hidden is [5], but ",
    ),
    "resume with another network": (
        (*MLP, "--ckpt_path", "{good}", "--model.hidden", "[5]"),
        "does not fit mlp as asked for",
    ),
    "resume from weights": ((*MLP, "--ckpt_path", "{good}"), "holds weights only"),
    "data with other classes": (("test", "--ckpt_path", "{five}"), "model.num_classes is 5, but 'digits' has 10"),
    "predict without images": (("predict", "--ckpt_path", "{good}"), "usage: zoo predict"),
    "predict a missing image": (("predict", "--ckpt_path", "{good}", "none.png"), "none.png"),
    "predict a text file": (("predict", "--ckpt_path", "{good}", "{text}"), "{text}"),
    "predict nothing in a folder": (("predict", "--ckpt_path", "{good}", "{empty}"), "{empty}"),
    "predict top 0": (("predict", "--ckpt_path", "{good}", "--top_k", "0", "{text}"), "top_k is 0"),
    "list nothing": (("list", "zzz*"), "no model matches 'zzz*'"),
    "info about nothing": (("info", "vgg61"), "Did you mean 'vgg16'?"),
}


YAML = {
    "model": "model: {class_path: vgg61}",
    "option": "model: {class_path: mlp, init_args: {nrom: batch}}",
    "trainer": "model: mlp\ntrainer: {max_epoch: 3}",
    "broken": "model: [1",
}


class Hostile:
    """Unpickling this writes a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return (os.mkdir, (str(self.marker),))


@pytest.fixture(scope="module")
def good_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A checkpoint of an untrained mlp on digits."""
    return _checkpoint(tmp_path_factory.mktemp("good"), num_classes=10)


def _checkpoint(folder: Path, num_classes: int) -> bytes:
    import lightning as L

    import zoo
    from zoo.datamodules import Digits

    model = zoo.create_model("mlp", image_size=8, num_classes=num_classes)
    data = Digits()
    model.data, model.preprocessing, model.class_names = (
        data.describe(),
        data.describe()["preprocessing"],
        data.class_names[:num_classes],
    )
    trainer = L.Trainer(logger=False, enable_checkpointing=False, accelerator="cpu")
    trainer.strategy.connect(model)
    path = folder / "model.ckpt"
    trainer.save_checkpoint(path, weights_only=True)
    return path.read_bytes()


@pytest.fixture
def places(tmp_path: Path, mnist_root: Path, good_checkpoint: bytes) -> dict[str, Path]:
    """The files and folders that the cases name."""
    found = {
        name: tmp_path / name
        for name in ("empty", "run", "text", "truncated", "foreign", "hostile", "good", "five", "noise")
    }
    for name in ("empty", "run"):
        found[name].mkdir()
    (found["run"] / "config.yaml").touch()
    for name, text in YAML.items():
        found[f"yaml_{name}"] = tmp_path / f"{name}.yaml"
        found[f"yaml_{name}"].write_text(text)
    found["noise"].write_bytes(b". hello world")  # unpickling this raises an IndexError
    found["text"].write_text("not a checkpoint")
    found["good"].write_bytes(good_checkpoint)
    found["truncated"].write_bytes(good_checkpoint[: len(good_checkpoint) // 2])
    torch.save({"state_dict": {}}, found["foreign"])
    found["hostile"].write_bytes(pickle.dumps(Hostile(tmp_path / "marker")))
    found["five"].write_bytes(_checkpoint(found["run"], num_classes=5))
    found["corrupt"] = mnist_root
    images = mnist_root / "MNIST/raw/train-images-idx3-ubyte"
    images.write_bytes(images.read_bytes()[:-100])
    # The superuser may write anywhere but in the kernel's own file systems.
    found["forbidden"] = Path("/proc") if os.geteuid() == 0 else tmp_path / "forbidden"
    if os.geteuid() != 0:
        found["forbidden"].mkdir(mode=0o555)
    return found


@pytest.mark.parametrize("case", CASES)
def test_bad_input(case: str, zoo_main: Zoo, places: dict[str, Path], tmp_path: Path) -> None:
    """REQ-C6: wrong input is one short line without a traceback, exit status 2, and nothing is written."""
    words, message = CASES[case]
    before = set(tmp_path.rglob("*"))
    outcome = zoo_main(*(word.format(**places) for word in words))
    assert outcome.status == 2
    assert message.format(**places) in outcome.err
    lines = outcome.err.strip().splitlines()
    assert lines[-1].startswith("zoo: error: ")
    assert len(lines) <= 2, outcome.err
    assert len(lines[-1]) < 500
    assert "Traceback" not in outcome.err + outcome.out
    written = set(tmp_path.rglob("*")) - before
    assert not written, "nothing is written when the input is wrong"


def test_a_file_called_like_a_model_is_no_trouble(zoo_main: Zoo, tmp_path: Path) -> None:
    (tmp_path / "mlp").write_text("not a configuration")
    assert zoo_main(*MLP, "--print_config").status == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is always full")
@pytest.mark.parametrize("words", [("list",), ("test", "--ckpt_path", "lenet5.mnist", "--data", "fake", "--bad"), ()])
def test_what_cannot_be_printed_is_one_line(words: tuple[str, ...]) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            command(*words), env=environment(), stdout=full, stderr=subprocess.PIPE, text=True, timeout=240
        )
    assert done.returncode == 2
    assert done.stderr.startswith("zoo: error: ")
    assert done.stderr.count("\n") == 1


def test_a_terminal_without_the_letters_of_a_name(tmp_path: Path) -> None:
    """REQ-C6: the name is escaped on the screen, and whole in the file."""
    Image.new("L", (28, 28)).save(tmp_path / "größe.png")
    words = ("predict", "--ckpt_path", "lenet5.mnist", "größe.png", "--output", "out.csv")
    own = environment() | {"PYTHONIOENCODING": "ascii", "COLUMNS": "200"}
    done = subprocess.run(command(*words), cwd=tmp_path, env=own, capture_output=True, text=True, timeout=240)
    assert (done.returncode, done.stderr) == (0, "")
    assert "gr\\xf6\\xdfe.png" in done.stdout
    assert (tmp_path / "out.csv").read_text(encoding="utf-8").splitlines()[1].startswith("größe.png,")
