"""Some of the cases of `python -m tests.fuzz_checkpoints`, and inputs that once ended otherwise than in a line."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import zoo
from tests.conftest import Zoo
from tests.fuzz_checkpoints import run_case
from tests.fuzz_checkpoints_sources import Source, make_sources
from zoo.checkpoint import load_weights, read_checkpoint
from zoo.classifier import ImageClassifier
from zoo.weight_files import write_weights

CASES, WITH_COMMANDS = 30, 6


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Source]]:
    folder = tmp_path_factory.mktemp("sources")
    return folder, make_sources(folder, ["lenet5"])


def test_damaged_files_are_refused_or_mean_what_they_say(sources: tuple[Path, list[Source]]) -> None:
    folder, files = sources
    verdicts = [run_case(folder, files, 0, number, has_verb=number < WITH_COMMANDS) for number in range(CASES)]
    assert not [(number, v.what, v.problems) for number, v in enumerate(verdicts) if v.problems]
    assert sum(verdict.is_read for verdict in verdicts) > CASES // 4, "most of what is read goes further"
    assert 2 < sum(verdict.is_loaded for verdict in verdicts) < CASES
    assert {verdict.status for verdict in verdicts} == {-1, 0, 2}


# What was found


def change_facts(**changes: Any) -> Callable[[dict[str, Any]], None]:
    def change(content: dict[str, Any]) -> None:
        content["zoo"].update(changes)

    return change


def change_arguments(**changes: Any) -> Callable[[dict[str, Any]], None]:
    def change(content: dict[str, Any]) -> None:
        content["zoo"]["args"].update(changes)

    return change


def change_data(**changes: Any) -> Callable[[dict[str, Any]], None]:
    def change(content: dict[str, Any]) -> None:
        content["zoo"]["data"].update(changes)

    return change


def change_images(**changes: Any) -> Callable[[dict[str, Any]], None]:
    def change(content: dict[str, Any]) -> None:
        content["zoo"]["data"]["preprocessing"].update(changes)

    return change


def change_tensor(**changes: Any) -> Callable[[dict[str, Any]], None]:
    def change(content: dict[str, Any]) -> None:
        content["state_dict"].update({f"classifier.6.{name}": value for name, value in changes.items()})

    return change


DEEP: Any = 1
for _ in range(100):
    DEEP = [DEEP]
SHARED: Any = [1]
for _ in range(30):
    SHARED = [SHARED, SHARED]
FOUND: dict[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    "a layer of 40 TB": (change_arguments(num_classes=10**12), "num_classes is 1000000000000: it must be at most"),
    "text for a number": (change_arguments(num_classes="10"), "num_classes is '10': it must be a whole number"),
    "a size without end": (change_arguments(image_size=2**63), "it has a number that is not finite, or too large"),
    "no number": (change_arguments(dropout=float("nan")), "it has a number that is not finite"),
    "lists in lists": (change_arguments(hidden=DEEP), "it has more than 20 levels"),
    "lists that share": (change_arguments(hidden=SHARED), "it has more than 20 levels or 1,000,000 values"),
    "a set": (change_facts(version={1}), "it has a set, which is no plain value"),
    "a name that clears the screen": (change_facts(name="\x1b[2J"), r"name is '\\x1b\[2J', which no model can have"),
    "a label of two lines": (change_facts(pretrained="a\nb"), r"pretrained is 'a\\nb'"),
    "a recipe of text": (change_facts(recipe={"lr": "fast"}), "lr is 'fast', not a number"),
    "a recipe without a loss": (change_facts(recipe={"loss": "none"}), "recipe.loss is none: it must be one of"),
    "a field of no recipe": (change_facts(recipe={"speed": 1}), "there is no speed"),
    "a truth for a number": (change_facts(finetune={"head_lr": True}), "head_lr is True, not a number"),
    "data without arguments": (
        lambda content: content["zoo"]["data"].pop("args"),
        "args is None, not a dict",
    ),
    "data to fetch": (change_data(args={"download": True}), "data.args has download"),
    "more classes than outputs": (change_data(class_names=[*"abcdefghijk"]), "more class_names than num_classes, 10"),
    "an image of 4 PB": (change_images(image_size=2**25), "images of 33554432 pixels"),
    "a border without an image": (change_images(border=16), "images of 32 pixels with a border of 16"),
    "images of another size": (change_images(image_size=64), "takes images of image_size 32, and its data have 64"),
    "a deviation of nought": (change_images(std=[0.0]), r"std is \[0.0\], with 1 channels"),
    "a mean of text": (change_images(mean=["0"]), r"mean is \['0'\], with 1 channels"),
    "whole numbers": (change_tensor(bias=torch.ones(10, dtype=torch.int64)), r"is \(10,\) of whole numbers in the"),
    "a weight that is no number": (change_tensor(bias=torch.full((10,), torch.nan)), "holds nan or infinity in class"),
    "a weight that is text": (change_tensor(bias="1"), "is damaged: its state_dict holds more than tensors"),
    "weights without values": (change_tensor(bias=torch.ones(10, device="meta")), "not dense and real: classifier.6"),
}


@pytest.mark.parametrize("name", FOUND)
def test_a_wrong_checkpoint_is_one_line(name: str, sources: tuple[Path, list[Source]], tmp_path: Path) -> None:
    change, message = FOUND[name]
    sound = tmp_path / "sound.ckpt"
    sound.write_bytes(sources[1][0].data)
    content = copy.deepcopy(read_checkpoint(sound))
    change(content)
    torch.save(content, tmp_path / "wrong.ckpt")
    with pytest.raises(ValueError, match=message) as caught:
        zoo.load(tmp_path / "wrong.ckpt")
    assert str(caught.value).startswith(f"'{tmp_path}/wrong.ckpt' ")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("resnet20", {"depth": 9998}), ("mlp", {"hidden": [1] * 100_000})],
    ids=["depth", "layers"],
)
def test_a_network_of_endless_layers_is_not_built(name: str, arguments: dict[str, Any], tmp_path: Path) -> None:
    model = zoo.create_model(name)
    description = model.description()
    description["args"].update(arguments)
    write_weights(tmp_path / "a.safetensors", model.state_dict(), description)
    with pytest.raises(ValueError, match="its network has many more layers than the file has tensors"):
        zoo.load(tmp_path / "a.safetensors")


def test_weights_of_other_precision_are_converted(tmp_path: Path) -> None:
    """Runs in bfloat16 and float64 leave such checkpoints."""
    model = zoo.create_model("lenet5")
    for kind in (torch.bfloat16, torch.float64):
        other: ImageClassifier = zoo.create_model("lenet5")
        load_weights(other, {"state_dict": {k: v.to(kind) for k, v in model.state_dict().items()}}, "a.ckpt")
        assert all(v.dtype == torch.float32 for v in other.state_dict().values())
        assert torch.allclose(other.output.weight, model.output.weight, atol=0.01)


def test_an_unfinished_file_is_one_line(zoo_main: Zoo, tmp_path: Path) -> None:
    (tmp_path / "empty.ckpt").touch()
    outcome = zoo_main("test", "--ckpt_path", tmp_path / "empty.ckpt")
    assert outcome.err == f"zoo: error: '{tmp_path}/empty.ckpt' is empty: fetch it again\n"
