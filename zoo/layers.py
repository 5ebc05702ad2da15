"""The layers that a flag can switch: normalisation, activation, initialisation."""

import math
import re
from collections.abc import Callable
from typing import Literal, Protocol, get_args, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.kinds import shown
from zoo.registry import nearest

Norm = Literal["none", "batch", "group", "layer", "instance"]
Activation = Literal["relu", "tanh", "scaled_tanh", "sigmoid", "leaky_relu", "elu", "gelu", "silu"]
Init = str
"""One of INITS, or normal(STD) with the standard deviation of your choice."""
INITS = ("he", "xavier", "lecun", "normal", "normal(STD)", "orthogonal", "paper")
LARGEST_SIZE = 2**20
"""Of classes, channels, pixels in a row or units in a layer: what is larger is a mistake, and products overflow."""


class ScaledTanh(nn.Module):
    """1.7159 tanh(2x / 3): f(1) = 1 and f(-1) = -1 (LeCun et al. 1998, appendix A)."""

    def forward(self, x: Tensor) -> Tensor:
        """Any shape to the same shape."""
        return 1.7159 * torch.tanh(x * (2 / 3))


class Maxout(nn.Module):
    """The largest of each `pieces` neighbouring features (Goodfellow et al. 2013, Maxout Networks, section 2)."""

    def __init__(self, pieces: int) -> None:
        super().__init__()
        self.pieces = pieces

    def forward(self, x: Tensor) -> Tensor:
        """Features `(N, width * pieces)` to `(N, width)`."""
        pieces = x.reshape(x.shape[0], -1, self.pieces)
        return pieces.max(dim=2).values


_ACTIVATIONS: dict[str, Callable[[bool], nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": lambda _: nn.Tanh(),
    "scaled_tanh": lambda _: ScaledTanh(),
    "sigmoid": lambda _: nn.Sigmoid(),
    "leaky_relu": lambda inplace: nn.LeakyReLU(0.01, inplace),
    "elu": lambda inplace: nn.ELU(inplace=inplace),
    "gelu": lambda _: nn.GELU(),
    "silu": nn.SiLU,
}


def check_choice(argument: str, value: object, choices: object) -> None:
    """Raise ValueError with the nearest choice unless `value` is one of the `Literal` type's `choices`."""
    known = list(get_args(choices))
    if not any(type(value) is type(choice) and value == choice for choice in known):  # to Python, True is 1
        raise ValueError(f"{argument} is {shown(value)}.{nearest(str(value), map(str, known))}")


def check_size(argument: str, value: int) -> None:
    """Raise ValueError unless a size is from 1 to `LARGEST_SIZE`."""
    if not 1 <= value <= LARGEST_SIZE:
        limit = "at least 1" if value < 1 else f"at most {LARGEST_SIZE:,}"
        raise ValueError(f"{argument} is {value}: it must be {limit}")


def make_activation(activation: Activation, *, inplace: bool = True) -> nn.Module:
    """The activation layer called `activation`; `inplace` overwrites its input where the layer can."""
    check_choice("activation", activation, Activation)
    return _ACTIVATIONS[activation](inplace)


class LocalResponseNorm(nn.LocalResponseNorm):
    """torch's layer, number for number, with gradients that are the same each time on a GPU too.

    Of images, torch's averages over channels by AvgPool3d, whose gradient on CUDA depends on the order of additions;
    with the positions in one row, it does so by AvgPool2d.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Maps `(N, C, H, W)` to the same shape."""
        z = F.local_response_norm(x.flatten(2), self.size, self.alpha, self.beta, self.k)
        return z.view(x.shape)


def krizhevsky_lrn() -> LocalResponseNorm:
    """Local response normalisation with k = 2, n = 5, alpha = 1e-4, beta = 0.75 (Krizhevsky et al. 2012, section 3.3).

    torch divides its alpha by n, the paper does not: 5e-4 here is the paper's 1e-4.
    """
    return LocalResponseNorm(size=5, alpha=5e-4, beta=0.75, k=2.0)


def split_before(kind: type[nn.Module], layers: nn.Sequential) -> list[nn.Sequential]:
    """`layers` cut before each layer of a `kind`, the first of which is one."""
    starts = [i for i, layer in enumerate(layers) if isinstance(layer, kind)]
    return [layers[start:end] for start, end in zip(starts, [*starts[1:], None], strict=False)]


def make_norm2d(norm: Norm, channels: int) -> list[nn.Module]:
    """What stands after a convolution with `channels` outputs: one layer, or none for `norm="none"`.

    `group` uses 32 groups as Wu & He 2018 do, or as many as give each at least two channels; `layer` is one group over
    channels and positions; `instance` has affine parameters, so that all four have two per channel.
    """
    check_choice("norm", norm, Norm)
    if norm == "none":
        return []
    if norm == "batch":
        return [nn.BatchNorm2d(channels)]
    if norm == "instance":
        return [nn.InstanceNorm2d(channels, affine=True)]
    return [nn.GroupNorm(_groups(channels, 2) if norm == "group" else 1, channels)]


def make_norm1d(norm: Norm, features: int) -> list[nn.Module]:
    """What stands after a linear layer with `features` outputs: one layer, or none for `norm="none"`.

    `group` uses up to 32 groups of at least eight features: of a few features, normalising would leave little.

    Raises:
        ValueError: For `instance`, which needs positions to average over.
    """
    check_choice("norm", norm, Norm)
    if norm == "instance":
        raise ValueError("norm is 'instance': it averages over image positions, and a linear layer has none. Use batch")
    if norm == "none":
        return []
    if norm == "batch":
        return [nn.BatchNorm1d(features)]
    if norm == "layer":
        return [nn.LayerNorm(features)]
    return [nn.GroupNorm(_groups(features, 8), features)]


def _groups(channels: int, at_least: int) -> int:
    """The most groups, up to 32, that divide the channels evenly with `at_least` so many in each; else one group."""
    fitting = (groups for groups in range(1, 33) if channels % groups == 0 and channels // groups >= at_least)
    return max(fitting, default=1)


# Initialisation


@runtime_checkable
class HasKernels(Protocol):
    """A layer of ours whose weight is made of several kernels."""

    def kernels(self) -> list[tuple[Tensor, Tensor]]:
        """Each kernel `(outputs, inputs, ...)` with its biases, as views of the parameters."""
        ...


def kernels(layer: nn.Module) -> list[tuple[Tensor, Tensor | None]]:
    """The weights `(outputs, inputs, ...)` of a convolution or linear layer, each with its biases; else nothing."""
    if isinstance(layer, nn.Conv2d | nn.Linear):
        return [(layer.weight, layer.bias)]
    return [*layer.kernels()] if isinstance(layer, HasKernels) else []


def initialize(network: nn.Module, init: Init, output: nn.Module, paper: Callable[[nn.Module], None]) -> None:
    """Set every convolution and linear weight of `network`; biases become 0, norm layers keep 1 and 0.

    Args:
        network: Its convolutions and linear layers are set.
        init: `he`: normal, variance 2 / fan_in (He et al. 2015, eq. 10). `xavier`: uniform, variance
            2 / (fan_in + fan_out) (Glorot & Bengio 2010, eq. 16). `lecun`: normal, variance 1 / fan_in (LeCun et al.
            1998, Efficient BackProp, eq. 16). `normal(STD)`: normal with that standard deviation, `normal` with 0.01
            (Krizhevsky et al. 2012, section 5). `orthogonal`: orthogonal rows or columns (Saxe et al. 2014), times
            the square root of 2 that `he` has for rectifiers. `paper`: what the network's own paper did.
        output: The last layer. No rectifier follows it: `he` uses variance 1 / fan_in there, `orthogonal` factor 1.
        paper: Sets one layer as the network's paper does.

    Raises:
        ValueError: If `init` is none of these.
    """
    scheme, std = _parse_init(init)
    for layer in network.modules():
        for kernel, bias in kernels(layer):
            if bias is not None:
                nn.init.zeros_(bias)
            if scheme == "xavier":
                nn.init.xavier_uniform_(kernel)
            elif scheme == "normal":
                nn.init.normal_(kernel, std=std)
            elif scheme == "orthogonal":
                nn.init.orthogonal_(kernel, gain=1 if layer is output else math.sqrt(2))
            elif scheme != "paper":
                linear = scheme == "lecun" or layer is output
                nn.init.kaiming_normal_(kernel, nonlinearity="linear" if linear else "relu")
        if scheme == "paper":
            paper(layer)


def _parse_init(init: Init) -> tuple[str, float]:
    """The scheme, and the standard deviation of `normal`."""
    if init in INITS and init != "normal(STD)":
        return init, 0.01
    number = re.fullmatch(r"normal\(([0-9.eE+-]+)\)", init)
    try:
        std = float(number[1]) if number else 0.0
    except ValueError:
        std = 0.0
    if not 0 < std < math.inf:
        raise ValueError(f"init is {shown(init)}.{nearest(init, INITS)} STD is a number above 0, as in normal(0.05).")
    return "normal", std


def he_init(layer: nn.Module) -> None:
    """Normal with variance 2 / fan_in (He et al. 2015), for networks whose own paper did so; biases stay 0."""
    for kernel, _ in kernels(layer):
        nn.init.kaiming_normal_(kernel, nonlinearity="linear" if isinstance(layer, nn.Linear) else "relu")


def lecun_1998_init(layer: nn.Module) -> None:
    """Uniform in [-2.4 / fan_in, 2.4 / fan_in], weights and biases (LeCun et al. 1998, appendix A)."""
    for kernel, bias in kernels(layer):
        bound = 2.4 / kernel[0].numel()
        nn.init.uniform_(kernel, -bound, bound)
        if bias is not None:
            nn.init.uniform_(bias, -bound, bound)
