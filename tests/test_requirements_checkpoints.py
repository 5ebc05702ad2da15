"""REQ-S2 to S6: what a checkpoint loads as, what is in it, what damage is noticed, and what is fetched: nothing."""

from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from huggingface_hub import constants

import zoo
import zoo.names
from tests.conftest import Zoo
from zoo.classifier import ImageClassifier
from zoo.layers import INITS
from zoo.mlp import MLP
from zoo.registry import model_class
from zoo.resnet import ResNet
from zoo.weight_files import write_weights


def saved(model: ImageClassifier, path: Path) -> Path:
    """A checkpoint as Lightning writes it."""
    trainer = L.Trainer(logger=False, enable_checkpointing=False, enable_progress_bar=False, accelerator="cpu")
    trainer.strategy.connect(model)
    trainer.save_checkpoint(path, weights_only=True)
    return path


def test_a_checkpoint_loads_as_what_it_holds(tmp_path: Path) -> None:
    """REQ-S4: the file says which model it is; every class from which it descends loads it, and no other."""
    path = saved(zoo.create_model("resnet20", num_classes=3, norm="group", dropout=0.1), tmp_path / "a.ckpt")
    content = torch.load(path, weights_only=True)["zoo"]
    assert {"name", "version", "args", "data"} <= content.keys()
    loaders = (
        zoo.load,
        ImageClassifier.load_from_checkpoint,
        ResNet.load_from_checkpoint,
        zoo.names.resnet20.load_from_checkpoint,
    )
    for load in loaders:
        model = load(path)
        assert type(model) is zoo.names.resnet20
        assert not model.training
        assert dict(model.hparams) == content["args"]
    with pytest.raises(ValueError, match=r"holds the model 'resnet20', which is no lenet5: zoo\.load loads any"):
        zoo.names.lenet5.load_from_checkpoint(path)


class OwnNetwork(MLP):
    """A user's own, which the registry does not know."""


class OtherNetwork(MLP):
    """Another one of the same shape."""


def test_a_class_of_ones_own_loads_its_own_checkpoints(tmp_path: Path) -> None:
    """REQ-S4: by its name, and `zoo.load`, which cannot know it, says so."""
    model = OwnNetwork(num_classes=3)
    path = saved(model, tmp_path / "a.ckpt")
    assert type(OwnNetwork.load_from_checkpoint(path)) is OwnNetwork
    for load in (zoo.load, OtherNetwork.load_from_checkpoint):
        with pytest.raises(ValueError, match="holds the model 'OwnNetwork', which is not registered"):
            load(path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_classes": 3}, "num_classes is 3"),
        ({"hparams_file": "hparams.yaml"}, "hparams_file is 'hparams.yaml'"),
        ({"strict": False}, "strict is False"),
        ({"weights_only": False}, "weights_only is False"),
        ({"map_location": {"cuda:0": "cpu"}}, "map_location is {'cuda:0': 'cpu'}"),
    ],
)
def test_options_that_would_be_ignored_are_refused(options: dict[str, Any], message: str) -> None:
    """REQ-S2: nothing turns the protection off, and no option of Lightning's method is silently dropped."""
    with pytest.raises(ValueError, match=f"^{message}: a checkpoint is loaded as it was saved, leave "):
        ImageClassifier.load_from_checkpoint("lenet5.mnist", **options)


def test_options_that_hold_are_taken() -> None:
    model = zoo.names.lenet5.load_from_checkpoint("lenet5.mnist", map_location="cpu", strict=True, weights_only=True)
    assert model.class_names == [*"0123456789"]
    assert model.device == torch.device("cpu")


# REQ-S3

UNUSUAL: dict[str, Any] = {
    **{"num_classes": 3, "in_channels": 2, "norm": "group", "dropout": 0.25, "activation": "silu"},
    **{"init": next(name for name in INITS if name != "he"), "hidden": [7, 5], "shortcut": "B", "lrn": True},
}


def is_plain(value: object) -> bool:
    if isinstance(value, dict):
        return all(isinstance(key, str) and is_plain(item) for key, item in value.items())
    if isinstance(value, list):
        return all(map(is_plain, value))
    return value is None or type(value) in (str, int, float, bool)


@pytest.mark.parametrize("name", zoo.list_models())
def test_what_a_checkpoint_says_is_plain(name: str, tmp_path: Path) -> None:
    """REQ-S3: arguments, recipe and data of every model are plain values, load without code, and build it again."""
    network = model_class(name)
    arguments = {key: value for key, value in UNUSUAL.items() if key in network.__init__.__annotations__}
    with torch.device("meta"):
        model = network(**arguments)
        path = tmp_path / "a.ckpt"
        torch.save({"hyper_parameters": dict(model.hparams), "zoo": model.description()}, path)
        content = torch.load(path, weights_only=True)
        again = network(**content["zoo"]["args"])
    assert is_plain(content)
    assert content["zoo"]["args"] == content["hyper_parameters"] == dict(model.hparams)
    assert content["zoo"]["args"].items() >= arguments.items()
    shapes = [{key: value.shape for key, value in network.state_dict().items()} for network in (model, again)]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("name", ["lenet5_1998", "mlp", "resnet20", "alexnet", "vgg11", "timm"])
def test_checkpoints_of_every_family_come_back(name: str, tmp_path: Path) -> None:
    """REQ-S3: with unusual arguments, tensor for tensor."""
    network = model_class(name)
    arguments = {key: value for key, value in UNUSUAL.items() if key in network.__init__.__annotations__}
    if name == "timm":
        arguments["image_size"] = 32
    model = network(**arguments)
    loaded = zoo.load(saved(model, tmp_path / "a.ckpt"))
    assert dict(loaded.hparams) == dict(model.hparams)
    assert all(torch.equal(loaded.state_dict()[key], value) for key, value in model.state_dict().items())


# REQ-S5: what we release is compared with a SHA-256 first, tests/test_pretrained.py; here, what everybody writes


@pytest.mark.parametrize("kind", ["ckpt", "safetensors"])
def test_a_flipped_bit_of_any_file_is_noticed(kind: str, tmp_path: Path) -> None:
    """REQ-S5: checkpoints and exported files say that they are damaged where one bit of a weight has changed."""
    model, path = zoo.create_model("lenet5"), tmp_path / f"weights.{kind}"
    if kind == "ckpt":
        saved(model, path)
    else:
        write_weights(path, model.state_dict(), model.description())
    content = bytearray(path.read_bytes())
    values = model.state_dict()["classifier.3.weight"].contiguous().numpy().tobytes()
    content[content.index(values) + 1234] ^= 4
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"damaged: (Bad CRC-32|its content does not have the SHA-256)"):
        zoo.load(path)


# REQ-S6


def test_timm_offline_is_one_line_at_once(tmp_path: Path, zoo_main: Zoo, monkeypatch: pytest.MonkeyPatch) -> None:
    """REQ-S6: HF_HUB_OFFLINE and the cache are named, in Python and by the command; nobody is asked."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    with pytest.raises(ConnectionError) as caught:
        zoo.create_model("timm", backbone="resnet18", pretrained=True)
    outcome = zoo_main("fit", "--model", "timm", "--model.backbone", "resnet18", "--pretrained", "true")
    assert outcome.status == 2
    for message in (str(caught.value), outcome.err.strip()):
        assert "\n" not in message
        assert "HF_HUB_OFFLINE is set" in message
        assert str(tmp_path / "cache") in message


def test_a_hub_that_hangs_up_is_asked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """REQ-S6: no retries where the network is not there; the line names the hub and the cache."""
    from zoo import hub

    asked: list[str] = []

    def fault(where: str, _: object) -> str:
        asked.append(where)
        return f"{where} cannot be reached"

    monkeypatch.setattr(hub, "_fault", fault)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    with pytest.raises(ConnectionError, match=r"is not in .*cache.*, and .* cannot be reached") as caught:
        zoo.create_model("timm", backbone="resnet18", pretrained=True)
    assert "\n" not in str(caught.value)
    assert len(asked) == 1
