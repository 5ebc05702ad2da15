"""The network of a run: built for its data, and counted."""

import functools
import json

import zoo
from zoo.benchmarks.settings import Settings
from zoo.classifier import ImageClassifier
from zoo.datamodules.base import ImageDataModule
from zoo.datamodules.registry import dataset_spec
from zoo.recipe import Recipe
from zoo.registry import model_info


def build_model(settings: Settings, data: ImageDataModule) -> ImageClassifier:
    """The network for these data, with the recipe; the data prepare images as its weights expect them."""
    info, arguments = model_info(settings.model), dict(settings.model_arguments)
    pretrained = settings.protocol["pretrained"]
    # Of the data set asked for: CIFAR-10 as class folders has 32 pixels too, though folders have images of any size.
    spec = dataset_spec(settings.data)
    native = info.reference.image_size if spec.any_size else spec.image_size
    wanted = settings.data_options.get("image_size") or max(native, info.image_size)
    arguments.setdefault("in_channels", data.in_channels)
    if not pretrained:
        arguments = {"image_size": wanted, "num_classes": data.num_classes, **arguments}
    model = zoo.create_model(settings.model, pretrained=pretrained or None, **arguments)
    data.image_size = model.image_size
    if model.preprocessing:
        data.use_preprocessing(model.preprocessing)
    model.recipe = Recipe(**settings.recipe)
    model.finetune = zoo.Finetune(**settings.finetune)
    data.batch_size = model.recipe.batch_size
    if pretrained and (model.class_names or data.class_names) != data.class_names:
        model.reset_classifier(data.num_classes)
    return model


@functools.lru_cache(maxsize=64)
def multiply_adds(model: str, arguments: str) -> int | None:
    """Multiply-adds for one image; None where the network cannot be counted."""
    from zoo.summary import summarize

    try:
        return summarize(model, **json.loads(arguments)).macs
    except (RuntimeError, NotImplementedError):
        return None
