"""LeNet-5: LeCun, Bottou, Bengio & Haffner, Proc. IEEE 86(11), 1998, section II-B, Fig. 2 and Table I.

http://yann.lecun.com/exdb/publis/pdf/lecun-98.pdf

| name        | activation  | S2 and S4   | C3      | output | parameters, 10 classes, 1 channel, 32 px |
|-------------|-------------|-------------|---------|--------|------------------------------------------|
| lenet5      | ReLU        | max-pooling | dense   | linear | 61,706                                   |
| lenet5_1998 | scaled tanh | trained     | partial | RBF    | 60,000                                   |

`lenet5` is what textbooks draw today, `lenet5_1998` what the paper describes. Each difference is a flag: `activation`,
`subsampling`, `c3`, `head`, `init` and the recipe's loss.
Both see C5, a 5x5 convolution of a 5x5 map, as the fully connected layer that it is at 32 px.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.classifier import ImageClassifier
from zoo.layers import (
    Activation,
    Init,
    Norm,
    check_choice,
    lecun_1998_init,
    make_activation,
    make_norm1d,
    make_norm2d,
)

Subsampling = Literal["max", "average", "trained"]
Connections = Literal["dense", "partial"]
Head = Literal["linear", "rbf"]

MIN_IMAGE_SIZE = 16
"""Two 5x5 convolutions without padding and two poolings leave nothing of a smaller image."""

# Table I: the maps of S2 that each map of C3 sees.
C3_TABLE = (
    *((0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5), (0, 4, 5), (0, 1, 5)),
    *((0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (0, 3, 4, 5), (0, 1, 4, 5), (0, 1, 2, 5)),
    *((0, 1, 3, 4), (1, 2, 4, 5), (0, 2, 3, 5)),
    (0, 1, 2, 3, 4, 5),
)

# Fig. 3: the digits as bitmaps of 7 x 12 pixels, row by row; + is 1, - is -1.
BITMAPS = (
    "-+++++- ------- --+++-- -++-++- ++---++ ++---++ ++---++ ++---++ -++-++- --+++-- ------- -------",
    "---++-- --+++-- -++++-- ---++-- ---++-- ---++-- ---++-- ---++-- ---++-- -++++++ ------- -------",
    "-+++++- ------- -+++++- ++---++ +----++ ----++- --+++-- -++---- ++----- +++++++ ------- -------",
    "+++++++ -----++ ----++- ---++-- --++++- -----++ -----++ -----++ ++---++ -+++++- ------- -------",
    "-+++++- ------- ------- -++--++ -++--++ +++--++ ++---++ ++---++ ++--+++ -++++++ -----++ -----++",
    "-+++++- ------- +++++++ ++----- ++----- -++++-- --++++- -----++ ++---++ -+++++- ------- -------",
    "--++++- -++---- ++----- ++----- ++++++- +++--++ ++---++ ++---++ +++--++ -+++++- ------- -------",
    "+++++++ -----++ -----++ ----++- ---++-- ---++-- --++--- --++--- --++--- --++--- ------- -------",
    "-+++++- ++---++ ++---++ ++---++ -+++++- ++---++ ++---++ ++---++ ++---++ -+++++- ------- -------",
    "-+++++- ++--+++ ++---++ ++---++ ++--+++ -++++++ -----++ -----++ ----++- -++++-- ------- -------",
)


class LeNet5(ImageClassifier):
    """LeNet-5 in its modern form, or piece by piece in that of 1998.

    Args:
        num_classes: Number of classes; at most 10 with the `rbf` head.
        in_channels: Channels of the images.
        image_size: Height and width of the images in pixels, at least 16 (paper: 32).
        norm: Layer between each hidden layer and its activation (paper: none).
        dropout: Probability of dropout after C5 and F6 (paper: 0).
        activation: Activation of the hidden layers (paper: scaled_tanh).
        subsampling: S2 and S4: max or average over 2x2, or `trained`, the sum times a coefficient plus a bias (paper).
        c3: Whether each map of C3 sees all maps of S2, or those of Table I: dense or partial (paper).
        head: linear, or `rbf`: distances to the fixed bitmaps of the digits (paper, with --recipe.loss map).
        init: Initialisation; `paper` is uniform in +-2.4 / fan_in.

    Raises:
        ValueError: If an argument's value is not allowed.
    """

    classifier: nn.Sequential

    def __init__(
        self,
        num_classes: int = 10,
        in_channels: int = 1,
        image_size: int = 32,
        norm: Norm = "none",
        dropout: float = 0.0,
        activation: Activation = "relu",
        subsampling: Subsampling = "max",
        c3: Connections = "dense",
        head: Head = "linear",
        init: Init = "he",
    ) -> None:
        super().__init__(num_classes, in_channels, image_size)
        if image_size < MIN_IMAGE_SIZE:
            raise ValueError(f"image_size is {image_size}: LeNet-5 needs at least {MIN_IMAGE_SIZE}")
        check_choice("c3", c3, Connections)
        check_choice("head", head, Head)
        grid = ((image_size - 4) // 2 - 4) // 2
        # The fully connected layers normalise as the convolutions do; instance norm has no meaning there.
        linear_norm: Norm = "none" if norm == "instance" else norm
        self.features = nn.Sequential(
            nn.Conv2d(in_channels, 6, kernel_size=5),  # C1
            *make_norm2d(norm, 6),
            make_activation(activation),
            *make_subsampling(subsampling, 6, activation),  # S2
            PartialConv2d(C3_TABLE) if c3 == "partial" else nn.Conv2d(6, 16, kernel_size=5),  # C3
            *make_norm2d(norm, 16),
            make_activation(activation),
            *make_subsampling(subsampling, 16, activation),  # S4
        )
        self.classifier = nn.Sequential(
            nn.Linear(16 * grid * grid, 120),  # C5
            *make_norm1d(linear_norm, 120),
            make_activation(activation),
            nn.Dropout(dropout),
            nn.Linear(120, 84),  # F6
            *make_norm1d(linear_norm, 84),
            make_activation(activation),
            nn.Dropout(dropout),
            EuclideanRBF(num_classes) if head == "rbf" else nn.Linear(84, num_classes),
        )
        self.finish(init, paper=paper_init)

    @property
    def output(self) -> nn.Module:
        """The layer that gives the logits."""
        return self.classifier[-1]

    def new_output(self, num_classes: int) -> nn.Module:
        """A last layer for `num_classes` classes; RBF units keep to the digits' bitmaps."""
        return EuclideanRBF(num_classes) if isinstance(self.output, EuclideanRBF) else super().new_output(num_classes)

    def stages(self) -> list[nn.Module]:
        """C1 to S2, C3 to S4, the hidden fully connected layers, and the last layer."""
        middle = len(self.features) // 2
        return [self.features[:middle], self.features[middle:], self.classifier[:-1], self.output]


def make_subsampling(subsampling: Subsampling, channels: int, activation: Activation) -> list[nn.Module]:
    """What halves the maps; an activation follows the trained form only, as in the paper."""
    check_choice("subsampling", subsampling, Subsampling)
    if subsampling == "trained":
        return [SubSampling(channels), make_activation(activation)]
    return [nn.MaxPool2d(2) if subsampling == "max" else nn.AvgPool2d(2)]


class SubSampling(nn.Module):
    """S2 and S4: the sum of each 2x2 square, times the map's coefficient, plus the map's bias."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((channels,), 0.25))  # the average, unless the paper's init is chosen
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Maps `(N, C, H, W)` to `(N, C, H // 2, W // 2)`."""
        total = 4 * F.avg_pool2d(x, kernel_size=2)
        return total * self.weight[:, None, None] + self.bias[:, None, None]


class PartialConv2d(nn.Module):
    """C3: a 5x5 convolution in which each output map sees the input maps that `table` lists for it."""

    connections: Tensor

    def __init__(self, table: tuple[tuple[int, ...], ...], kernel_size: int = 5) -> None:
        super().__init__()
        self.table = table
        self.shape = (len(table), 1 + max(map(max, table)), kernel_size, kernel_size)
        pairs = [(output, source) for output, sources in enumerate(table) for source in sources]
        self.weight = nn.Parameter(torch.zeros(len(pairs), kernel_size, kernel_size))
        self.bias = nn.Parameter(torch.zeros(len(table)))
        self.register_buffer("connections", torch.tensor(pairs).T, persistent=False)

    def kernels(self) -> list[tuple[Tensor, Tensor]]:
        """Each output map's weights `(1, inputs, 5, 5)` and bias `(1,)`, as views."""
        parts = torch.split(self.weight.detach(), [len(sources) for sources in self.table])
        return [(part[None], bias) for part, bias in zip(parts, torch.split(self.bias.detach(), 1), strict=True)]

    def forward(self, x: Tensor) -> Tensor:
        """Maps `(N, 6, H, W)` to `(N, 16, H - 4, W - 4)`."""
        outputs, inputs = self.connections
        dense = self.weight.new_zeros(self.shape).index_put((outputs, inputs), self.weight)
        return F.conv2d(x, dense, self.bias)


class EuclideanRBF(nn.Module):
    """The output: minus the squared distance of F6 to each class's bitmap; nothing here is trained.

    Raises:
        ValueError: If there are more classes than bitmaps.
    """

    bitmaps: Tensor

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        if num_classes > len(BITMAPS):
            raise ValueError(
                f"num_classes is {num_classes}: the rbf head has the bitmaps of {len(BITMAPS)} digits. Use head linear"
            )
        rows = [bitmap.replace(" ", "") for bitmap in BITMAPS[:num_classes]]
        codes = [[1.0 if pixel == "+" else -1.0 for pixel in row] for row in rows]
        self.register_buffer("bitmaps", torch.tensor(codes), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """F6 `(N, 84)` to logits `(N, num_classes)`, the penalties of the paper's eq. 7 with the sign changed."""
        return -(x[:, None, :] - self.bitmaps).square().sum(dim=2)


def paper_init(layer: nn.Module) -> None:
    """Uniform in [-2.4 / fan_in, 2.4 / fan_in] (appendix A); a sub-sampling unit adds up four inputs."""
    lecun_1998_init(layer)
    if isinstance(layer, SubSampling):
        nn.init.uniform_(layer.weight, -2.4 / 4, 2.4 / 4)
        nn.init.uniform_(layer.bias, -2.4 / 4, 2.4 / 4)
