"""The registry, the recipes, and what they promise."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import lightning as L
import pytest
import torch
from torch import nn

import zoo
from zoo import names
from zoo.datamodules import Digits
from zoo.optim import make_optimizer, parameter_groups, rate_factor
from zoo.recipe import Recipe
from zoo.registry import MODELS, closest

ROOT = Path(__file__).parent.parent


def test_listing_and_describing_import_no_torch() -> None:
    code = (
        "import sys, zoo; zoo.list_models(); zoo.model_info('vgg16'); print([m for m in sys.modules if m == 'torch'])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True, cwd=ROOT).strip() == "[]"


def test_names_are_unique() -> None:
    with pytest.raises(ValueError, match="'vgg16' is already registered"):
        zoo.register_model(zoo.model_info("vgg16"))


def test_a_model_needs_a_default_recipe() -> None:
    with pytest.raises(ValueError, match="no 'default' recipe"):
        zoo.register_model(dataclasses.replace(zoo.model_info("vgg16"), name="vgg99", recipes={}))


@pytest.mark.parametrize("name", zoo.list_models())
def test_one_string_names_the_class_everywhere(name: str) -> None:
    cls = getattr(names, name)
    assert cls.__name__ == name
    assert cls.__module__ == "zoo.names"
    assert type(zoo.create_model(name)) is cls


def test_unknown_names_get_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"unknown model 'vgg61'\. Did you mean 'vgg16'"):
        zoo.create_model("vgg61")
    with pytest.raises(ValueError, match=r"vgg16 has no recipe 'papre'\. Did you mean 'paper'"):
        zoo.create_model("vgg16", recipe="papre")
    assert closest("xyzzy", MODELS) is None


def test_patterns() -> None:
    assert zoo.list_models("vgg1?") == ["vgg11", "vgg13", "vgg16", "vgg19"]
    assert zoo.list_models("nothing") == []


@pytest.mark.parametrize("name", zoo.list_models())
def test_facts_carry_their_sources(name: str) -> None:
    info = zoo.model_info(name)
    assert info.paper.url.startswith("http")
    assert all(result.source for result in info.published)
    assert all(recipe.source for recipe in info.recipes.values())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lr": 0.0}, "recipe.lr is 0.0: it must be greater than 0"),
        ({"optimizer": "sgdm"}, "recipe.optimizer is sgdm"),
        ({"schedule": "cos"}, "recipe.schedule is cos"),
        ({"epochs": 0}, "recipe.epochs is 0"),
        ({"momentum": 1.0}, "recipe.momentum is 1.0"),
        ({"layer_decay": 0.0}, "recipe.layer_decay is 0.0"),
        ({"milestones": (0.7, 0.5)}, "recipe.milestones"),
        ({"mixup": 0.2, "cutmix": 1.0}, "choose one"),
    ],
)
def test_recipe_checks_its_values(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Recipe().replace(**change)


def test_schedules_are_functions_of_the_step() -> None:
    cosine = Recipe(schedule="cosine", warmup_epochs=1)
    factors = [rate_factor(cosine, step, 40, 10) for step in range(41)]
    assert factors[:10] == pytest.approx([(step + 1) / 11 for step in range(10)])
    assert factors[10] == 1.0
    assert factors[25] == pytest.approx(0.5)
    assert factors[40] == pytest.approx(0.0)
    step = Recipe(schedule="step", milestones=(0.5, 0.75))
    assert [rate_factor(step, s, 4, 1) for s in range(4)] == pytest.approx([1, 1, 0.1, 0.01])
    assert rate_factor(Recipe(schedule="linear"), 1, 4, 1) == 0.75
    assert rate_factor(Recipe(schedule="constant"), 3, 4, 1) == 1.0


def test_weight_decay_spares_biases_unless_the_recipe_decays_all() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))
    groups = list(parameter_groups(model, [model[0], model[1], model[2]], Recipe(weight_decay=0.1)))
    assert all(p.ndim > 1 for g in groups if g["weight_decay"] for p in g["params"])
    assert sum(len(g["params"]) for g in groups) == len(list(model.parameters()))
    decayed = list(parameter_groups(model, [model[0]], Recipe(weight_decay=0.1, decay_all=True)))
    assert {g["weight_decay"] for g in decayed} == {0.1}


def test_layer_decay_lowers_the_rate_towards_the_input() -> None:
    model = nn.Sequential(nn.Linear(4, 3, bias=False), nn.Linear(3, 2, bias=False))
    optimizer = make_optimizer(model, [model[0], model[1]], Recipe(lr=1.0, layer_decay=0.5))
    assert [group["lr"] for group in optimizer.param_groups] == [0.5, 1.0]


def test_what_no_stage_holds_stands_at_the_input() -> None:
    """A transformer's position embedding belongs to no part of it."""
    model = zoo.create_model("timm", backbone="vit_tiny_patch16_224", image_size=32)
    groups = list(parameter_groups(model, model.stages(), Recipe(lr=1.0, layer_decay=0.5)))
    rate = {id(parameter): group["lr"] for group in groups for parameter in group["params"]}
    assert rate.keys() == {id(parameter) for parameter in model.parameters()}
    assert rate[id(model.backbone.pos_embed)] == min(rate.values()) == 0.5 ** (len(model.stages()) - 1)
    assert rate[id(model.output.weight)] == 1.0


@pytest.mark.parametrize(
    ("name", "kind"),
    [("sgd", torch.optim.SGD), ("nesterov", torch.optim.SGD), ("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)],
)
def test_optimizers(name: str, kind: type[torch.optim.Optimizer]) -> None:
    layer = nn.Linear(2, 2)
    optimizer = make_optimizer(layer, [layer], Recipe(optimizer=name))
    assert type(optimizer) is kind
    assert optimizer.defaults.get("nesterov", False) == (name == "nesterov")


@pytest.mark.parametrize(("name", "kind"), [("recipe", "Recipe"), ("finetune", "Finetune")])
def test_how_a_model_is_trained_is_no_text(name: str, kind: str) -> None:
    with pytest.raises(TypeError, match=rf"^{name} is 'paper': it must be a zoo\.{kind}$"):
        setattr(zoo.create_model("mlp"), name, "paper")


def test_values_of_another_kind() -> None:
    with pytest.raises(TypeError, match=r"^recipe is \{'lr': 1\}: it must be a name or a zoo\.Recipe$"):
        zoo.create_model("mlp", recipe={"lr": 1})  # type: ignore[arg-type]  # which is what is tested
    with pytest.raises(ValueError, match=r"^unknown model '5'\. Known: "):
        zoo.create_model(5)  # type: ignore[arg-type]  # likewise
    with pytest.raises(TypeError, match=r"^None is no ModelInfo$"):
        zoo.register_model(None)  # type: ignore[arg-type]  # likewise


def test_fewer_classes_than_the_data_have() -> None:
    trainer = L.Trainer(max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    with pytest.raises(ValueError, match=r"^num_classes is 5, but the data have 10 classes$"):
        trainer.fit(zoo.create_model("mlp", num_classes=5, image_size=8), Digits())
