"""REQ-S2: what a checkpoint, a run folder or an address can make this package do, which is nothing."""

import json
import pickle
import shutil
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.strategies import SingleDeviceStrategy

import zoo
import zoo.names
from tests.conftest import Zoo
from zoo.classifier import ImageClassifier
from zoo.datamodules import Digits
from zoo.registry import model_class

NAMES = {"_class_path": "evilmodule.Evil", "_instantiator": "evilmodule.make", "class_path": "evilmodule.Evil"}
FIT = ("fit", "--model", "mlp", "--data", "digits", "--trainer.limit_train_batches", 2, "--no-test")


class Payload:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.marker,)


@pytest.fixture
def marker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """What must not come to be: a module that can be imported makes it, and torch's protection is said to be off."""
    path = tmp_path / "marker"
    (tmp_path / "evil").mkdir()
    code = f"open({str(path)!r}, 'w')\nclass Evil: pass\nmake = Evil\n"
    (tmp_path / "evil" / "evilmodule.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path / "evil")
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    yield path
    assert not path.exists()
    assert "evilmodule" not in sys.modules


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of two steps."""
    from zoo.cli import main

    folder = tmp_path_factory.mktemp("runs") / "run"
    assert main([*map(str, FIT), "--recipe.epochs", "1", "--run_dir", str(folder)]) == 0
    return folder


@pytest.fixture
def run(run_folder: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(run_folder, tmp_path / "run"))


def one_line(outcome: Any) -> str:
    """The error of a command that refused its input."""
    assert outcome.status == 2, outcome.out + outcome.err
    lines: list[str] = outcome.err.strip().splitlines()
    assert len(lines) == 1, outcome.err
    return lines[0]


def checkpoint_with_names(path: Path) -> Path:
    """A sound model whose file names classes wherever Lightning looks for some."""
    model = zoo.load("lenet5.mnist")
    description = {**model.description(), **NAMES}
    arguments = {**model.hparams, **NAMES}
    content = {"state_dict": model.state_dict(), "zoo": description, "hyper_parameters": arguments, **NAMES}
    torch.save({**content, "hparams_name": "kwargs", "pytorch-lightning_version": "2.6.6"}, path)
    return path


# REQ-S2


def test_names_of_classes_in_a_sound_checkpoint_are_never_looked_at(marker: Path, tmp_path: Path) -> None:
    """REQ-S2: hyper-parameters, `_class_path` and `_instantiator` are not read; the model is the registry's."""
    path = checkpoint_with_names(tmp_path / "weights.ckpt")
    expected = zoo.load("lenet5.mnist").state_dict()
    for model in (
        zoo.load(path),
        ImageClassifier.load_from_checkpoint(path),
        zoo.names.lenet5.load_from_checkpoint(path),
    ):
        assert type(model) is model_class("lenet5")
        assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in expected.items())


VERBS = ("fit", "validate", "test", "predict")
QUIET: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}


def plain_trainer() -> L.Trainer:
    """A trainer as anybody makes it, which knows nothing of this package."""
    return L.Trainer(
        accelerator="cpu",
        max_epochs=1,
        limit_train_batches=1,
        enable_checkpointing=False,
        use_distributed_sampler=False,
        **QUIET,
    )


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("hostile", ["code", "names"])
def test_a_trainer_of_the_users_runs_nothing_either(hostile: str, verb: str, marker: Path, tmp_path: Path) -> None:
    """REQ-S2: Lightning's trainer, given a checkpoint by the Python API, would run what is in it."""
    path = checkpoint_with_names(tmp_path / "weights.ckpt")
    if hostile == "code":
        torch.save({**torch.load(path, weights_only=True), "more": Payload(marker)}, path)
    run, words = getattr(plain_trainer(), verb), {"datamodule": Digits(image_size=32), "ckpt_path": path}
    if hostile == "code":
        with pytest.raises(ValueError, match="holds more than tensors"):
            run(zoo.create_model("lenet5"), **words)
    elif verb == "fit":
        with pytest.raises(KeyError, match="contains only the model"):
            run(zoo.create_model("lenet5"), **words)
    else:
        assert run(zoo.create_model("lenet5"), **words)


class OwnWay(SingleDeviceStrategy):
    """Reads checkpoints as Lightning's FSDPStrategy does: without asking the plugin, and with whatever is in them."""

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        content: dict[str, Any] = torch.load(checkpoint_path, weights_only=False)
        return content


def test_a_strategy_with_its_own_way_gets_what_was_looked_at(marker: Path, tmp_path: Path) -> None:
    """REQ-S2: strategies for models that no device holds read the file themselves."""
    path = tmp_path / "weights.ckpt"
    torch.save({"state_dict": {}, "more": Payload(marker)}, path)
    trainer = L.Trainer(strategy=OwnWay("cpu"), max_epochs=1, enable_checkpointing=False, **QUIET)
    with pytest.raises(ValueError, match="holds more than tensors"):
        trainer.fit(zoo.create_model("lenet5"), datamodule=Digits(image_size=32), ckpt_path=path)


@pytest.mark.parametrize("verb", ["test", "predict", "export"])
def test_commands_do_not_look_at_them_either(verb: str, marker: Path, tmp_path: Path, zoo_main: Zoo) -> None:
    """REQ-S2: no verb imports what a checkpoint names."""
    path = checkpoint_with_names(tmp_path / "weights.ckpt")
    digits = Digits(image_size=32)
    digits.setup("test")
    words: dict[str, tuple[object, ...]] = {
        "test": ("test", "--ckpt_path", path, "--data", "digits"),
        "predict": ("predict", "--ckpt_path", path, tmp_path / "photo.png"),
        "export": ("export", path, "--format", "safetensors", "--output", "out.safetensors", "--images", 2),
    }
    from PIL import Image

    Image.new("L", (28, 28)).save(tmp_path / "photo.png")
    assert zoo_main(*words[verb]).status == 0


@pytest.mark.parametrize("name", ["last.ckpt", "both"])
def test_resuming_a_run_with_a_hostile_checkpoint(name: str, marker: Path, run: Path, zoo_main: Zoo) -> None:
    """REQ-S2: `zoo fit --resume` reads tensors and plain values only, in last.ckpt and in the one before."""
    for file in ("last.ckpt", "previous.ckpt") if name == "both" else ("last.ckpt",):
        torch.save({"state_dict": Payload(marker), **NAMES}, run / "checkpoints" / file)
    outcome = zoo_main("fit", "--config", run / "config.yaml", "--resume", "--recipe.epochs", 2)
    if name == "both" or not (run / "checkpoints" / "previous.ckpt").exists():
        assert "holds more than tensors" in one_line(outcome)
    else:
        assert "going on from the one before" in outcome.out


CONFIGS = {
    "a tag of Python": "model: !!python/object/apply:os.mkdir [MARKER]\n",
    "a tag in a list": "trainer:\n  callbacks: [!!python/object/new:evilmodule.Evil []]\n",
    "a class of a model": "model:\n  class_path: evilmodule.Evil\n",
    "a class of a callback": "model: mlp\ntrainer:\n  callbacks:\n  - class_path: evilmodule.Evil\n",
    "a function of the system": (
        "model: mlp\ntrainer:\n  logger:\n    class_path: os.system\n    init_args: {command: touch MARKER}\n"
    ),
}


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("how", ["--config", "--resume"])
def test_a_hostile_configuration(name: str, how: str, marker: Path, run: Path, zoo_main: Zoo) -> None:
    """REQ-S2: a configuration is plain values and classes of the allow-list, also where a run is resumed."""
    (run / "config.yaml").write_text(CONFIGS[name].replace("MARKER", str(marker)))
    one_line(zoo_main("fit", "--config", run / "config.yaml", *(["--resume"] if how == "--resume" else [])))


def damage(run: Path, what: str, marker: Path) -> None:
    """Put something hostile into a run folder."""
    record = json.loads((run / "run.json").read_text())
    if what == "a pickle as run.json":
        (run / "run.json").write_bytes(pickle.dumps(Payload(marker)))
    elif what == "a deep run.json":
        (run / "run.json").write_text('{"recipe":' + "[" * 100_000)
    elif what == "a network to fetch":
        record["arguments"]["pretrained"] = "hf-hub:user/name"
        (run / "run.json").write_text(json.dumps(record))
    elif what == "a model to fetch":
        (run / "run.json").write_text(json.dumps({**record, "model": "hf-hub:user/name"}))
    elif what == "a pickle as metrics.csv":
        (run / "metrics.csv").write_bytes(pickle.dumps(Payload(marker)))
    elif what == "other columns":
        (run / "metrics.csv").write_text("a,b\nx,y\n")
    elif what == "no numbers":
        (run / "metrics.csv").write_text("epoch,step,train/loss\n1,x,=cmd()\n")
    else:
        (run / "config.yaml").write_text("data: !!python/object/apply:os.mkdir [" + str(marker) + "]\n")


OF_A_RUN = (
    *("a pickle as run.json", "a deep run.json", "a network to fetch", "a model to fetch"),
    *("a pickle as metrics.csv", "other columns", "no numbers", "a hostile config.yaml"),
)


@pytest.mark.parametrize("what", OF_A_RUN)
def test_comparing_hostile_runs(what: str, marker: Path, run: Path, zoo_main: Zoo) -> None:
    """REQ-S2: `zoo benchmark compare` builds nothing that a run folder names, and fetches nothing."""
    damage(run, what, marker)
    one_line(zoo_main("benchmark", "compare", run))


@pytest.mark.parametrize("what", [what for what in OF_A_RUN if "fetch" not in what])
def test_resuming_hostile_runs(what: str, marker: Path, run: Path, zoo_main: Zoo) -> None:
    """REQ-S2: what `zoo fit --resume` finds in run.json and metrics.csv is data; what is damaged is said."""
    damage(run, what, marker)
    one_line(zoo_main("fit", "--config", run / "config.yaml", "--resume", "--recipe.epochs", 2))


ADDRESSED: dict[str, tuple[str, ...]] = {
    "test": ("test", "--data", "digits", "--ckpt_path", "ADDRESS"),
    "validate": ("validate", "--data", "digits", "--ckpt_path", "ADDRESS"),
    "predict": ("predict", "photo.png", "--ckpt_path", "ADDRESS"),
    "features": ("features", "--data", "digits", "--ckpt_path", "ADDRESS"),
    "probe": ("probe", "--data", "digits", "--ckpt_path", "ADDRESS"),
    "export": ("export", "ADDRESS", "--format", "safetensors", "--output", "out.safetensors"),
    "push": ("push", "ADDRESS", "user/name", "--output", "published"),
    "fit": ("fit", "--model", "mlp", "--data", "digits", "--pretrained", "ADDRESS"),
    "fit from it": ("fit", "--model", "mlp", "--data", "digits", "--ckpt_path", "ADDRESS"),
}


@pytest.fixture
def address() -> Iterator[str]:
    """An address at which somebody listens, whom nobody may ask."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/weights.ckpt"
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.accept()


@pytest.mark.parametrize("verb", ADDRESSED)
def test_no_command_reads_an_address(verb: str, address: str, zoo_main: Zoo, tmp_path: Path) -> None:
    """REQ-S2: local files only: for an address Lightning would switch the protection off."""
    (tmp_path / "photo.png").touch()
    message = one_line(zoo_main(*(address if word == "ADDRESS" else word for word in ADDRESSED[verb])))
    assert address in message
    assert "is an address" in message


def test_python_reads_no_address(address: str) -> None:
    """REQ-S2: neither do `zoo.load`, `create_model` and the method that Lightning gives to every model."""
    for load in (zoo.load, ImageClassifier.load_from_checkpoint, zoo.names.lenet5.load_from_checkpoint):
        with pytest.raises(ValueError, match="is an address: checkpoints are read from local files only"):
            load(address)
    with pytest.raises(ValueError, match="is an address: fetch the file, and name it"):
        zoo.create_model("lenet5", pretrained=address)


@pytest.mark.parametrize("verb", VERBS)
def test_a_trainer_of_the_users_reads_no_address(verb: str, address: str) -> None:
    """REQ-S2: nor does Lightning's trainer with one of our models."""
    with pytest.raises(ValueError, match="is an address: weights are read from local files only"):
        getattr(plain_trainer(), verb)(zoo.create_model("mlp"), datamodule=Digits(), ckpt_path=address)


def test_whatever_loads_says_that_only_weights_are_loaded(
    run: Path, zoo_main: Zoo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """REQ-S2: every call of `torch.load`, Lightning's own too, gets a local file and the word weights_only=True."""
    calls: list[object] = []
    load = torch.load

    def note(file: Any, *arguments: Any, **options: Any) -> Any:
        calls.append(options.get("weights_only"))
        assert Path(getattr(file, "name", file)).is_file()
        return load(file, *arguments, **options)

    monkeypatch.setattr(torch, "load", note)
    assert zoo_main("fit", "--config", run / "config.yaml", "--resume", "--recipe.epochs", 2).status == 0
    assert zoo_main("test", "--ckpt_path", run / "checkpoints/best.ckpt").status == 0
    ImageClassifier.load_from_checkpoint(run / "checkpoints/last.ckpt")
    assert len(calls) >= 4
    assert set(calls) == {True}
