"""A short run of `tests.fuzz_models`, and what the long ones found."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings

import zoo
from tests.fuzz_models import check
from tests.fuzz_models_cases import Case, cases, wrong_cases
from zoo.finetune import Finetune
from zoo.recipe import Recipe

SHORT: dict[str, Any] = {
    "derandomize": True,
    "deadline": None,
    "database": None,
    "suppress_health_check": [HealthCheck.too_slow],
}
NAN = float("nan")


@settings(max_examples=80, **SHORT)
@given(cases(heavy=False))
def test_models_are_trained_saved_and_loaded_or_refused(case: Case) -> None:
    check(case)


@settings(max_examples=60, **SHORT)
@given(wrong_cases())
def test_wrong_values_are_refused_by_name(case: Case) -> None:
    assert check(case) == "refused"


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("lenet5", {"dropout": NAN}, r"dropout is nan: it must be a finite number \(float\)"),
        ("lenet5", {"dropout": True}, "dropout is True: it must be a finite number"),
        ("lenet5", {"num_classes": "10"}, r"num_classes is '10': it must be a whole number \(int\)"),
        ("lenet5", {"num_classes": 2.5}, "num_classes is 2.5: it must be a whole number"),
        ("lenet5", {"num_classes": np.int64(3)}, r"num_classes is np.int64\(3\): it must be a whole number"),
        ("lenet5", {"num_classes": 10**30}, "num_classes is 10+: it must be at most 1,048,576"),
        ("softmax", {"image_size": 10**12}, "image_size is 10+: it must be at most 1,048,576"),
        ("lenet5", {"init": 3}, r"init is 3: it must be text \(str\)"),
        ("lenet5", {"init": "he\n"}, r"init is 'he\\n'\."),
        ("mlp", {"hidden": "12"}, "hidden is '12': it must be a list, each item of it a whole number"),
        ("mlp", {"hidden": [2.5]}, r"hidden is \[2.5\]: it must be a list"),
        ("mlp", {"hidden": {30: 1}}, r"hidden is \{30: 1\}: it must be a list"),
        ("mlp", {"hidden": [10**30]}, "every width must be at most 1,048,576"),
        ("alexnet", {"lrn": "false"}, "lrn is 'false': it must be True or False"),
        ("alexnet", {"groups": True}, "groups is True. Known: 1, 2"),
        ("resnet20", {"preactivation": "false"}, "preactivation is 'false': it must be True or False"),
        (
            "resnet20",
            {"zero_init_residual": "false"},
            "zero_init_residual is 'false': it must be True or False or None",
        ),
        ("resnet20", {"depth": "20"}, "depth is '20': it must be a whole number"),
        ("resnet20", {"depth": NAN}, "depth is nan: it must be a whole number"),
        ("resnet20", {"depth": 6 * 10**9 + 2}, "depth is 60+2: CIFAR's ResNets have .* such as 9998"),
        ("timm", {"backbone": None}, "backbone is None: it must be text"),
    ],
)
def test_wrong_kinds_of_arguments_are_refused(name: str, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=rf"^[^\n]*{message}[^\n]*$"):
        zoo.create_model(name, **arguments)


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        (Recipe, {"lr": float("inf")}, "recipe.lr is inf: it must be a finite number"),
        (Recipe, {"lr": "0.1"}, "recipe.lr is '0.1': it must be a finite number"),
        (Recipe, {"lr": np.float64(0.1)}, r"recipe.lr is np.float64\(0.1\): it must be a finite number"),
        (Recipe, {"epochs": 2.5}, "recipe.epochs is 2.5: it must be a whole number"),
        (Recipe, {"decay_all": "false"}, "recipe.decay_all is 'false': it must be True or False"),
        (Recipe, {"milestones": 0.5}, "recipe.milestones is 0.5: it must be a list"),
        (Recipe, {"loss": "mse\n"}, "recipe.loss is mse: it must be one of"),
        (Recipe, {"optimizer": "nesterov", "momentum": 0}, "recipe.momentum is 0: it must be above 0 with"),
        (Finetune, {"freeze_bn": "false"}, "finetune.freeze_bn is 'false': it must be True or False"),
        (Finetune, {"head_lr": "1"}, "finetune.head_lr is '1': it must be a finite number"),
        (Finetune, {"method": "gradual", "unfreeze_every": 1.5}, "finetune.unfreeze_every is 1.5: it must be a whole"),
    ],
)
def test_wrong_kinds_of_settings_are_refused(kind: type, values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=rf"^{message}[^\n]*$"):
        kind(**values)


def test_new_classes_and_images_are_checked_too() -> None:
    model = zoo.create_model("lenet5")
    with pytest.raises(ValueError, match=r"^num_classes is 2\.5: it must be a whole number \(int\)$"):
        model.reset_classifier(2.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^num_classes is 0: it must be at least 1$"):
        model.reset_classifier(0)
    with pytest.raises(ValueError, match=r"^images have shape \(\): lenet5 was built for \(1, 32, 32\)"):
        model(torch.zeros(3))


def test_networks_of_others_need_no_hints() -> None:
    """Hints that exist for the type checker only, as under `if TYPE_CHECKING`, are none of our business."""

    class Theirs(zoo.ImageClassifier):
        def __init__(self, num_classes: int = 2, extra: "Missing" = None) -> None:  # type: ignore[name-defined]  # noqa: F821
            super().__init__(num_classes, 1, 8)

    assert Theirs(3).hparams["num_classes"] == 3
