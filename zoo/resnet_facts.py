"""Facts about the residual and plain networks; the networks themselves are in `zoo.resnet`."""

from zoo.common_facts import AUGMENTATION, CONVOLUTIONAL, torchvision_accuracy
from zoo.recipe import Recipe
from zoo.registry import Deviation, InputSize, ModelInfo, Paper, PublishedResult, register_model

HE_2016 = Paper(
    authors="He, Zhang, Ren & Sun",
    title="Deep Residual Learning for Image Recognition",
    venue="CVPR",
    year=2016,
    url="https://arxiv.org/abs/1512.03385",
)
# The narrow networks for CIFAR take a higher rate than the wide ones for ImageNet, which overshoot with it.
DEFAULT_CIFAR = CONVOLUTIONAL.replace(lr=1e-3)
IMAGENET_RECIPE = Recipe(
    optimizer="sgd",
    lr=0.1,
    momentum=0.9,
    weight_decay=1e-4,
    decay_all=True,
    schedule="step",
    milestones=(1 / 3, 2 / 3),
    batch_size=256,
    epochs=120,
    source="He et al. 2016, section 3.4: 600,000 iterations; the moments of the rate's steps are ours",
)
CIFAR_RECIPE = Recipe(
    optimizer="sgd",
    lr=0.1,
    momentum=0.9,
    weight_decay=1e-4,
    decay_all=True,
    schedule="step",
    milestones=(0.5, 0.75),
    batch_size=128,
    epochs=182,
    source="He et al. 2016, section 4.2: 64,000 iterations on 45,000 images, rate / 10 from 32,000 and 48,000",
)

PROJECTIONS = Deviation(
    "projections where the shape changes (B)", "as in torchvision; Table 2 has A", "--model.shortcut A"
)
STRIDE = Deviation(
    "bottlenecks have their stride in the 3x3 convolution",
    "as in torchvision and fb.resnet.torch; the paper has it in the first 1x1",
    "--model.stride_in_1x1 true",
)
RECIPE = Deviation("the default recipe is AdamW", "it trains in minutes on a CPU", "--recipe paper")
MEAN_IMAGE = Deviation(
    "images are normalised by the mean and deviation of each channel", "the paper subtracts a mean image"
)
SMALL_IMAGES = (
    "On images of 32 to 64 pixels, --model.stem small (a 3x3 convolution, no pooling) keeps more of the image. It is "
    "then not the paper's network for CIFAR, which is the family resnet20 to resnet1202."
)
WITHOUT_NORM = (
    "Without normalisation (--model.norm none) the convolutions have biases, and each block starts as the identity, "
    "with scaled-down weights (Fixup, Zhang et al. 2019): so resnet56 trains with the default recipe, see the README."
)
PLAIN_WITHOUT_NORM = (
    "Without normalisation (--model.norm none), the plain networks of 20 and 32 layers train with the default recipe, "
    "that of 56 does not: the README's table of runs has all three, and resnet56 beside them."
)
DOES_NOT_LEARN = (
    "It is not expected to learn: the paper reports more than 60 % error, and with the default recipe on the digits it "
    "stays far behind resnet110, which does learn (the README's table has both)."
)


def _imagenet(name: str, depth: int, parameters: int, *published: PublishedResult, shortcut: str = "B") -> None:
    kind = "plain" if shortcut == "none" else "residual"
    block = "bottlenecks" if depth >= 50 else "basic blocks"
    own = [STRIDE] if depth >= 50 else [PROJECTIONS] if shortcut == "B" else []
    register_model(
        ModelInfo(
            name=name,
            family="zoo.resnet:ResNet",
            paper=HE_2016,
            parameters=parameters,
            reference=InputSize(in_channels=3, image_size=224, num_classes=1000),
            recipes={"default": CONVOLUTIONAL, "paper": IMAGENET_RECIPE},
            defaults={"depth": depth, "shortcut": shortcut},
            summary=f"{depth} layers for ImageNet, {kind}, {block}",
            image_size=32,
            deviations=(*own, RECIPE, MEAN_IMAGE, AUGMENTATION),
            published=published,
            notes=(SMALL_IMAGES, PLAIN_WITHOUT_NORM if shortcut == "none" else WITHOUT_NORM),
        )
    )


def _cifar(name: str, depth: int, parameters: int, *published: PublishedResult, shortcut: str = "A") -> None:
    kind = "plain" if shortcut == "none" else "residual"
    paper = CIFAR_RECIPE
    if depth > 100:
        source = f"{CIFAR_RECIPE.source}; the paper's 400 iterations at a rate of 0.01 are a linear warm-up here"
        paper = paper.replace(warmup_epochs=400 / 351, source=source)
    # Deep networks without shortcuts, which is the paper's point, take twice as long.
    default = DEFAULT_CIFAR.replace(epochs=30) if shortcut == "none" and depth > 40 else DEFAULT_CIFAR
    notes = (PLAIN_WITHOUT_NORM if shortcut == "none" else WITHOUT_NORM,)
    register_model(
        ModelInfo(
            name=name,
            family="zoo.resnet:ResNet",
            paper=HE_2016,
            parameters=parameters,
            reference=InputSize(in_channels=3, image_size=32, num_classes=10),
            recipes={"default": default, "paper": paper},
            preset={"table": "cifar"},
            defaults={"depth": depth, "shortcut": shortcut, "stem": "small", "image_size": 32},
            summary=f"{depth} layers for CIFAR-10, {kind}, widths 16-32-64",
            image_size=16,
            deviations=(RECIPE, MEAN_IMAGE),
            published=published,
            notes=(DOES_NOT_LEARN, *notes) if depth == 110 and shortcut == "none" else notes,
        )
    )


def _top1(error: str, source: str) -> PublishedResult:
    return PublishedResult("ImageNet top-1 error, 10 crops", error, "%", f"He et al. 2016, {source}")


def _top5(error: str, source: str) -> PublishedResult:
    return PublishedResult("ImageNet top-5 error, 10 crops", error, "%", f"He et al. 2016, {source}")


def _table_6(error: str, source: str = "Table 6", metric: str = "CIFAR-10 test error") -> PublishedResult:
    return PublishedResult(metric, error, "%", f"He et al. 2016, {source}")


FIG_6 = "read off Fig. 6 (left), good to half a point, by the README of a-martyn/resnet"
BC = ("Table 3, option B", "Table 3, option C")
_imagenet("resnet18", 18, 11_689_512, _top1("27.88", "Table 2, option A"), *torchvision_accuracy("69.758", "89.078"))
_imagenet(
    "resnet34",
    34,
    21_797_672,
    _top1("25.03", "Table 2, option A"),
    _top1("24.52", BC[0]),
    _top5("7.46", BC[0]),
    _top1("24.19", BC[1]),
    _top5("7.40", BC[1]),
    *torchvision_accuracy("73.314", "91.420"),
)
_imagenet(
    "resnet50",
    50,
    25_557_032,
    _top1("22.85", "Table 3"),
    _top5("6.71", "Table 3"),
    *torchvision_accuracy("76.130", "92.862"),
)
_imagenet(
    "resnet101",
    101,
    44_549_160,
    _top1("21.75", "Table 3"),
    _top5("6.05", "Table 3"),
    *torchvision_accuracy("77.374", "93.546"),
)
_imagenet(
    "resnet152",
    152,
    60_192_808,
    _top1("21.43", "Table 3"),
    _top5("5.71", "Table 3"),
    *torchvision_accuracy("78.312", "94.046"),
)
_imagenet("plain18", 18, 11_515_688, _top1("27.94", "Table 2"), shortcut="none")
_imagenet("plain34", 34, 21_623_848, _top1("28.54", "Table 2"), shortcut="none")
_cifar("resnet20", 20, 269_722, _table_6("8.75"))
_cifar("resnet32", 32, 464_154, _table_6("7.51"))
_cifar("resnet44", 44, 658_586, _table_6("7.17"))
_cifar("resnet56", 56, 853_018, _table_6("6.97"))
_cifar("resnet110", 110, 1_727_962, _table_6("6.43", "Table 6, best of 5 runs; their mean is 6.61 +- 0.16"))
_cifar("resnet1202", 1202, 19_421_274, _table_6("7.93"))
_cifar("plain20", 20, 269_722, _table_6("9.5", FIG_6), shortcut="none")
_cifar("plain32", 32, 464_154, _table_6("10", FIG_6), shortcut="none")
_cifar("plain44", 44, 658_586, _table_6("12", FIG_6), shortcut="none")
_cifar("plain56", 56, 853_018, _table_6("13.5", FIG_6), shortcut="none")
_cifar("plain110", 110, 1_727_962, _table_6("60", "section 4.2", "CIFAR-10 test error, more than"), shortcut="none")
