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

register_model(
    ModelInfo(
        name="lenet5",
        family="zoo.lenet:LeNet5",
        paper=LECUN_1998,
        parameters=61_706,
        reference=InputSize(in_channels=1, image_size=32, num_classes=10),
        recipes={
            "default": Recipe(
                optimizer="adamw",
                lr=2e-3,
                weight_decay=0.01,
                schedule="cosine",
                warmup_epochs=0.5,
                batch_size=64,
                epochs=20,
                source="chosen here on the embedded digits and MNIST",
            )
        },
        summary="the modern form: ReLU, max-pooling, dense C3, softmax",
        image_size=32,
        deviations=(
            Deviation("ReLU", "trains faster; the paper uses 1.7159 tanh(2x/3); --model.activation tanh is close"),
            Deviation("max-pooling", "the paper sub-samples with a trained coefficient and bias per map"),
            Deviation("C3 sees all six maps of S2", "the paper's partial table saved connections"),
            Deviation("linear output, softmax, cross-entropy", "the paper has RBF units and a MAP-like loss"),
            Deviation("initialisation is He's normal", "suits ReLU", "--model.init paper"),
        ),
        published=(
            PublishedResult("MNIST test error", 0.95, "%", "LeCun et al. 1998, Fig. 9, LeNet-5"),
            PublishedResult("MNIST test error, distortions", 0.8, "%", "LeCun et al. 1998, Fig. 9, LeNet-5"),
        ),
    )
)
