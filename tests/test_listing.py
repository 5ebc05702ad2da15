"""`zoo list` and `zoo info`: filters, layer tables, several models side by side, timm's networks."""

import json
import re

import pytest

import zoo
from tests.conftest import Zoo
from zoo.summary import stored_summary

RESNETS = ["resnet20", "resnet32", "resnet44", "resnet56"]


def first_words(text: str) -> list[str]:
    return [line.split()[0] for line in text.splitlines() if line.strip()]


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["res*", "--max-params", "1M"], RESNETS),
        (["res*", "--max-params=900k", "--min-year", "2016"], RESNETS),
        (["--family", "lenet"], ["lenet5", "lenet5_1998"]),
        (["--max-params", "7850"], ["perceptron", "softmax"]),
        (["lenet*", "vgg1?", "lenet5"], ["lenet5", "lenet5_1998", "vgg11", "vgg13", "vgg16", "vgg19"]),
        ([], zoo.list_models()),
    ],
)
def test_filters(words: list[str], names: list[str], zoo_main: Zoo) -> None:
    table = zoo_main("list", *words)
    assert table.status == 0, table.err
    assert first_words(table.out)[1:] == names
    facts = json.loads(zoo_main("list", *words, "--json").out)
    assert [entry["name"] for entry in facts] == names
    assert all(entry["parameters"] == zoo.model_info(entry["name"]).parameters for entry in facts)
    assert all(entry["macs"] == stored_summary(entry["name"]).macs for entry in facts)


def test_python_has_the_same_filters() -> None:
    assert zoo.list_models("res*", max_parameters=1_000_000) == RESNETS
    assert zoo.list_models(family="lenet", min_year=1999) == []


def test_timms_names(zoo_main: Zoo) -> None:
    listed = zoo_main("list", "timm/densenet*").out.split()
    assert {"timm/densenet121", "timm/densenet169", "timm/densenet201"} <= set(listed)
    assert all(name.startswith("timm/densenet") for name in listed)
    mixed = zoo_main("list", "timm/densenet121", "lenet5", "timm/densenet12*").out.split()
    assert mixed == ["timm/densenet121", "lenet5"]
    assert json.loads(zoo_main("list", "timm/densenet121", "--json").out) == [{"name": "timm/densenet121"}]


def test_layer_table_with_totals(zoo_main: Zoo) -> None:
    out = zoo_main("info", "lenet5_1998").out
    rows = [line.split() for line in out.splitlines() if re.match(r"  (features|classifier)\.\d", line)]
    assert [row[-2] for row in rows] == ["156", "12", "1,516", "32", "48,120", "10,164", "0"]
    assert "  features.0    Conv2d 5x5     6 x 28 x 28          156  117,600" in out
    assert re.search(r"  total +60,000 +415,680\n", out)
    assert "removed by --data.augment none" in out


def test_totals_at_another_size(zoo_main: Zoo) -> None:
    out = zoo_main("info", "vgg16", "--image-size", 32, "--num-classes", 10, "--in-channels", 3).out
    assert "parameters  33,638,218 (3 x 32 x 32, 10 classes)" in out
    assert re.search(r"features.24 +3 x Conv2d 3x3 +512 x 2 x 2 ", out)

    small = zoo_main("info", "resnet18", "--image-size", 112).out
    assert "parameters  11,689,512 (3 x 112 x 112, 1000 classes)" in small


def test_side_by_side(zoo_main: Zoo) -> None:
    out = zoo_main("info", "resnet20", "plain20", "vgg16c").out
    heading, *rows = out.splitlines()
    assert heading.split() == ["resnet20", "plain20", "vgg16c"]
    start = [heading.index(name) for name in ("resnet20", "plain20", "vgg16c")]
    (parameters,) = [row for row in rows if row.startswith("parameters")]
    assert [parameters[i:].split()[0] for i in start] == ["269,722", "269,722", "133,638,952"]
    (error,) = [row for row in rows if row.startswith("CIFAR-10 test error")]
    assert "8.75 %" in error and "9.5 %" in error
    assert "--model.image_size 224" in out


def test_a_network_of_timm(zoo_main: Zoo) -> None:
    out = zoo_main("info", "timm/densenet121").out
    assert "parameters  7,978,856 (3 x 224 x 224, 1000 classes)" in out
    assert "backbone.features.denseblock1" in out
    assert "zoo fit --model timm/densenet121" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["list", "xyz"], "no model matches 'xyz'. Known: "),
        (["list", "vgg*", "--max-params", "1k"], "no model matches 'vgg*' --max-params 1,000"),
        (["list", "--family", "vg"], "unknown family 'vg'. Did you mean 'vgg'?"),
        (["list", "--max-params", "lots"], "'lots' is no number such as 500k or 1M"),
        (["list", "--max-params", "inf"], "'inf' is no number such as 500k or 1M"),
        (["list", "--min-year", "new"], "invalid int value: 'new'"),
        (["list", "--frobnicate"], "unrecognized arguments: --frobnicate"),
        (["list", "timm/*", "--max-params", "1M"], "--max-params does not filter timm's networks"),
        (["list", "timm/nothing*"], "no model matches 'timm/nothing*'."),
        (["list", "timm/resnet18", "timm/resnt5?"], "no model matches 'timm/resnt5?'. Did you mean 'timm/resnet5"),
        (["list", "timm/resnet18", "vgg99"], "no model matches 'vgg99'. Did you mean 'vgg"),
        (["list", "vgg16", "vgg99"], "no model matches 'vgg99'. Did you mean 'vgg"),
        (["info"], "zoo info needs a name"),
        (["info", "vgg61"], "unknown model 'vgg61'. Did you mean 'vgg16'?"),
        (["info", "alexnet", "--image-size", "28"], "image_size is 28: AlexNet needs at least 29"),
        (["info", "vgg16", "--image-size", "0"], "image_size is 0"),
        (["info", "lenet5_1998", "--num-classes", "11"], "the rbf head has the bitmaps of 10 digits"),
        (["info", "timm/resnt18"], "timm has no backbone 'resnt18'. Did you mean 'resnet18'?"),
        (["info", "timm/inception_v3", "--image-size", "32"], "cannot take it, but 96; it was made for 299"),
    ],
)
def test_wrong_input(words: list[str], message: str, zoo_main: Zoo) -> None:
    outcome = zoo_main(*words)
    assert outcome.status == 2
    assert message in outcome.err
    assert len(outcome.err.splitlines()) == 1
    assert not outcome.out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["list", "--family", "vgg", "--family", "resnet"], "--family is given twice, as vgg and resnet: say one of"),
        (["info", "lenet5", "--image-size", "64", "--image-size=32"], "--image-size is given twice, as 64 and 32"),
        (["export", "C", "--format", "onnx", "--format", "safetensors"], "--format is given twice, as onnx and safe"),
        (["search", "--trials", "1", "--trials", "2"], "--trials is given twice, as 1 and 2: say one of them"),
        (["benchmark", "speed", "--rounds", "4", "--rounds", "8"], "--rounds is given twice, as 4 and 8"),
        (
            ["benchmark", "speed", "--model", "mlp", "lenet5", "--model", "vgg11"],
            "--model is given twice, as mlp lenet5 and vgg11: name all after one of them",
        ),
    ],
)
def test_of_an_option_that_is_typed_twice_no_value_is_dropped(words: list[str], message: str, zoo_main: Zoo) -> None:
    outcome = zoo_main(*words)
    assert (outcome.status, outcome.out, outcome.err.count("\n")) == (2, "", 1)
    assert message in outcome.err


def test_the_same_value_twice_is_that_value(zoo_main: Zoo) -> None:
    twice = zoo_main("list", "--max-params", "1M", "--max-params=1000000", "--json", "--json")
    assert twice.out == zoo_main("list", "--max-params", "1M", "--json").out
