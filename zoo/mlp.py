"""Multi-layer perceptrons, from the linear classifier up, as in the MNIST table of LeCun et al. 1998 (Fig. 9).

http://yann.lecun.com/exdb/publis/pdf/lecun-98.pdf; the perceptron is Rosenblatt's (Psychological Review 65(6), 1958).

| name       | layers                             | loss          | parameters, 10 classes, 1 channel, 28 px |
|------------|------------------------------------|---------------|------------------------------------------|
| perceptron | 784-10                             | perceptron    | 7,850                                    |
| softmax    | 784-10                             | cross-entropy | 7,850                                    |
| mlp        | 784-300-100-10 (`hidden` sets any) | cross-entropy | 266,610                                  |

Deviations from the paper's 3-layer network 300+100: ReLU for the scaled tanh, softmax and cross-entropy for the mean
squared error. Rosenblatt's perceptron has two classes, threshold units and random connections in front; this is its
learning rule on the pixels, for any number of classes.
"""

from typing import Literal

from torch import Tensor, nn

from zoo.classifier import ImageClassifier
from zoo.kinds import shown
from zoo.layers import (
    LARGEST_SIZE,
    Activation,
    Init,
    Maxout,
    Norm,
    check_choice,
    check_size,
    lecun_1998_init,
    make_activation,
    make_norm1d,
    split_before,
)

MLPActivation = Literal[Activation, "maxout"]


class MLP(ImageClassifier):
    """A multi-layer perceptron of any depth and widths; without hidden layers, a linear classifier.

    Args:
        num_classes: Number of classes.
        in_channels: Channels of the images.
        image_size: Height and width of the images in pixels.
        hidden: Widths of the hidden layers, 300 and 100 if not given; an empty list gives the linear classifier.
        norm: Layer between each hidden layer and its activation: none, batch, group or layer.
        dropout: Probability of dropout after each hidden layer.
        activation: Activation of the hidden layers. maxout is the largest of `maxout_pieces` linear functions.
        maxout_pieces: Linear functions per maxout unit (Goodfellow et al. 2013).
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
        activation: MLPActivation = "relu",
        maxout_pieces: int = 5,
        init: Init = "he",
    ) -> None:
        super().__init__(num_classes, in_channels, image_size)
        check_choice("activation", activation, MLPActivation)
        make_norm1d(norm, 1)  # also without hidden layers, a norm that no layer can have is an error
        widths = [300, 100] if hidden is None else hidden
        if not all(1 <= width <= LARGEST_SIZE for width in widths):
            limit = "at least 1" if min(widths) < 1 else f"at most {LARGEST_SIZE:,}"
            raise ValueError(f"hidden is {shown(widths)}: every width must be {limit}")
        check_size("maxout_pieces", maxout_pieces)
        pieces = maxout_pieces if activation == "maxout" else 1
        layers: list[nn.Module] = []
        features = in_channels * image_size * image_size
        for width in widths:
            layers += [nn.Linear(features, width * pieces), *make_norm1d(norm, width * pieces)]
            layers.append(Maxout(pieces) if activation == "maxout" else make_activation(activation))
            layers.append(nn.Dropout(dropout))
            features = width
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(features, num_classes)
        self.finish(init, paper=lecun_1998_init)

    def forward_features(self, x: Tensor) -> Tensor:
        """Images `(N, in_channels, S, S)` to the last hidden layer `(N, hidden[-1])`."""
        z: Tensor = self.features(x.flatten(1))  # (N, C, S, S) -> (N, C*S*S)
        return z

    def stages(self) -> list[nn.Module]:
        """Each hidden layer with what follows it, then the last layer."""
        return [*split_before(nn.Linear, self.features), self.output]
