"""Facts about the perceptrons; the networks themselves are in `zoo.mlp`."""

from zoo.lenet_facts import LECUN_1998, TRAINING
from zoo.recipe import Recipe
from zoo.registry import Deviation, InputSize, ModelInfo, Paper, PublishedResult, register_model

ROSENBLATT_1958 = Paper(
    authors="Rosenblatt",
    title="The Perceptron: A Probabilistic Model for Information Storage and Organization in the Brain",
    venue="Psychological Review 65(6)",
    year=1958,
    url="https://doi.org/10.1037/h0042519",
)
MNIST = InputSize(in_channels=1, image_size=28, num_classes=10)
LINEAR = Recipe(
    optimizer="adamw",
    lr=1e-2,
    weight_decay=0.01,
    schedule="cosine",
    batch_size=64,
    epochs=30,
    source="chosen here on the embedded digits and MNIST",
)
CORRECTIONS = Recipe(
    optimizer="sgd",
    lr=0.01,
    momentum=0.0,
    weight_decay=0.0,
    schedule="constant",
    batch_size=1,
    epochs=10,
    loss="perceptron",
    source="Rosenblatt 1958: a correction of fixed size after each mistake; the rate and the number of passes are ours",
)
MSE = Deviation("softmax and cross-entropy", "the paper minimises the mean squared error", "--recipe.loss mse")
FIG_9 = "LeCun et al. 1998, Fig. 9"

register_model(
    ModelInfo(
        name="perceptron",
        family="zoo.mlp:MLP",
        paper=ROSENBLATT_1958,
        parameters=7_850,
        reference=MNIST,
        recipes={"default": LINEAR.replace(loss="perceptron"), "paper": CORRECTIONS},
        defaults={"hidden": []},
        summary="a linear classifier that learns from its mistakes only: the perceptron's loss",
        deviations=(
            Deviation("one linear output for each class", "the paper's machine tells two classes apart"),
            Deviation("it sees the pixels", "the paper puts random threshold units between them and the output"),
            Deviation(
                "minibatches and AdamW", "the paper corrects after each mistake by the same amount", "--recipe paper"
            ),
        ),
    )
)
register_model(
    ModelInfo(
        name="softmax",
        family="zoo.mlp:MLP",
        paper=LECUN_1998,
        parameters=7_850,
        reference=MNIST,
        recipes={"default": LINEAR},
        defaults={"hidden": []},
        summary="a linear classifier: multinomial logistic regression",
        deviations=(MSE, *TRAINING),
        published=(PublishedResult("MNIST test error", "12.0", "%", f"{FIG_9}, linear classifier (1-layer NN)"),),
    )
)
register_model(
    ModelInfo(
        name="mlp",
        family="zoo.mlp:MLP",
        paper=LECUN_1998,
        parameters=266_610,
        reference=MNIST,
        recipes={"default": LINEAR.replace(lr=1e-3, warmup_epochs=0.5)},
        summary="fully connected layers on the pixels; --model.hidden [300,100] sets the widths",
        deviations=(
            Deviation("ReLU", "trains faster; the paper has 1.7159 tanh(2x/3)", "--model.activation scaled_tanh"),
            MSE,
            Deviation("initialisation is He's normal", "suits ReLU", "--model.init paper"),
            *TRAINING,
        ),
        published=(
            PublishedResult("MNIST test error", "3.05", "%", f"{FIG_9}, 3-layer network 300+100"),
            PublishedResult("MNIST test error, distortions", "2.5", "%", f"{FIG_9}, 3-layer network 300+100"),
        ),
    )
)
