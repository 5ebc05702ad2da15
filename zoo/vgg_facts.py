"""Facts about the VGG family; the network itself is in `zoo.vgg`."""

from zoo.common_facts import AUGMENTATION, CONVOLUTIONAL, MEAN_ONLY, torchvision_accuracy
from zoo.recipe import Recipe
from zoo.registry import Deviation, InputSize, ModelInfo, Paper, PublishedResult, register_model

PAPER = Paper(
    authors="Simonyan & Zisserman",
    title="Very Deep Convolutional Networks for Large-Scale Image Recognition",
    venue="ICLR",
    year=2015,
    url="https://arxiv.org/abs/1409.1556",
)

# Without batch normalisation SGD at the paper's rate stays at chance for many epochs on small data sets; AdamW with
# He's initialisation leaves the plateau within the second epoch at every depth.
DEFAULT = CONVOLUTIONAL.replace(lr=1e-4, epochs=9)
# The paper divides the rate by 10 whenever the validation accuracy stops improving, three times in 74 epochs; the
# moments are not published, so the run is cut into four equal parts.
AS_PUBLISHED = Recipe(
    optimizer="sgd",
    lr=0.01,
    momentum=0.9,
    weight_decay=5e-4,
    decay_all=True,
    schedule="step",
    milestones=(0.25, 0.5, 0.75),
    batch_size=256,
    epochs=74,
    source="Simonyan & Zisserman 2015, section 3.1; the moments of the rate's three steps are ours",
)
INITIALISATION = "initialisation is He's normal"
FROM_SCRATCH = Deviation(
    what=INITIALISATION,
    why="it keeps the variance at every depth; the paper draws from a normal with variance 0.01",
    flag="--model.init paper",
)
FROM_A = Deviation(
    what=INITIALISATION,
    why=(
        "the paper copies the first four and the last three layers from a trained configuration A; it adds that "
        "Glorot's initialisation (--model.init xavier) does without"
    ),
)
DEVIATIONS = (
    Deviation(
        what="the first fully connected layer has 512 x (image_size // 32)^2 inputs",
        why="small images; the paper's 7 x 7 at 224 px",
        flag="--model.image_size 224",
    ),
    Deviation(
        what="the default recipe is AdamW",
        why="it trains every depth without batch normalisation in minutes",
        flag="--recipe paper",
    ),
    MEAN_ONLY,
    AUGMENTATION,
)
TABLE_3 = "Simonyan & Zisserman 2015, Table 3, single test scale 256"


def _register(name: str, config: str, layers: int, parameters: int, errors: tuple[str, str], *torchvision: str) -> None:
    detail = {"A-LRN": ", local response normalisation after the first", "C": ", three of them 1x1"}.get(config, "")
    register_model(
        ModelInfo(
            name=name,
            family="zoo.vgg:VGG",
            paper=PAPER,
            parameters=parameters,
            reference=InputSize(in_channels=3, image_size=224, num_classes=1000),
            recipes={"default": DEFAULT, "paper": AS_PUBLISHED},
            preset={"config": config},
            summary=f"configuration {config}: {layers} weight layers, {layers - 3} convolutions{detail}",
            image_size=32,
            deviations=(FROM_SCRATCH if config.startswith("A") else FROM_A, *DEVIATIONS),
            published=(
                PublishedResult("ImageNet top-1 error", errors[0], "%", TABLE_3),
                PublishedResult("ImageNet top-5 error", errors[1], "%", TABLE_3),
                *(torchvision_accuracy(*torchvision) if torchvision else ()),
            ),
        )
    )


_register("vgg11", "A", 11, 132_863_336, ("29.6", "10.4"), "69.020", "88.628")
_register("vgg11_lrn", "A-LRN", 11, 132_863_336, ("29.7", "10.5"))
_register("vgg13", "B", 13, 133_047_848, ("28.7", "9.9"), "69.928", "89.246")
_register("vgg16c", "C", 16, 133_638_952, ("28.1", "9.4"))
_register("vgg16", "D", 16, 138_357_544, ("27.0", "8.8"), "71.592", "90.382")
_register("vgg19", "E", 19, 143_667_240, ("27.3", "9.0"), "72.376", "90.876")
