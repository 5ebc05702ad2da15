"""AlexNet: Krizhevsky, Sutskever & Hinton, ImageNet Classification with Deep Convolutional Neural Networks, NIPS 2012.

https://papers.nips.cc/paper/4824-imagenet-classification-with-deep-convolutional-neural-networks. The single column is
Krizhevsky's of 2014, One weird trick for parallelizing convolutional neural networks, https://arxiv.org/abs/1404.5997.

| name         | widths of the convolutions | LRN | groups | parameters, 1000 classes at 224 px |
|--------------|----------------------------|-----|--------|------------------------------------|
| alexnet      | 64-192-384-256-256         | no  | 1      | 61,100,840                         |
| alexnet_2012 | 96-256-384-384-256         | yes | 2      | 60,965,224                         |

`alexnet` has torchvision's layers, order and state-dict keys, and like torchvision 256 maps in conv4, where a footnote
of the 2014 paper says 384. `alexnet_2012` is the paper's network: conv2, conv4 and
conv5 see the maps of their own GPU only, which is a convolution with two groups. Images below 63 pixels, of which four
halvings and more leave nothing, get a first convolution with stride 2 and padding 5 in place of 4 and 2.
"""

from collections.abc import Callable
from typing import ClassVar, Literal

from torch import nn

from zoo.classifier import ImageClassifier
from zoo.convolution import Conv2d
from zoo.layers import Activation, Init, Norm, check_choice, krizhevsky_lrn, make_activation, make_norm2d, split_before

MIN_IMAGE_SIZE = {3: 29, 2: 15}
"""By the size of the pooling: what leaves one pixel after the three of them."""
PAPER_STEM_SIZE = 63
"""The smallest image of which the paper's first convolution, stride 4, leaves something after three poolings."""

# Section 3.5 and Fig. 2 of the 2012 paper; the single column of 2014, as torchvision has it.
WIDTHS = {"2012": (96, 256, 384, 384, 256), "2014": (64, 192, 384, 256, 256)}


class AlexNet(ImageClassifier):
    """Five convolutions, three poolings, three fully connected layers.

    Args:
        num_classes: Number of classes.
        in_channels: Channels of the images.
        image_size: Height and width of the images in pixels, at least 29 (paper: 224).
        norm: Layer between each convolution and its activation (paper: none).
        dropout: Probability of dropout at the two hidden fully connected layers (paper: 0.5).
        activation: Activation of the hidden layers (paper: relu).
        lrn: Local response normalisation after the first two convolutions (section 3.3).
        groups: Groups of conv2, conv4 and conv5: 2 as on the paper's two GPUs, or 1.
        overlapping: Pooling of 3x3 with stride 2 (section 3.4), or of 2x2.
        init: Initialisation; `paper` is normal with deviation 0.01, biases 1 in conv2, conv4, conv5 and the hidden
            fully connected layers (section 5).

    Raises:
        ValueError: If an argument's value is not allowed.
    """

    classifier: nn.Sequential
    config: ClassVar[str] = "2014"

    def __init__(
        self,
        num_classes: int = 10,
        in_channels: int = 3,
        image_size: int = 64,
        norm: Norm = "none",
        dropout: float = 0.5,
        activation: Activation = "relu",
        lrn: bool = False,
        groups: Literal[1, 2] = 1,
        overlapping: bool = True,
        init: Init = "he",
    ) -> None:
        super().__init__(num_classes, in_channels, image_size)
        check_choice("groups", groups, Literal[1, 2])
        conv1, conv2, conv3, conv4, conv5 = WIDTHS[self.config]
        pool_size = 3 if overlapping else 2
        stride, padding = (4, 2) if image_size >= PAPER_STEM_SIZE else (2, 5)

        def after(width: int) -> list[nn.Module]:
            return [*make_norm2d(norm, width), make_activation(activation)]

        def pool() -> nn.Module:
            return nn.MaxPool2d(kernel_size=pool_size, stride=2)

        grid = (image_size + 2 * padding - 11) // stride + 1
        for _ in range(3):
            grid = (grid - pool_size) // 2 + 1
        if grid < 1:
            least = MIN_IMAGE_SIZE[pool_size]
            raise ValueError(f"image_size is {image_size}: AlexNet needs at least {least} with this pooling")
        self.features = nn.Sequential(
            Conv2d(in_channels, conv1, kernel_size=11, stride=stride, padding=padding),
            *after(conv1),
            *([krizhevsky_lrn()] if lrn else []),
            pool(),
            Conv2d(conv1, conv2, kernel_size=5, padding=2, groups=groups),
            *after(conv2),
            *([krizhevsky_lrn()] if lrn else []),
            pool(),
            Conv2d(conv2, conv3, kernel_size=3, padding=1),
            *after(conv3),
            Conv2d(conv3, conv4, kernel_size=3, padding=1, groups=groups),
            *after(conv4),
            Conv2d(conv4, conv5, kernel_size=3, padding=1, groups=groups),
            *after(conv5),
            pool(),
        )
        hidden = [nn.Linear(conv5 * grid * grid, 4096), make_activation(activation), nn.Dropout(dropout)]
        hidden += [nn.Linear(4096, 4096), make_activation(activation), nn.Dropout(dropout)]
        if self.config == "2014":  # dropout before each hidden layer; in 2012 after it (section 4.2)
            hidden = [hidden[i] for i in (2, 0, 1, 5, 3, 4)]
        self.classifier = nn.Sequential(*hidden, nn.Linear(4096, num_classes))
        self.finish(init, paper=self._paper_init())

    def stages(self) -> list[nn.Module]:
        """The convolutions, each with what follows it, the two hidden fully connected layers, and the last layer."""
        return [*split_before(nn.Conv2d, self.features), self.classifier[:3], self.classifier[3:6], self.output]

    def _paper_init(self) -> Callable[[nn.Module], None]:
        """Section 5: normal with deviation 0.01; biases of 1 start most ReLUs in their linear part."""
        layers = [layer for layer in self.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
        ones = [layers[i] for i in (1, 3, 4, 5, 6)]  # conv2, conv4, conv5 and the hidden fully connected layers

        def init(layer: nn.Module) -> None:
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.normal_(layer.weight, std=0.01)
                if any(layer is one for one in ones) and layer.bias is not None:
                    nn.init.ones_(layer.bias)

        return init
