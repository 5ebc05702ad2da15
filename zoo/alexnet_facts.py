"""Facts about AlexNet; the network itself is in `zoo.alexnet`."""

from zoo.common_facts import AUGMENTATION, CONVOLUTIONAL, MEAN_ONLY, torchvision_accuracy
from zoo.recipe import Recipe
from zoo.registry import Deviation, InputSize, ModelInfo, Paper, PublishedResult, register_model

KRIZHEVSKY_2012 = Paper(
    authors="Krizhevsky, Sutskever & Hinton",
    title="ImageNet Classification with Deep Convolutional Neural Networks",
    venue="NIPS",
    year=2012,
    url="https://papers.nips.cc/paper/4824-imagenet-classification-with-deep-convolutional-neural-networks",
)
KRIZHEVSKY_2014 = Paper(
    authors="Krizhevsky",
    title="One weird trick for parallelizing convolutional neural networks",
    venue="arXiv",
    year=2014,
    url="https://arxiv.org/abs/1404.5997",
)
AS_PUBLISHED = Recipe(
    optimizer="sgd",
    lr=0.01,
    momentum=0.9,
    weight_decay=5e-4,
    decay_all=True,
    schedule="step",
    milestones=(0.25, 0.5, 0.75),
    batch_size=128,
    epochs=90,
    source="Krizhevsky et al. 2012, section 5; the moments of the rate's three steps are ours",
)
# From the paper's initialisation the network stays at chance at first: a lower rate and more epochs.
DEFAULT_2012 = CONVOLUTIONAL.replace(lr=1e-4, epochs=45)
TABLE_2 = "Krizhevsky et al. 2012, Table 2, 1 CNN"
SMALL_IMAGES = Deviation(
    "below 63 pixels, the first convolution has stride 2 and padding 5",
    "with the paper's stride of 4 nothing is left after three poolings",
    "--model.image_size 224",
)
RECIPE = Deviation("the default recipe is AdamW", "it trains in minutes; without the paper's crops", "--recipe paper")

register_model(
    ModelInfo(
        name="alexnet",
        family="zoo.alexnet:AlexNet",
        paper=KRIZHEVSKY_2014,
        parameters=61_100_840,
        reference=InputSize(in_channels=3, image_size=224, num_classes=1000),
        recipes={"default": CONVOLUTIONAL, "paper": AS_PUBLISHED},
        preset={"config": "2014"},
        summary="the single column, as in torchvision",
        image_size=32,
        deviations=(
            Deviation("conv4 has 256 maps", "as in torchvision and cuda-convnet2; a footnote of the paper says 384"),
            Deviation("no local response normalisation", "as in torchvision; 2012 has it", "--model.lrn true"),
            Deviation("no groups", "one GPU; in 2012 two GPUs shared the maps", "--model.groups 2"),
            Deviation("initialisation is He's normal", "trains without waiting for the biases", "--model.init paper"),
            SMALL_IMAGES,
            Deviation("the default recipe is AdamW", "it trains in minutes; --recipe paper is that of 2012"),
            MEAN_ONLY,
            AUGMENTATION,
        ),
        published=torchvision_accuracy("56.522", "79.066"),
    )
)
register_model(
    ModelInfo(
        name="alexnet_2012",
        family="zoo.alexnet:AlexNet",
        paper=KRIZHEVSKY_2012,
        parameters=60_965_224,
        reference=InputSize(in_channels=3, image_size=224, num_classes=1000),
        recipes={"default": DEFAULT_2012, "paper": AS_PUBLISHED},
        preset={"config": "2012"},
        defaults={"lrn": True, "groups": 2, "init": "paper"},
        summary="the paper's two towers: response normalisation, groups, overlapping pooling, its initialisation",
        image_size=32,
        deviations=(
            Deviation("an image of 224 is padded by 2", "the paper's 224 do not fit 11x11 with stride 4 into 55x55"),
            SMALL_IMAGES,
            RECIPE,
            MEAN_ONLY,
            AUGMENTATION,
        ),
        published=(
            PublishedResult("ImageNet top-1 error", "40.7", "%", TABLE_2),
            PublishedResult("ImageNet top-5 error", "18.2", "%", TABLE_2),
            PublishedResult("fall of the top-1 error by LRN", "1.4", "points", "Krizhevsky et al. 2012, section 3.3"),
            PublishedResult(
                "fall of the top-1 error by overlap", "0.4", "points", "Krizhevsky et al. 2012, section 3.4"
            ),
            PublishedResult(
                "fall of the top-1 error by two GPUs", "1.7", "points", "Krizhevsky et al. 2012, section 3.2"
            ),
        ),
    )
)
