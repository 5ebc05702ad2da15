"""LeNet-5 in its modern form: LeCun, Bottou, Bengio & Haffner, Proc. IEEE 86(11), 1998, section II-B and Fig. 2.

http://yann.lecun.com/exdb/publis/pdf/lecun-98.pdf

| name   | layers                                          | parameters, 10 classes, 1 channel, 32 px |
|--------|-------------------------------------------------|------------------------------------------|
| lenet5 | C1 6@5x5, C3 16@5x5, C5 120, F6 84, output      | 61,706                                   |

Deviations from the paper, as textbooks draw the network today: ReLU for 1.7159 tanh(2x/3); max-pooling for trainable
sub-sampling; C3 sees all six maps of S2 instead of the partial table; a linear output with softmax and cross-entropy
for the Euclidean RBF units and their loss.
"""

from torch import Tensor, nn

from zoo.classifier import ImageClassifier
from zoo.layers import Activation, Init, Norm, lecun_1998_init, make_activation, make_norm1d, make_norm2d

MIN_IMAGE_SIZE = 16
"""Two 5x5 convolutions without padding and two poolings leave nothing of a smaller image."""


class LeNet5(ImageClassifier):
    """LeNet-5 with dense connections, max-pooling and a softmax output.

    Args:
        num_classes: Number of classes.
        in_channels: Channels of the images.
        image_size: Height and width of the images in pixels, at least 16 (paper: 32).
        norm: Layer between each hidden layer and its activation (paper: none).
        dropout: Probability of dropout after C5 and F6 (paper: 0).
        activation: Activation of the hidden layers (paper: a scaled tanh).
        init: Initialisation; `paper` is uniform in +-2.4 / fan_in.

    Raises:
        ValueError: If an argument's value is not allowed.
    """

    def __init__(
        self,
        num_classes: int = 10,
        in_channels: int = 1,
        image_size: int = 32,
        norm: Norm = "none",
        dropout: float = 0.0,
        activation: Activation = "relu",
        init: Init = "he",
    ) -> None:
        super().__init__(num_classes, in_channels, image_size)
        if image_size < MIN_IMAGE_SIZE:
            raise ValueError(f"image_size is {image_size}: LeNet-5 needs at least {MIN_IMAGE_SIZE}")
        grid = ((image_size - 4) // 2 - 4) // 2
        # The fully connected layers normalise as the convolutions do; instance norm has no meaning there.
        linear_norm: Norm = "none" if norm == "instance" else norm
        self.features = nn.Sequential(
            nn.Conv2d(in_channels, 6, kernel_size=5),  # C1
            *make_norm2d(norm, 6),
            make_activation(activation),
            nn.MaxPool2d(2),  # S2
            nn.Conv2d(6, 16, kernel_size=5),  # C3
            *make_norm2d(norm, 16),
            make_activation(activation),
            nn.MaxPool2d(2),  # S4
        )
        self.classifier = nn.Sequential(
            nn.Linear(16 * grid * grid, 120),  # C5: a 5x5 convolution of a 5x5 map is a fully connected layer
            *make_norm1d(linear_norm, 120),
            make_activation(activation),
            nn.Dropout(dropout),
            nn.Linear(120, 84),  # F6
            *make_norm1d(linear_norm, 84),
            make_activation(activation),
            nn.Dropout(dropout),
            nn.Linear(84, num_classes),
        )
        self.finish(init, paper=lecun_1998_init)

    def forward_features(self, x: Tensor) -> Tensor:
        """Images `(N, in_channels, 32, 32)` to `(N, 16, 5, 5)`, and other sizes alike."""
        z: Tensor = self.features(x)
        return z

    def forward_head(self, z: Tensor) -> Tensor:
        """Features `(N, 16, 5, 5)` to logits `(N, num_classes)`."""
        logits: Tensor = self.classifier(z.flatten(1))
        return logits

    def stages(self) -> list[nn.Module]:
        """C1 to S2, C3 to S4, the hidden fully connected layers, and the last layer."""
        middle = len(self.features) // 2
        return [self.features[:middle], self.features[middle:], self.classifier[:-1], self.output]
