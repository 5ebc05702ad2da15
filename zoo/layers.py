"""The layers that a flag can switch: normalisation, activation, initialisation."""

from collections.abc import Callable
from typing import Literal, get_args

from torch import nn

from zoo.registry import nearest

Norm = Literal["none", "batch", "group", "layer", "instance"]
Activation = Literal["relu", "tanh", "sigmoid", "leaky_relu", "elu", "gelu", "silu"]
Init = Literal["he", "xavier", "lecun", "normal", "paper"]

_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": lambda: nn.ReLU(inplace=True),
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "leaky_relu": lambda: nn.LeakyReLU(0.01, inplace=True),
    "elu": lambda: nn.ELU(inplace=True),
    "gelu": nn.GELU,
    "silu": lambda: nn.SiLU(inplace=True),
}


def check_choice(argument: str, value: str, choices: object) -> None:
    """Raise ValueError with the nearest choice unless `value` is one of the `Literal` type's `choices`."""
    known = list(get_args(choices))
    if value not in known:
        raise ValueError(f"{argument} is '{value}'.{nearest(value, known)}")


def make_activation(activation: Activation) -> nn.Module:
    """The activation layer called `activation`."""
    check_choice("activation", activation, Activation)
    return _ACTIVATIONS[activation]()


def make_norm2d(norm: Norm, channels: int) -> list[nn.Module]:
    """What stands after a convolution with `channels` outputs: one layer, or none for `norm="none"`.

    `group` uses 32 groups as Wu & He 2018 do (fewer if 32 does not divide the channels); `layer` is one group over
    channels and positions; `instance` has affine parameters, so that all four have two per channel.
    """
    check_choice("norm", norm, Norm)
    if norm == "none":
        return []
    if norm == "batch":
        return [nn.BatchNorm2d(channels)]
    if norm == "instance":
        return [nn.InstanceNorm2d(channels, affine=True)]
    return [nn.GroupNorm(_groups(channels) if norm == "group" else 1, channels)]


def make_norm1d(norm: Norm, features: int) -> list[nn.Module]:
    """What stands after a linear layer with `features` outputs: one layer, or none for `norm="none"`.

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
    return [nn.GroupNorm(_groups(features), features)]


def _groups(channels: int) -> int:
    return max(groups for groups in range(1, 33) if channels % groups == 0)


def initialize(network: nn.Module, init: Init, output: nn.Linear, paper: Callable[[nn.Module], None]) -> None:
    """Set every convolution and linear weight of `network`; biases become 0, norm layers keep 1 and 0.

    Args:
        network: Its `nn.Conv2d` and `nn.Linear` layers are set.
        init: `he`: normal, variance 2 / fan_in (He et al. 2015, eq. 10). `xavier`: uniform, variance
            2 / (fan_in + fan_out) (Glorot & Bengio 2010, eq. 16). `lecun`: normal, variance 1 / fan_in (LeCun et al.
            1998, Efficient BackProp, eq. 16). `normal`: standard deviation 0.01 (Krizhevsky et al. 2012, section 5).
            `paper`: what the network's own paper did.
        output: The last layer. No rectifier follows it, so `he` uses variance 1 / fan_in there.
        paper: Sets one layer as the network's paper does.
    """
    check_choice("init", init, Init)
    for layer in network.modules():
        if not isinstance(layer, nn.Conv2d | nn.Linear):
            continue
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
        if init == "paper":
            paper(layer)
        elif init == "xavier":
            nn.init.xavier_uniform_(layer.weight)
        elif init == "normal":
            nn.init.normal_(layer.weight, std=0.01)
        elif init == "lecun" or layer is output:
            nn.init.kaiming_normal_(layer.weight, nonlinearity="linear")
        else:
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")


def lecun_1998_init(layer: nn.Module) -> None:
    """Uniform in [-2.4 / fan_in, 2.4 / fan_in], weights and biases (LeCun et al. 1998, appendix A)."""
    if isinstance(layer, nn.Conv2d | nn.Linear):
        bound = 2.4 / layer.weight[0].numel()
        nn.init.uniform_(layer.weight, -bound, bound)
        if layer.bias is not None:
            nn.init.uniform_(layer.bias, -bound, bound)
