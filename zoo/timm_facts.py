"""Facts about the entry for timm's networks; the module is `zoo.timm_backbone`."""

from zoo.common_facts import CONVOLUTIONAL
from zoo.registry import Deviation, InputSize, ModelInfo, Paper, register_model

register_model(
    ModelInfo(
        name="timm",
        family="zoo.timm_backbone:TimmModel",
        paper=Paper(
            authors="Wightman",
            title="PyTorch Image Models",
            venue="GitHub",
            year=2019,
            url="https://github.com/huggingface/pytorch-image-models",
        ),
        parameters=3_504_872,
        reference=InputSize(in_channels=3, image_size=224, num_classes=1000),
        recipes={
            "default": CONVOLUTIONAL.replace(
                lr=1e-3, epochs=12, source="chosen here on the embedded digits with mobilenetv2_100"
            )
        },
        summary="any network of timm: --model.backbone NAME; see zoo list 'timm/*' and zoo info timm/NAME",
        image_size=64,
        deviations=(Deviation("timm's own", "each network is as timm has it; its page on the hub names the paper"),),
    )
)
