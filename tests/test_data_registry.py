"""Names, facts and the cost of importing."""

import re
import subprocess
import sys

import pytest

import zoo.datamodules
from zoo.datamodules import DatasetSpec, create_datamodule, dataset_spec, list_datasets
from zoo.datamodules.augment import POLICIES
from zoo.datamodules.options import DataOptions

CLASSES = {
    "cifar10": 10,
    "cifar100": 100,
    "digits": 10,
    "emnist": 47,
    "fake": 10,
    "fashion_mnist": 10,
    "kmnist": 10,
    "mnist": 10,
    "svhn": 10,
}
"""How many classes the datasets have whose classes are known before any image is read."""


def test_names() -> None:
    assert list_datasets() == sorted(list_datasets())
    assert set(CLASSES) <= set(list_datasets())
    assert list_datasets("*mnist") == ["emnist", "fashion_mnist", "kmnist", "mnist"]
    assert list_datasets("nothing*") == []


@pytest.mark.parametrize("name", list_datasets())
def test_spec_is_consistent(name: str) -> None:
    spec = dataset_spec(name)
    assert isinstance(spec, DatasetSpec)
    assert spec.name == name
    assert spec.num_classes == len(set(spec.class_names)) == CLASSES.get(name, 0)
    assert len(spec.mean) == len(spec.std) == (spec.in_channels if spec.mean or name in CLASSES else 0)
    assert spec.augment in POLICIES
    assert "\n" not in spec.title


def test_characters_are_never_mirrored() -> None:
    characters = {"digits", "emnist", "kmnist", "mnist", "svhn"}
    assert {name for name in CLASSES if not dataset_spec(name).mirror} == characters


def test_unknown_dataset_names_the_nearest() -> None:
    with pytest.raises(
        ValueError, match=r"^unknown dataset 'minst': did you mean 'mnist'\? choose from cifar10, cifar100, "
    ):
        create_datamodule("minst")


def test_unknown_argument_names_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"^unknown argument of digits 'batchsize': did you mean 'batch_size'\?"):
        create_datamodule("digits", batchsize=3)


@pytest.mark.parametrize("name", list_datasets())
def test_every_name_is_a_class_of_that_name(name: str) -> None:
    from zoo.datamodules import ImageDataModule, names

    build = getattr(names, name)
    assert isinstance(build, type)
    assert issubclass(build, ImageDataModule)
    assert (build.__name__, build.__module__) == (name, "zoo.datamodules.names")
    assert "Args:" in build.__doc__


@pytest.mark.parametrize(("name", "classes"), CLASSES.items())
def test_every_dataset_of_known_classes_is_built_by_name(name: str, classes: int) -> None:
    data = create_datamodule(name, **({"root": "somewhere"} if dataset_spec(name).needs_root else {}))
    assert (type(data).__name__, data.num_classes) == (name, classes)


@pytest.mark.parametrize(
    ("name", "argument", "nearest"),
    [
        ("Digits", "bath_size", ": did you mean 'batch_size'?"),
        ("Digits", "xyz", ""),
        ("Fake", "num_clases", ": did you mean 'num_classes'?"),
        ("MNIST", "val_sise", ": did you mean 'val_size'?"),
        ("MNIST", "downlod", ": did you mean 'download'?"),
        ("Folder", "on_eror", ": did you mean 'on_error'?"),
        ("CSV", "clases", ": did you mean 'classes'?"),
        ("HuggingFace", "image_colum", ": did you mean 'image_column'?"),
        ("WebDataset", "train_sample", ": did you mean 'train_samples'?"),
        ("WebDataset", "cache", ""),
    ],
)
def test_misspelt_options_are_refused(name: str, argument: str, nearest: str) -> None:
    build = getattr(zoo.datamodules, name)
    place = [] if name in ("Digits", "Fake") else ["somewhere"]
    message = f"{name}() got an unexpected keyword argument '{argument}'{nearest}"
    with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
        build(*place, **{argument: 3})


def test_none_means_not_given() -> None:
    given = dict.fromkeys(DataOptions.__annotations__)
    assert create_datamodule("digits", **given).describe() == create_datamodule("digits").describe()


def test_lazy_exports() -> None:
    for name in zoo.datamodules.__all__:
        assert getattr(zoo.datamodules, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'CIFAR1000'"):
        zoo.datamodules.CIFAR1000  # noqa: B018


def run_python(code: str) -> str:
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_listing_imports_no_torch() -> None:
    heavy = (
        "[m for m in ('torch', 'lightning', 'numpy', 'sklearn', 'albumentations', 'cv2', 'PIL') if m in sys.modules]"
    )
    code = (
        "import sys, zoo.datamodules as d; d.list_datasets(); d.dataset_spec('mnist'); import zoo.datamodules.registry"
    )
    assert run_python(f"{code}; print({heavy})") == "[]"


def test_nothing_opens_a_socket() -> None:
    """REQ-A4: in a fresh process, neither importing the package nor building any policy asks the network."""
    code = """
import socket
def refuse(*args, **kwargs): raise AssertionError(f"a connection to {args}")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
import zoo.datamodules.names
from zoo.datamodules import Fake
from zoo.datamodules.augment import POLICIES
for policy in POLICIES:
    data = Fake(augment=policy, num_samples=200)
    assert len(next(iter(data.train_dataloader()))[0]) == 128
print(len(POLICIES))
import os, sys
assert "albumentations" in sys.modules and os.environ["NO_ALBUMENTATIONS_UPDATE"] == "1"
"""
    assert run_python(code) == "10"
