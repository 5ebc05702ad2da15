"""ResNet: He, Zhang, Ren & Sun, Deep Residual Learning for Image Recognition, CVPR 2016.

https://arxiv.org/abs/1512.03385: Table 1 for ImageNet, section 4.2 for CIFAR-10. A plain network is the same without
shortcuts. The blocks are in `zoo.resnet_blocks`.

| name       | layers | blocks in each stage | shortcut | parameters, 1000 classes (ImageNet), 10 classes (CIFAR) |
|------------|--------|----------------------|----------|---------------------------------------------------------|
| resnet18   | 18     | 2-2-2-2 basic        | B        | 11,689,512                                              |
| resnet34   | 34     | 3-4-6-3 basic        | B        | 21,797,672                                              |
| resnet50   | 50     | 3-4-6-3 bottleneck   | B        | 25,557,032                                              |
| resnet101  | 101    | 3-4-23-3 bottleneck  | B        | 44,549,160                                              |
| resnet152  | 152    | 3-8-36-3 bottleneck  | B        | 60,192,808                                              |
| plain18    | 18     | 2-2-2-2 basic        | none     | 11,515,688                                              |
| plain34    | 34     | 3-4-6-3 basic        | none     | 21,623,848                                              |
| resnet20   | 20     | 3-3-3 basic          | A        | 269,722                                                 |
| resnet32   | 32     | 5-5-5 basic          | A        | 464,154                                                 |
| resnet44   | 44     | 7-7-7 basic          | A        | 658,586                                                 |
| resnet56   | 56     | 9-9-9 basic          | A        | 853,018                                                 |
| resnet110  | 110    | 18-18-18 basic       | A        | 1,727,962                                               |
| resnet1202 | 1202   | 200-200-200 basic    | A        | 19,421,274                                              |
| plain20    | 20     | 3-3-3 basic          | none     | 269,722                                                 |
| plain32    | 32     | 5-5-5 basic          | none     | 464,154                                                 |
| plain44    | 44     | 7-7-7 basic          | none     | 658,586                                                 |
| plain56    | 56     | 9-9-9 basic          | none     | 853,018                                                 |
| plain110   | 110    | 18-18-18 basic       | none     | 1,727,962                                               |

Layers, order and state-dict keys of the ImageNet networks are torchvision's. Like torchvision, they have projections
where the shape changes (B; the paper's Table 2 has A), and bottlenecks with the stride in the 3x3 convolution (the
paper's have it in the first 1x1).
"""

from typing import ClassVar, Literal

from torch import Tensor, nn

from zoo.classifier import ImageClassifier
from zoo.layers import Activation, Init, Norm, check_choice, he_init, make_activation
from zoo.resnet_blocks import (
    BasicBlock,
    Block,
    BlockFlags,
    Bottleneck,
    PreActivationBasicBlock,
    PreActivationBottleneck,
    Shortcut,
    conv,
    norm_layer,
)

Stem = Literal["imagenet", "small"]

# Table 1: whether the blocks are bottlenecks, and how many there are in conv2_x to conv5_x.
IMAGENET = {
    18: (False, (2, 2, 2, 2)),
    34: (False, (3, 4, 6, 3)),
    50: (True, (3, 4, 6, 3)),
    101: (True, (3, 4, 23, 3)),
    152: (True, (3, 8, 36, 3)),
}
MAX_DEPTH = 9_998
"""Of CIFAR's networks, eight times the paper's deepest: deeper ones would be built for minutes."""
# Table 1, and the table of section 4.2: the width of the first stage; each stage doubles it.
WIDTHS = {"imagenet": 64, "cifar": 16}
# By whether they are bottlenecks, and whether the activation comes first.
BLOCKS: dict[tuple[bool, bool], type[Block]] = {
    (False, False): BasicBlock,
    (True, False): Bottleneck,
    (False, True): PreActivationBasicBlock,
    (True, True): PreActivationBottleneck,
}


class ResNet(ImageClassifier):
    """A network of Table 1 or of section 4.2.

    Args:
        num_classes: Number of classes.
        in_channels: Channels of the images.
        image_size: Height and width of the images in pixels; the network takes any size (paper: 224, CIFAR 32).
        depth: Layers with weights: 18, 34, 50, 101 or 152; for CIFAR any 6n + 2.
        shortcut: A: identity, zeros added where the shape changes; B: projections there; C: projections everywhere;
            none: the plain network.
        norm: Layer after each convolution (paper: batch). With none, convolutions have biases.
        dropout: Probability of dropout before the last convolution of each block (Zagoruyko & Komodakis 2016, section
            2.4; paper: 0).
        activation: Activation (paper: relu).
        preactivation: Normalise and activate before each convolution (He et al. 2016, ResNet v2).
        stem: The first layers: imagenet, a 7x7 convolution with stride 2 and pooling, or small, a 3x3 convolution.
        zero_init_residual: Start with blocks that are the identity: zero weights in the layer that ends each residual
            branch (Goyal et al. 2017, section 5.1). Not given: only with norm none, where the branches' other
            convolutions are also scaled down, as Zhang et al. 2019 (Fixup) do to train without normalisation.
        stride_in_1x1: Bottlenecks halve the maps in the first convolution (paper), not in the 3x3 (torchvision).
        init: Initialisation; he is the paper's.

    Raises:
        ValueError: If an argument's value is not allowed.
    """

    table: ClassVar[str] = "imagenet"
    any_size = True

    def __init__(
        self,
        num_classes: int = 10,
        in_channels: int = 3,
        image_size: int = 224,
        depth: int = 18,
        shortcut: Shortcut = "B",
        norm: Norm = "batch",
        dropout: float = 0.0,
        activation: Activation = "relu",
        preactivation: bool = False,
        stem: Stem = "imagenet",
        zero_init_residual: bool | None = None,
        stride_in_1x1: bool = False,
        init: Init = "he",
    ) -> None:
        super().__init__(num_classes, in_channels, image_size)
        check_choice("shortcut", shortcut, Shortcut)
        check_choice("stem", stem, Stem)
        bottleneck, numbers = blocks_in_each_stage(self.table, depth)
        if stride_in_1x1 and not bottleneck:
            raise ValueError(f"stride_in_1x1 is True, but a network of depth {depth} has no bottlenecks")
        is_imagenet = stem == "imagenet"
        check_instance_norm(norm, image_size, stem, halvings=len(numbers) - 1 + (2 if is_imagenet else 0))
        block = BLOCKS[bottleneck, preactivation]
        flags = BlockFlags(shortcut, norm, dropout, activation, stride_in_1x1)
        width = channels = WIDTHS[self.table]
        self.conv1 = conv(7, in_channels, width, norm, stride=2) if is_imagenet else conv(3, in_channels, width, norm)
        self.bn1 = norm_layer(norm, width)
        self.relu = make_activation(activation)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1) if is_imagenet else nn.Identity()
        for stage, number in enumerate(numbers):
            width = WIDTHS[self.table] * 2**stage
            self.add_module(f"layer{stage + 1}", make_stage(block, number, channels, width, 2 if stage else 1, flags))
            channels = width * block.expansion
        self.last_activation: nn.Module = nn.Identity()
        if preactivation:  # the stem has activated the input of the first block; nothing has activated the last sum
            self.blocks()[0].activate = nn.Identity()
            self.last_activation = nn.Sequential(norm_layer(norm, channels), make_activation(activation))
        self.fc = nn.Linear(channels, num_classes)
        self.finish(init, paper=he_init)
        if zero_init_residual and shortcut == "none":
            raise ValueError("zero_init_residual is True, but without shortcuts (none) nothing but zeros would remain")
        without_norm = norm == "none" and shortcut != "none"
        if zero_init_residual or (zero_init_residual is None and without_norm):
            start_as_identity(self.blocks(), scale=without_norm)

    def forward_features(self, x: Tensor) -> Tensor:
        """Images `(N, in_channels, S, S)` to `(N, channels, S / 32, S / 32)`, with CIFAR's networks `S / 4`."""
        z = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        for layer in self._layers():
            z = layer(z)
        features: Tensor = self.last_activation(z)
        return features

    def forward_head(self, z: Tensor) -> Tensor:
        """Features `(N, channels, H, W)`, averaged over positions, to logits `(N, num_classes)`."""
        logits: Tensor = self.fc(z.mean(dim=(2, 3)))
        return logits

    def blocks(self) -> list[Block]:
        """The residual blocks from input to output."""
        return [block for layer in self._layers() for block in layer if isinstance(block, Block)]

    def stages(self) -> list[nn.Module]:
        """The stem, the three or four stages, and the last layer."""
        *layers, last = self._layers()
        stem = nn.Sequential(self.conv1, self.bn1)
        return [stem, *layers, nn.Sequential(last, self.last_activation), self.output]

    def _layers(self) -> list[nn.Sequential]:
        stages = [layer for name, layer in self.named_children() if name.startswith("layer")]
        return [layer for layer in stages if isinstance(layer, nn.Sequential)]


def blocks_in_each_stage(table: str, depth: int) -> tuple[bool, tuple[int, ...]]:
    """Whether the network of this depth has bottlenecks, and the number of blocks in each stage.

    Raises:
        ValueError: If the table has no network of this depth.
    """
    if table == "cifar":
        if not 8 <= depth <= MAX_DEPTH or depth % 6 != 2:
            n = max(round((min(depth, MAX_DEPTH) - 2) / 6), 1)
            raise ValueError(
                f"depth is {depth}: CIFAR's ResNets have 6n + 2 layers, from 8 to 9,998, such as {6 * n + 2}"
            )
        return False, 3 * ((depth - 2) // 6,)
    if depth not in IMAGENET:
        near = min(IMAGENET, key=lambda known: abs(known - depth))
        raise ValueError(f"depth is {depth}: Table 1 has {', '.join(map(str, IMAGENET))}. The nearest is {near}")
    return IMAGENET[depth]


def check_instance_norm(norm: Norm, image_size: int, stem: Stem, halvings: int) -> None:
    """Instance normalisation averages over positions: the last maps must have more than one."""
    smallest = 2**halvings + 1
    if norm == "instance" and image_size < smallest:
        raise ValueError(
            f"image_size is {image_size}: with norm 'instance' and stem '{stem}' it needs at least {smallest}, "
            "since smaller images end as maps of one pixel"
        )


def make_stage(
    block: type[Block], number: int, in_channels: int, width: int, stride: int, flags: BlockFlags
) -> nn.Sequential:
    """`number` blocks of the same width; the first one halves the maps if `stride` is 2."""
    first = block(in_channels, width, stride, flags)
    rest = [block(width * block.expansion, width, 1, flags) for _ in range(number - 1)]
    return nn.Sequential(first, *rest)


def start_as_identity(blocks: list[Block], *, scale: bool) -> None:
    """Zero the weights that end each residual branch; `scale` the branches' other convolutions as Fixup does.

    Fixup (Zhang, Dauphin & Ma 2019, section 3): L^(-1 / (2m - 2)) for L branches of m convolutions.
    """
    for block in blocks:
        layers = block.branch_layers()
        nn.init.zeros_(layers[-1].get_parameter("weight"))
        convolutions = [layer for layer in layers if isinstance(layer, nn.Conv2d)]
        factor = len(blocks) ** (-1 / (2 * len(convolutions) - 2)) if scale else 1.0
        for convolution in convolutions[:-1]:
            convolution.weight.detach().mul_(factor)
