"""Several views of an image for prediction: the average of their probabilities is often a little better."""

import numpy as np

from zoo.datamodules.arrays import Pixels
from zoo.datamodules.batch import cut_centre
from zoo.datamodules.checks import choice

VIEWS: dict[str, str] = {
    "none": "the image",
    "flip": "the image and its mirror image",
    "crops": "the four corners and the centre of a larger image, and their mirror images (Krizhevsky et al. 2012)",
}
VIEW_CROP = 0.875
"""Part of the larger image's side that each of the `crops` has: 224 of 256 pixels in Krizhevsky et al. 2012."""


def views(images: Pixels, image_size: int, kind: str) -> Pixels:
    """What a network is shown of each image, as section 4.1 of Krizhevsky et al. 2012 does for testing.

    Args:
        images: uint8, (N, H, W, C), at least as large as a view; all but `crops` take their centre.
        image_size: The side S of a view, in pixels.
        kind: One of `VIEWS`.

    Returns:
        uint8, (N, V, S, S, C). V is 1 for none; 2 for flip: the image, its mirror image; 10 for crops: top left, top
        right, bottom left, bottom right, centre, and the mirror images of these in the same order.

    Raises:
        ValueError: The kind is unknown, or the images are smaller than a view.
    """
    height, width = images.shape[1:3]
    if min(height, width) < image_size:
        raise ValueError(f"images of {width} x {height} pixels are smaller than views of {image_size}: enlarge them")
    shown = [cut_centre(images, image_size)]
    if choice("views", kind, tuple(VIEWS)) == "crops":
        bottom, right = height - image_size, width - image_size
        corners = [(0, 0), (0, right), (bottom, 0), (bottom, right)]
        shown[:0] = [images[:, y : y + image_size, x : x + image_size] for y, x in corners]
    if kind != "none":
        shown += [view[:, :, ::-1] for view in shown]
    return np.stack(shown, axis=1)
