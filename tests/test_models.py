"""The contract of every registered model: a new one is tested by being registered."""

import ast
import inspect
import re
from pathlib import Path
from typing import get_args

import lightning as L
import pytest
import torch
import torch.nn.functional as F

import zoo
from zoo.classifier import ImageClassifier
from zoo.layers import INITS, Activation, Norm
from zoo.registry import model_class

# Deeper networks of a family are built of the same blocks: the smallest stands for them where a test computes.
DEEP = {"resnet34", "resnet101", "resnet152", "plain34", "vgg13", "vgg16", "vgg19"}
DEEP |= {name for name in zoo.list_models() if re.fullmatch("(resnet|plain)(32|44|56|110|1202)", name)}
NAMES = [name for name in zoo.list_models() if name not in DEEP]
FAMILIES = ["lenet5", "lenet5_1998", "mlp", "vgg11", "alexnet", "resnet18", "resnet20"]


def flags_of(name: str) -> set[str]:
    return {*inspect.signature(model_class(name)).parameters}


def build(name: str, **arguments: object) -> ImageClassifier:
    """The model at a small size; what a network of timm has no flag for is left out."""
    size = max(zoo.model_info(name).image_size, 16)
    if arguments.get("norm") == "instance" and "stem" in flags_of(name):
        size += 1  # else the last maps have one pixel, which has no variance
    arguments = {key: value for key, value in arguments.items() if name != "timm" or key in flags_of(name)}
    return zoo.create_model(name, **{"num_classes": 10, "image_size": size, **arguments})


def images(model: ImageClassifier, number: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(number, model.in_channels, model.image_size, model.image_size, generator=generator)


@pytest.mark.parametrize("name", zoo.list_models())
def test_parameters_are_those_of_the_facts(name: str) -> None:
    info = zoo.model_info(name)
    at = info.reference
    with torch.device("meta"):
        model = zoo.create_model(name, num_classes=at.num_classes, in_channels=at.in_channels, image_size=at.image_size)
    assert sum(parameter.numel() for parameter in model.parameters()) == info.parameters


@pytest.mark.parametrize("name", zoo.list_models())
def test_docstring_table_has_the_parameters(name: str) -> None:
    info = zoo.model_info(name)
    module = Path(zoo.__file__).parent / f"{info.family.partition(':')[0].rpartition('.')[2]}.py"
    docstring = ast.get_docstring(ast.parse(module.read_text())) or ""
    row = next(line for line in docstring.splitlines() if re.match(rf"\| {name} ", line))
    assert f"{info.parameters:,}" in row


@pytest.mark.parametrize(("in_channels", "num_classes"), [(1, 2), (3, 10)])
@pytest.mark.parametrize("name", NAMES)
def test_logits_have_a_column_for_each_class(name: str, in_channels: int, num_classes: int) -> None:
    model = build(name, in_channels=in_channels, num_classes=num_classes).eval()
    x = images(model)
    logits = model(x)
    assert logits.shape == (2, num_classes)
    assert torch.equal(logits, model.forward_head(model.forward_features(x)))
    assert torch.equal(logits, model(x)), "evaluation is deterministic"


@pytest.mark.parametrize("norm", ["none", "batch"])
@pytest.mark.parametrize("name", NAMES)
def test_gradient_reaches_every_parameter(name: str, norm: str) -> None:
    start = {"zero_init_residual": False} if "zero_init_residual" in flags_of(name) else {}
    model = build(name, norm=norm, dropout=0.0, activation="tanh", **start)
    F.cross_entropy(model(images(model, 4)), torch.arange(4)).backward()
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert torch.isfinite(parameter.grad).all(), parameter_name
        # A bias before batch normalisation shifts what the normalisation subtracts: its gradient is zero in theory.
        if norm == "none" or parameter.ndim > 1:
            assert parameter.grad.abs().sum() > 0, parameter_name


@pytest.mark.parametrize("name", NAMES)
def test_stages_hold_every_parameter_once_from_input_to_output(name: str) -> None:
    model = build(name)
    owned = [id(parameter) for stage in model.stages() for parameter in stage.parameters()]
    assert owned == [id(parameter) for parameter in model.parameters()]
    assert model.stages()[-1] is model.output


@pytest.mark.parametrize("name", NAMES)
def test_reset_classifier_changes_the_last_layer_only(name: str) -> None:
    model = build(name).eval()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    model.reset_classifier(3)
    assert model(images(model)).shape == (2, 3)
    assert model.hparams["num_classes"] == 3
    after = model.state_dict()
    changed = [key for key in before if before[key].shape != after[key].shape]
    assert len(changed) == len(list(model.output.parameters())), "weight and bias, or the RBF units that have neither"
    assert all(torch.equal(before[key], after[key]) for key in before if key not in changed)


@pytest.mark.parametrize("name", NAMES)
def test_checkpoint_round_trip_needs_tensors_and_plain_values_only(name: str, tmp_path: Path) -> None:
    model = build(name, norm="batch", num_classes=4).eval()
    model.class_names = list("abcd")
    trainer = L.Trainer(logger=False, enable_checkpointing=False, enable_progress_bar=False, accelerator="cpu")
    trainer.strategy.connect(model)
    path = tmp_path / "model.ckpt"
    trainer.save_checkpoint(path, weights_only=True)
    assert torch.load(path, weights_only=True)["zoo"]["name"] == name
    loaded = zoo.load(path)
    assert type(loaded) is type(model)
    assert loaded.class_names == list("abcd")
    assert loaded.recipe == model.recipe
    x = images(model)
    assert torch.equal(loaded(x), model(x))


@pytest.mark.parametrize("name", FAMILIES)
def test_every_norm_and_activation_builds_and_runs(name: str) -> None:
    flags = [{"norm": norm} for norm in get_args(Norm) if (name, norm) != ("mlp", "instance")]
    flags += [{"activation": activation, "norm": "none"} for activation in get_args(Activation)]
    for flag in flags:
        model = build(name, **flag)
        assert torch.isfinite(model(images(model))).all(), flag


@pytest.mark.parametrize("init", [*(init for init in INITS if init != "normal(STD)"), "normal(0.1)"])
@pytest.mark.parametrize("name", ["lenet5", "lenet5_1998", "mlp", "resnet20"])
def test_every_init_builds_and_runs(name: str, init: str) -> None:
    model = build(name, init=init)
    assert torch.isfinite(model(images(model))).all()


def test_he_initialisation_keeps_the_variance_through_nineteen_layers() -> None:
    model = zoo.create_model("vgg19", dropout=0.0)
    std = model(images(model, 8)).std().item()
    assert 0.1 < std < 10


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("vgg16", {"norm": "bacth"}, "Did you mean 'batch'"),
        ("vgg16", {"activation": "rulu"}, "Did you mean 'relu'"),
        ("vgg16", {"init": "hee"}, "Did you mean 'he'"),
        ("vgg16", {"image_size": 31}, "image_size is 31.*at least 32"),
        ("lenet5", {"image_size": 15}, "image_size is 15.*at least 16"),
        ("mlp", {"norm": "instance"}, "norm is 'instance'"),
        ("mlp", {"hidden": [300, 0]}, "every width must be at least 1"),
        ("mlp", {"num_classes": 0}, "num_classes is 0"),
        ("lenet5", {"dropout": 1.5}, "1.5"),
        ("lenet5", {"subsampling": "trainde"}, "Did you mean 'trained'"),
        ("mlp", {"activation": "maxuot"}, "activation is 'maxuot'"),
        ("mlp", {"activation": "maxout", "maxout_pieces": 0}, "maxout_pieces is 0"),
        ("alexnet", {"image_size": 28}, "image_size is 28: AlexNet needs at least 29"),
        ("alexnet", {"groups": 3}, "groups is 3. .*Known: 1, 2"),
        ("resnet18", {"depth": 19}, "depth is 19: Table 1 has 18, 34, 50, 101, 152. The nearest is 18"),
        ("resnet20", {"depth": 21}, r"depth is 21: CIFAR's ResNets have 6n \+ 2 layers, .* such as 20"),
        ("resnet20", {"shortcut": "D"}, "shortcut is 'D'. .*Known: A, B, C, none"),
        ("plain20", {"zero_init_residual": True}, "zero_init_residual is True, but without shortcuts"),
        ("softmax", {"activation": "bogus"}, "activation is 'bogus'"),
        ("softmax", {"norm": "bogus"}, "norm is 'bogus'"),
        ("timm", {"dropout": 1.5}, "dropout is 1.5: it must be from 0 to 1"),
        ("timm", {"backbone": "deepseek_vit_412m_enc"}, "has no classifier"),
        ("alexnet", {"image_size": 14, "overlapping": False}, "image_size is 14: AlexNet needs at least 15"),
        ("resnet18", {"stem": "smal"}, "Did you mean 'small'"),
        (
            "resnet18",
            {"norm": "instance", "image_size": 32},
            "image_size is 32: with norm 'instance' and stem 'imagenet'.* at least 33",
        ),
        ("timm", {"backbone": "resnt18"}, "timm has no backbone 'resnt18'. Did you mean 'resnet18'"),
        ("timm", {"backbone": "resnet18.a9_in1k"}, "resnet18 has no weights 'a9_in1k'. Did you mean 'a1_in1k'"),
        ("timm", {"backbone": "hf-hub:timm/resnet18"}, "timm has no backbone 'hf-hub:timm/resnet18'"),
        ("timm", {"backbone": "inception_v3", "image_size": 32}, "image_size is 32: .* cannot take it, but 96"),
    ],
)
def test_wrong_arguments_are_named(name: str, arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        zoo.create_model(name, **arguments)


def test_image_of_another_size_is_named() -> None:
    model = zoo.create_model("lenet5")
    with pytest.raises(ValueError, match=r"\(1, 28, 28\).*built for \(1, 32, 32\)"):
        model(torch.zeros(2, 1, 28, 28))


def test_mlp_takes_any_widths() -> None:
    assert zoo.create_model("mlp", hidden=[]).stages()[0].in_features == 784
    model = zoo.create_model("mlp", hidden=[30])
    assert sum(p.numel() for p in model.parameters()) == 23_860  # Nielsen's 784-30-10


def test_lenet5_equals_the_layers_written_out() -> None:
    model = zoo.create_model("lenet5").eval()
    weights = list(model.parameters())
    x = images(model)
    c1 = F.max_pool2d(F.relu(F.conv2d(x, weights[0], weights[1])), 2)
    c3 = F.max_pool2d(F.relu(F.conv2d(c1, weights[2], weights[3])), 2)
    c5 = F.relu(F.linear(c3.flatten(1), weights[4], weights[5]))
    f6 = F.relu(F.linear(c5, weights[6], weights[7]))
    torch.testing.assert_close(model(x), F.linear(f6, weights[8], weights[9]))


def test_each_model_has_its_own_defaults() -> None:
    assert inspect.signature(model_class("resnet20")).parameters["shortcut"].default == "A"
    assert inspect.signature(model_class("plain20")).parameters["shortcut"].default == "none"
    assert inspect.signature(model_class("resnet18")).parameters["shortcut"].default == "B"
    assert zoo.create_model("plain20").hparams["shortcut"] == "none", "a checkpoint says what was built"
    assert zoo.create_model("resnet20", depth=8).hparams["depth"] == 8


def built(name: str, **flags: object) -> tuple[str, list[float]]:
    """The layers of a model, and the scale of its weights."""
    torch.manual_seed(0)
    size = zoo.model_info(name).image_size
    model = zoo.create_model(name, **{"image_size": max(size, 16), **flags})
    return str(model), [round(parameter.std(correction=0).item(), 4) for parameter in model.parameters()]


LEDGER = [(name, deviation.flag) for name in NAMES for deviation in zoo.model_info(name).deviations if deviation.flag]


@pytest.mark.parametrize(("name", "flag"), LEDGER)
def test_flags_of_the_ledger_change_what_they_say(name: str, flag: str) -> None:
    option, value = flag.split()
    place, _, key = option.removeprefix("--").partition(".")
    info = zoo.model_info(name)
    if option == "--recipe":
        assert info.recipe(value) != info.recipe()
    elif place == "recipe":
        assert info.recipe().replace(**{key: value}) != info.recipe()
    elif option == "--data.augment":
        assert value == "none"  # test_data_augment.py holds what it means
    else:
        plain = {"true": True, "2": 2, "224": 224}.get(value, value)
        assert built(name, **{key: plain}) != built(name)


def test_deep_networks_are_represented() -> None:
    for name in DEEP:
        assert zoo.model_info(name).family in {zoo.model_info(small).family for small in NAMES}
