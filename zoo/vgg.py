"""VGG: Simonyan & Zisserman, Very Deep Convolutional Networks for Large-Scale Image Recognition, ICLR 2015.

https://arxiv.org/abs/1409.1556. Stacks of 3x3 convolutions (stride 1, padding 1) between 2x2 max-poolings, then two
fully connected layers of 4096 and the classes.

| name      | configuration | weight layers | parameters, 1000 classes at 224 px |
|-----------|---------------|---------------|------------------------------------|
| vgg11     | A             | 11            | 132,863,336                        |
| vgg11_lrn | A-LRN         | 11            | 132,863,336                        |
| vgg13     | B             | 13            | 133,047,848                        |
| vgg16c    | C             | 16            | 133,638,952                        |
| vgg16     | D             | 16            | 138,357,544                        |
| vgg19     | E             | 19            | 143,667,240                        |

Deviations from the paper: the first fully connected layer has as many inputs as the feature map has values at
`image_size` (the paper's 7 x 7 at 224 px), and the default initialisation is He's, with which all depths train from
scratch; the paper started the deeper networks from a trained configuration A. Layers, order and state-dict keys are
torchvision's for A, B, D and E, also with `norm="batch"` (its `vgg*_bn`).
"""

from typing import ClassVar

from torch import nn

from zoo.classifier import ImageClassifier
from zoo.convolution import Conv2d
from zoo.layers import Activation, Init, Norm, krizhevsky_lrn, make_activation, make_norm2d

# Table 1 of the paper: the kernel sizes of the convolutions in each of the five stages, and the stages' widths.
CONVOLUTIONS: dict[str, tuple[tuple[int, ...], ...]] = {
    "A": ((3,), (3,), (3, 3), (3, 3), (3, 3)),
    "A-LRN": ((3,), (3,), (3, 3), (3, 3), (3, 3)),
    "B": ((3, 3), (3, 3), (3, 3), (3, 3), (3, 3)),
    "C": ((3, 3), (3, 3), (3, 3, 1), (3, 3, 1), (3, 3, 1)),
    "D": ((3, 3), (3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3)),
    "E": ((3, 3), (3, 3), (3, 3, 3, 3), (3, 3, 3, 3), (3, 3, 3, 3)),
}
WIDTHS = (64, 128, 256, 512, 512)


class VGG(ImageClassifier):
    """A network of Table 1 of the VGG paper.

    Args:
        num_classes: Number of classes.
        in_channels: Channels of the images.
        image_size: Height and width of the images in pixels, at least 32. Five poolings leave a grid of
            image_size // 32 squared.
        norm: Layer between each convolution and its activation; `batch` is torchvision's `vgg*_bn`.
        dropout: Probability of dropout after the first two fully connected layers (paper: 0.5).
        activation: Activation after each convolution and the first two fully connected layers (paper: relu).
        init: Initialisation; `paper` is normal with variance 0.01, from which the paper trains A (section 3.1).

    Raises:
        ValueError: If an argument's value is not allowed.
    """

    classifier: nn.Sequential
    config: ClassVar[str] = "D"

    def __init__(
        self,
        num_classes: int = 10,
        in_channels: int = 3,
        image_size: int = 32,
        norm: Norm = "none",
        dropout: float = 0.5,
        activation: Activation = "relu",
        init: Init = "he",
    ) -> None:
        super().__init__(num_classes, in_channels, image_size)
        if image_size < 32:
            raise ValueError(f"image_size is {image_size}: VGG halves the image five times, so it needs at least 32")
        grid = image_size // 32
        self.features = make_features(self.config, in_channels, norm, activation)
        self.classifier = nn.Sequential(
            nn.Linear(512 * grid * grid, 4096),
            make_activation(activation),
            nn.Dropout(dropout),
            nn.Linear(4096, 4096),
            make_activation(activation),
            nn.Dropout(dropout),
            nn.Linear(4096, num_classes),
        )
        self.finish(init, paper=paper_init)

    def stages(self) -> list[nn.Module]:
        """The five convolution stages, the two hidden fully connected layers, and the last layer."""
        ends = [i + 1 for i, layer in enumerate(self.features) if isinstance(layer, nn.MaxPool2d)]
        convolutions = [self.features[start:end] for start, end in zip([0, *ends], ends, strict=False)]
        return [*convolutions, self.classifier[:3], self.classifier[3:6], self.output]


def make_features(config: str, in_channels: int, norm: Norm, activation: Activation) -> nn.Sequential:
    """The convolutional part of configuration `config`."""
    layers: list[nn.Module] = []
    for width, kernel_sizes in zip(WIDTHS, CONVOLUTIONS[config], strict=True):
        for kernel_size in kernel_sizes:
            conv = Conv2d(in_channels, width, kernel_size, padding=kernel_size // 2)
            layers += [conv, *make_norm2d(norm, width), make_activation(activation)]
            in_channels = width
        if config == "A-LRN" and width == WIDTHS[0]:
            layers.append(krizhevsky_lrn())
        layers.append(nn.MaxPool2d(kernel_size=2, stride=2))
    return nn.Sequential(*layers)


def paper_init(layer: nn.Module) -> None:
    """Normal with variance 0.01 (section 3.1)."""
    if isinstance(layer, nn.Conv2d | nn.Linear):
        nn.init.normal_(layer.weight, std=0.1)
