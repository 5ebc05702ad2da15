"""Multi-layer perceptron: fully connected layers on the pixels, as in the MNIST table of LeCun et al. 1998 (Fig. 9).

http://yann.lecun.com/exdb/publis/pdf/lecun-98.pdf

| name | layers                             | parameters, 10 classes, 1 channel, 28 px |
|------|------------------------------------|------------------------------------------|
| mlp  | 784-300-100-10 (`hidden` sets any) | 266,610                                  |

Deviations from the paper's 3-layer network 300+100: ReLU for the scaled tanh, softmax and cross-entropy for the mean
squared error.
"""

from torch import Tensor, nn

from zoo.classifier import ImageClassifier
from zoo.layers import Activation, Init, Norm, lecun_1998_init, make_activation, make_norm1d


class MLP(ImageClassifier):
    """A multi-layer perceptron of any depth and widths.

    Args:
        num_classes: Number of classes.
        in_channels: Channels of the images.
        image_size: Height and width of the images in pixels.
        hidden: Widths of the hidden layers; an empty list gives the linear classifier.
        norm: Layer between each hidden layer and its activation: none, batch, group or layer.
        dropout: Probability of dropout after each hidden layer.
        activation: Activation of the hidden layers.
        init: Initialisation; `paper` is uniform in +-2.4 / fan_in.

    Raises:
        ValueError: If an argument's value is not allowed.
    """

    def __init__(
        self,
        num_classes: int = 10,
        in_channels: int = 1,
        image_size: int = 28,
        hidden: list[int] | None = None,
        norm: Norm = "none",
        dropout: float = 0.0,
        activation: Activation = "relu",
        init: Init = "he",
    ) -> None:
        super().__init__(num_classes, in_channels, image_size)
        widths = [300, 100] if hidden is None else hidden
        if any(width < 1 for width in widths):
            raise ValueError(f"hidden is {widths}: every width must be at least 1")
        layers: list[nn.Module] = []
        features = in_channels * image_size * image_size
        for width in widths:
            layers += [nn.Linear(features, width), *make_norm1d(norm, width), make_activation(activation)]
            layers.append(nn.Dropout(dropout))
            features = width
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(features, num_classes)
        self.finish(init, paper=lecun_1998_init)

    def forward_features(self, x: Tensor) -> Tensor:
        """Images `(N, C, S, S)` to the last hidden layer `(N, hidden[-1])`."""
        z: Tensor = self.features(x.flatten(1))  # (N, C, S, S) -> (N, C*S*S)
        return z

    def forward_head(self, z: Tensor) -> Tensor:
        """The last hidden layer to logits `(N, num_classes)`."""
        logits: Tensor = self.classifier(z)
        return logits

    def stages(self) -> list[nn.Module]:
        """Each hidden layer with what follows it, then the last layer."""
        starts = [i for i, layer in enumerate(self.features) if isinstance(layer, nn.Linear)]
        hidden = [self.features[start:end] for start, end in zip(starts, [*starts[1:], None], strict=False)]
        return [*hidden, self.output]
