"""Facts about LeNet-5; the network itself is in `zoo.lenet`."""

from zoo.recipe import Recipe
from zoo.registry import Deviation, InputSize, ModelInfo, Paper, PublishedResult, register_model

LECUN_1998 = Paper(
    authors="LeCun, Bottou, Bengio & Haffner",
    title="Gradient-Based Learning Applied to Document Recognition",
    venue="Proc. IEEE",
    year=1998,
    url="http://yann.lecun.com/exdb/publis/pdf/lecun-98.pdf",
)

DEFAULT = Recipe(
    optimizer="adamw",
    lr=2e-3,
    weight_decay=0.01,
    schedule="cosine",
    warmup_epochs=0.5,
    batch_size=64,
    epochs=20,
    source="chosen here on the embedded digits and MNIST",
)
TRAINING = (
    Deviation("minibatches and AdamW", "the paper has stochastic diagonal Levenberg-Marquardt, image by image"),
    Deviation("images have mean 0 and deviation 1", "the paper has -0.1 for the background and 1.175 for ink"),
    Deviation("shifts and rotations in training", "the data set's own policy", "--data.augment none"),
)
"""What the paper's networks have in common, and ours have not."""
PUBLISHED = (
    PublishedResult("MNIST test error", "0.95", "%", "LeCun et al. 1998, Fig. 9, LeNet-5"),
    PublishedResult("MNIST test error, distortions", "0.8", "%", "LeCun et al. 1998, Fig. 9, LeNet-5"),
)

register_model(
    ModelInfo(
        name="lenet5",
        family="zoo.lenet:LeNet5",
        paper=LECUN_1998,
        parameters=61_706,
        reference=InputSize(in_channels=1, image_size=32, num_classes=10),
        recipes={"default": DEFAULT},
        summary="the modern form: ReLU, max-pooling, dense C3, softmax",
        image_size=32,
        deviations=(
            Deviation("ReLU", "trains faster; the paper has 1.7159 tanh(2x/3)", "--model.activation scaled_tanh"),
            Deviation("max-pooling", "what textbooks draw; the paper trains its sums", "--model.subsampling trained"),
            Deviation("C3 sees all six maps of S2", "the paper's table saved connections", "--model.c3 partial"),
            Deviation("a linear output", "the paper has distances to bitmaps of the digits", "--model.head rbf"),
            Deviation("softmax and cross-entropy", "the paper has the loss of its eq. 9", "--recipe.loss map"),
            Deviation("initialisation is He's normal", "suits ReLU", "--model.init paper"),
            *TRAINING,
        ),
        published=PUBLISHED,
    )
)
register_model(
    ModelInfo(
        name="lenet5_1998",
        family="zoo.lenet:LeNet5",
        paper=LECUN_1998,
        parameters=60_000,
        reference=InputSize(in_channels=1, image_size=32, num_classes=10),
        recipes={"default": DEFAULT.replace(loss="map", lr=4e-3)},
        defaults={
            "activation": "scaled_tanh",
            "subsampling": "trained",
            "c3": "partial",
            "head": "rbf",
            "init": "paper",
        },
        summary="as published: scaled tanh, trained sub-sampling, partial C3, RBF output and its loss",
        image_size=32,
        deviations=(
            Deviation("j of eq. 9 is 0.1", "the paper says only that it is positive"),
            *TRAINING,
        ),
        published=PUBLISHED,
        notes=(
            "C3 is computed as a dense convolution with zeros where the paper has no connection, which the MACs count. "
            "The paper counts 151,600 connections in C3, and 340,908 in all layers.",
        ),
    )
)
