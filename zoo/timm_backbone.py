"""Any network of timm by its name: what this package does not write itself.

Wightman, PyTorch Image Models, 2019, https://github.com/huggingface/pytorch-image-models.

| name | backbone                                | parameters, 1000 classes at 224 px |
|------|-----------------------------------------|------------------------------------|
| timm | mobilenetv2_100 (`backbone` sets any)   | 3,504,872                          |

The families of the Keras Applications table, https://keras.io/api/applications, under timm's names (timm's networks
leave out Keras' biases before batch normalisation and the statistics that Keras counts as parameters):

| Keras             | backbone            | parameters |
|-------------------|---------------------|------------|
| Xception          | legacy_xception     | 22,855,952 |
| InceptionV3       | inception_v3        | 23,834,568 |
| InceptionResNetV2 | inception_resnet_v2 | 55,843,464 |
| MobileNet         | mobilenetv1_100     | 4,231,976  |
| MobileNetV2       | mobilenetv2_100     | 3,504,872  |
| DenseNet121       | densenet121         | 7,978,856  |
| DenseNet169       | densenet169         | 14,149,480 |
| DenseNet201       | densenet201         | 20,013,928 |
| NASNetLarge       | nasnetalarge        | 88,753,150 |
| ResNet50V2        | resnetv2_50         | 25,549,352 |
| ResNet101V2       | resnetv2_101        | 44,541,480 |
| ResNet152V2       | resnetv2_152        | 60,185,128 |
| EfficientNetB0    | efficientnet_b0     | 5,288,548  |
| EfficientNetB7    | efficientnet_b7     | 66,347,960 |

timm has no NASNetMobile.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from zoo.classifier import ImageClassifier
from zoo.registry import InputSize, ModelInfo, closest, model_info, nearest

if TYPE_CHECKING:
    from timm.models import PretrainedCfg

# timm is imported where it is used: every command knows this class, and few need these 30 MB.


class TimmModel(ImageClassifier):
    """A network of timm; `create_model("timm", backbone=..., pretrained=True)` gives it timm's weights.

    Args:
        num_classes: Number of classes.
        in_channels: Channels of the images.
        image_size: Height and width of the images in pixels.
        backbone: A name of timm, such as densenet121 or resnet18.a1_in1k; `zoo list 'timm/*'` lists them.
        dropout: Probability of dropout before the last layer (timm's drop_rate).

    Raises:
        ValueError: If timm has no such network, or if it cannot take images of that size.
    """

    def __init__(
        self,
        num_classes: int = 10,
        in_channels: int = 3,
        image_size: int = 224,
        backbone: str = "mobilenetv2_100",
        dropout: float = 0.0,
    ) -> None:
        super().__init__(num_classes, in_channels, image_size)
        check_backbone(backbone)
        if not 0 <= dropout <= 1:
            raise ValueError(f"dropout is {dropout}: it must be from 0 to 1")
        self.any_size = not configuration(backbone).fixed_input_size  # type: ignore[misc]  # here it is the network's
        if not _takes(backbone, in_channels, image_size):
            raise ValueError(_size_message(backbone, in_channels, image_size))
        self.backbone: Any = create_network(
            backbone, in_channels, image_size, num_classes=num_classes, drop_rate=dropout
        )
        self.to(memory_format=torch.channels_last)

    @property
    def output(self) -> nn.Module:
        """The layer that gives the logits; the heads of a distilled network, which are averaged, as a list."""
        layer = self.backbone.get_classifier()
        return nn.ModuleList(layer) if isinstance(layer, tuple) else layer

    def forward_features(self, x: Tensor) -> Tensor:
        """Images `(N, in_channels, S, S)` to timm's unpooled features."""
        z: Tensor = self.backbone.forward_features(x)
        return z

    def forward_head(self, z: Tensor) -> Tensor:
        """Features to logits `(N, num_classes)`."""
        logits: Tensor = self.backbone.forward_head(z)
        return logits

    def replace_output(self, num_classes: int) -> None:
        """Let timm replace its last layer."""
        self.backbone.reset_classifier(num_classes)

    def stages(self) -> list[nn.Module]:
        """The parts of timm's network in its order, lists of blocks taken apart once; the last layer at the end.

        Parameters of the network itself, such as the class token and the position embedding of a vision transformer,
        belong to its first part.
        """
        output = self.output
        parts: list[nn.Module] = []
        heads = [*output] if isinstance(output, nn.ModuleList) else [output]
        for part in _parts(self.backbone, heads):
            parts += part.children() if isinstance(part, nn.Sequential | nn.ModuleList) else [part]
        parts = [part for part in parts if next(part.parameters(), None) is not None]
        if own := [*self.backbone.parameters(recurse=False)]:
            parts[0] = nn.ModuleList([parts[0], nn.ParameterList(own)])
        return [*parts, output]


def _parts(network: nn.Module, heads: list[nn.Module]) -> Iterator[nn.Module]:
    """The children of `network` without the last layers: one that holds them gives its own children."""
    for child in network.children():
        if any(child is head for head in heads):
            continue
        if any(module is head for module in child.modules() for head in heads):
            yield from _parts(child, heads)
        else:
            yield child


def timm_info(backbone: str) -> ModelInfo:
    """What timm says about one of its networks, as the facts of a model called `timm/NAME`.

    Raises:
        ValueError: If timm has no such network.
    """
    import timm

    check_backbone(backbone)
    own, info = configuration(backbone), model_info("timm")
    architecture = backbone.partition(".")[0]
    weights = [name.partition(".")[2] for name in timm.list_pretrained(f"{architecture}.*")]
    channels, _, size = own.input_size
    page = f"https://huggingface.co/{own.hf_hub_id}" if own.hf_hub_id else info.paper.url
    return replace(
        info,
        name=f"timm/{backbone}",
        paper=replace(info.paper, url=page),
        reference=InputSize(channels, size, own.num_classes or info.reference.num_classes),
        summary=f"timm's {architecture}; pretrained weights: {', '.join(weights) or 'none'}",
    )


def check_backbone(backbone: str) -> None:
    """Raise ValueError unless timm has a network of this name, or has weights of it under this tag."""
    import timm

    architecture, _, tag = backbone.partition(".")
    known = timm.list_models()
    if architecture not in known:
        near = closest(backbone, known)
        hint = f" Did you mean '{near}'?" if near else ""
        raise ValueError(f"timm has no backbone '{backbone}'.{hint} zoo list 'timm/*' lists all {len(known):,}")
    tags = [name.partition(".")[2] for name in timm.list_pretrained(f"{architecture}.*")]
    if tag and tag not in tags:
        raise ValueError(f"timm's {architecture} has no weights '{tag}'.{nearest(tag, tags)}")


def configuration(backbone: str) -> "PretrainedCfg":
    """What timm knows about the network, or about the weights that a tag names."""
    import timm

    facts = timm.get_pretrained_cfg(backbone)
    assert facts is not None
    return facts


def create_network(backbone: str, in_channels: int, image_size: int, **arguments: Any) -> nn.Module:
    """The network with random weights; those that are made for one image size are made for this one."""
    import timm

    if configuration(backbone).fixed_input_size:
        arguments["img_size"] = image_size
    network: nn.Module = timm.create_model(backbone, in_chans=in_channels, **arguments)
    return network


def _takes(backbone: str, in_channels: int, image_size: int) -> bool:
    """Whether the network can be built for images of this size and runs on one; no memory is used to find out.

    Raises:
        ValueError: If it cannot classify: some of timm's networks give features only.
    """
    with torch.device("meta"), torch.no_grad():
        try:
            network = create_network(backbone, in_channels, image_size, num_classes=2)
            logits = network.eval()(torch.zeros(1, in_channels, image_size, image_size))
            classifies = tuple(logits.shape) == (1, 2) and hasattr(network, "get_classifier")
        except (TypeError, AttributeError):  # no argument num_classes, or no tensor that comes out
            classifies = False
        except (RuntimeError, AssertionError, ValueError, ZeroDivisionError):
            return False
    if not classifies:
        raise ValueError(f"timm's {backbone} has no classifier: it gives features only. Choose another backbone")
    return True


def _size_message(backbone: str, in_channels: int, image_size: int) -> str:
    """Why an image size is refused, with the next larger one that works."""
    own = configuration(backbone).input_size[-1]
    larger = next(
        (size for size in range(32, own, 32) if size > image_size and _takes(backbone, in_channels, size)), own
    )
    return f"image_size is {image_size}: timm's {backbone} cannot take it, but {larger}; it was made for {own}"
