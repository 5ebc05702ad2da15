"""Facts about the multi-layer perceptron; the network itself is in `zoo.mlp`."""

from zoo.lenet_facts import LECUN_1998
from zoo.recipe import Recipe
from zoo.registry import Deviation, InputSize, ModelInfo, PublishedResult, register_model

register_model(
    ModelInfo(
        name="mlp",
        family="zoo.mlp:MLP",
        paper=LECUN_1998,
        parameters=266_610,
        reference=InputSize(in_channels=1, image_size=28, num_classes=10),
        recipes={
            "default": Recipe(
                optimizer="adamw",
                lr=1e-3,
                weight_decay=0.01,
                schedule="cosine",
                warmup_epochs=0.5,
                batch_size=64,
                epochs=30,
                source="chosen here on the embedded digits and MNIST",
            )
        },
        summary="fully connected layers on the pixels; --model.hidden [300,100] sets the widths",
        deviations=(
            Deviation("ReLU", "trains faster; the paper uses a scaled tanh; --model.activation tanh is close"),
            Deviation("softmax and cross-entropy", "the paper minimises the mean squared error"),
            Deviation("initialisation is He's normal", "suits ReLU", "--model.init paper"),
        ),
        published=(
            PublishedResult("MNIST test error", 3.05, "%", "LeCun et al. 1998, Fig. 9, 3-layer network 300+100"),
            PublishedResult(
                "MNIST test error, distortions", 2.5, "%", "LeCun et al. 1998, Fig. 9, 3-layer network 300+100"
            ),
        ),
    )
)
