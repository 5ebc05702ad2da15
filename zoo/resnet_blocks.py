"""The building blocks of residual networks, and what their shortcuts are.

He, Zhang, Ren & Sun, Deep Residual Learning for Image Recognition, CVPR 2016, https://arxiv.org/abs/1512.03385, Fig. 5:
`BasicBlock` and `Bottleneck`, with torchvision's names for the layers. By the same authors, Identity Mappings in Deep
Residual Networks, ECCV 2016, https://arxiv.org/abs/1603.05027, Fig. 1b: the same two with the activation first.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch.nn.functional as F
from torch import Tensor, nn

from zoo.convolution import Conv2d
from zoo.layers import Activation, Norm, make_activation, make_norm2d

Shortcut = Literal["A", "B", "C", "none"]


@dataclass(frozen=True)
class BlockFlags:
    """What all blocks of a network have in common; `ResNet` says what each means."""

    shortcut: Shortcut
    norm: Norm
    dropout: float
    activation: Activation
    stride_in_1x1: bool = False


class Block(nn.Module):
    """What all blocks share. They map `(N, in_channels, H, W)` to `(N, width * expansion, H / stride, W / stride)`.

    Attributes:
        downsample: What stands on the shortcut: nothing, a projection, or padding; None in a plain network.
    """

    expansion: ClassVar[int]
    downsample: nn.Module | None

    def __init__(self, in_channels: int, width: int, stride: int, flags: BlockFlags) -> None:
        super().__init__()

    def branch_layers(self) -> list[nn.Module]:
        """The layers with weights on the residual branch, from input to output."""
        layers = [layer for name, layer in self.named_modules() if not name.startswith("downsample")]
        return [layer for layer in layers if hasattr(layer, "weight")]


class BasicBlock(Block):
    """Two 3x3 convolutions."""

    expansion = 1

    def __init__(self, in_channels: int, width: int, stride: int, flags: BlockFlags) -> None:
        super().__init__(in_channels, width, stride, flags)
        self.conv1 = conv(3, in_channels, width, flags.norm, stride)
        self.bn1 = norm_layer(flags.norm, width)
        self.conv2 = conv(3, width, width, flags.norm)
        self.bn2 = norm_layer(flags.norm, width)
        self.relu = make_activation(flags.activation)
        self.dropout = nn.Dropout(flags.dropout)
        self.downsample = make_shortcut(in_channels, width, stride, flags)

    def forward(self, x: Tensor) -> Tensor:
        """The residual branch and the shortcut, added and activated."""
        z = self.dropout(self.relu(self.bn1(self.conv1(x))))
        z = self.bn2(self.conv2(z))
        out: Tensor = self.relu(add_shortcut(z, self.downsample, x))
        return out


class Bottleneck(Block):
    """A 1x1 convolution to `width` channels, a 3x3, and a 1x1 to four times as many."""

    expansion = 4

    def __init__(self, in_channels: int, width: int, stride: int, flags: BlockFlags) -> None:
        super().__init__(in_channels, width, stride, flags)
        first, second = (stride, 1) if flags.stride_in_1x1 else (1, stride)
        self.conv1 = conv(1, in_channels, width, flags.norm, first)
        self.bn1 = norm_layer(flags.norm, width)
        self.conv2 = conv(3, width, width, flags.norm, second)
        self.bn2 = norm_layer(flags.norm, width)
        self.conv3 = conv(1, width, 4 * width, flags.norm)
        self.bn3 = norm_layer(flags.norm, 4 * width)
        self.relu = make_activation(flags.activation)
        self.dropout = nn.Dropout(flags.dropout)
        self.downsample = make_shortcut(in_channels, 4 * width, stride, flags)

    def forward(self, x: Tensor) -> Tensor:
        """The residual branch and the shortcut, added and activated."""
        z = self.relu(self.bn1(self.conv1(x)))
        z = self.dropout(self.relu(self.bn2(self.conv2(z))))
        z = self.bn3(self.conv3(z))
        out: Tensor = self.relu(add_shortcut(z, self.downsample, x))
        return out


class PreActivationBlock(Block):
    """Normalisation and activation before each convolution, nothing after the sum.

    Where the shortcut changes the shape, it starts from the activated input, as the branch does.
    """

    def __init__(self, in_channels: int, width: int, stride: int, flags: BlockFlags) -> None:
        super().__init__(in_channels, width, stride, flags)
        # Not in place: without normalisation, the activation would overwrite what the shortcut still needs.
        activation = make_activation(flags.activation, inplace=False)
        self.activate: nn.Module = nn.Sequential(norm_layer(flags.norm, in_channels), activation)
        first, *rest = self.convolutions(in_channels, width, stride, flags)
        layers: list[nn.Module] = [first]
        for convolution in rest:
            layers += [*make_norm2d(flags.norm, width), make_activation(flags.activation), convolution]
        self.branch = nn.Sequential(*layers[:-1], nn.Dropout(flags.dropout), layers[-1])
        self.downsample = make_shortcut(in_channels, width * self.expansion, stride, flags, bare=True)

    def convolutions(self, in_channels: int, width: int, stride: int, flags: BlockFlags) -> list[nn.Conv2d]:
        """The convolutions of the residual branch."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """The residual branch and the shortcut, added."""
        z = self.activate(x)
        return add_shortcut(self.branch(z), self.downsample, x if isinstance(self.downsample, nn.Identity) else z)


class PreActivationBasicBlock(PreActivationBlock):
    """Two 3x3 convolutions."""

    expansion = 1

    def convolutions(self, in_channels: int, width: int, stride: int, flags: BlockFlags) -> list[nn.Conv2d]:
        """As in `BasicBlock`."""
        return [conv(3, in_channels, width, flags.norm, stride), conv(3, width, width, flags.norm)]


class PreActivationBottleneck(PreActivationBlock):
    """A 1x1 convolution to `width` channels, a 3x3, and a 1x1 to four times as many."""

    expansion = 4

    def convolutions(self, in_channels: int, width: int, stride: int, flags: BlockFlags) -> list[nn.Conv2d]:
        """As in `Bottleneck`."""
        first, second = (stride, 1) if flags.stride_in_1x1 else (1, stride)
        return [
            conv(1, in_channels, width, flags.norm, first),
            conv(3, width, width, flags.norm, second),
            conv(1, width, 4 * width, flags.norm),
        ]


def conv(kernel_size: int, in_channels: int, out_channels: int, norm: Norm, stride: int = 1) -> nn.Conv2d:
    """A convolution that keeps the size, or divides it by `stride`; it has a bias only if nothing normalises."""
    padding = kernel_size // 2
    return Conv2d(in_channels, out_channels, kernel_size, stride, padding, bias=norm == "none")


def norm_layer(norm: Norm, channels: int) -> nn.Module:
    """The normalisation, or the identity: a block reads the same with and without it."""
    return next(iter(make_norm2d(norm, channels)), nn.Identity())


def make_shortcut(
    in_channels: int, out_channels: int, stride: int, flags: BlockFlags, *, bare: bool = False
) -> nn.Module | None:
    """What brings a block's input to the shape of its output (section 3.3), or None in a plain network.

    A: padding with zeros where the shape changes. B: projections there. C: projections everywhere. A `bare` projection
    has no normalisation after it.
    """
    if flags.shortcut == "none":
        return None
    if flags.shortcut != "C" and stride == 1 and in_channels == out_channels:
        return nn.Identity()
    if flags.shortcut == "A":
        return PadShortcut(stride, out_channels - in_channels)
    projection = conv(1, in_channels, out_channels, flags.norm, stride)
    return nn.Sequential(projection, *([] if bare else make_norm2d(flags.norm, out_channels)))


def add_shortcut(z: Tensor, shortcut: nn.Module | None, x: Tensor) -> Tensor:
    """The residual branch's `z` plus what the shortcut makes of `x`; in a plain network `z` alone."""
    return z if shortcut is None else z + shortcut(x)


class PadShortcut(nn.Module):
    """Option A: every `stride`-th pixel of the maps, and maps of zeros for the channels that are added."""

    def __init__(self, stride: int, added_channels: int) -> None:
        super().__init__()
        self.stride, self.added_channels = stride, added_channels

    def forward(self, x: Tensor) -> Tensor:
        """`(N, C, H, W)` to `(N, C + added_channels, ceil(H / stride), ceil(W / stride))`."""
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.added_channels))
