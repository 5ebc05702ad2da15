"""Data sets of image files: class folders with one changed picture, and tables that were changed."""

from functools import cache
from itertools import product
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from PIL import Image

from tests.fuzz_files_mutations import change_dialect, change_rows, mutate, mutate_png, mutate_table
from tests.fuzz_files_parts import CLASSES, DIGITS, SIDE, Case, encoded, file_options, noise
from tests.test_data_hostile import deep_color
from zoo.datamodules import CSV, Folder

COMPRESSIONS = ("tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits")
PLAIN = (
    (".pgm", b"P2 # grey\n3 2 255\n0 1 2\n3 4 255\n"),
    (".pgm", b"P5 2 2 65535\n" + bytes(range(8))),
    (".pbm", b"P1\n3 2\n0 1 0\n1 1 1\n"),
    (".ppm", b"P3 1 2 7 0 1 2 3 4 7\n"),
)


@cache
def pictures() -> tuple[tuple[str, bytes], ...]:
    """Suffix and content of an image of every kind that people have."""
    colour, grey = Image.fromarray(noise(1000, 24, 20, 3)), noise(1001, 24, 20)
    smooth, bits = Image.linear_gradient("L").resize((40, 40)).convert("RGB"), Image.fromarray(grey > 99)
    clear, palette = Image.fromarray(noise(1002, 24, 20, 4)), colour.convert("P", palette=Image.Palette.ADAPTIVE)
    film = {"save_all": True, "append_images": [Image.fromarray(noise(1003, 24, 20, 3))]}
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a picture"
    deep, fractions, ink = grey.astype(np.uint16) * 257, grey / np.float32(255), colour.convert("CMYK")
    kinds: dict[str, list[tuple[Any, dict[str, Any]]]] = {
        "PNG": [
            *((image, {}) for image in (colour, deep, grey, clear, clear.convert("LA"), palette, bits)),
            (colour, {"exif": exif}), (palette, {"transparency": 3}), (colour, {"compress_level": 0}),
        ],
        "JPEG": [
            *((image, {}) for image in (colour, grey, ink)), (smooth, {"progressive": True}), (smooth, {"exif": exif}),
            (smooth, {"quality": 95, "subsampling": 0, "comment": b"x" * 300}),
        ],
        "TIFF": [
            *((image, {}) for image in (colour, deep, fractions, ink, clear, palette)),
            *((colour, {"compression": compression}) for compression in COMPRESSIONS),
            (colour, {**film, "exif": exif}), (bits, {"compression": "group4"}),
        ],
        "WEBP": [(colour, {"lossless": True}), (smooth, {}), (clear, {"lossless": True, "exif": exif}), (colour, film)],
        "GIF": [(palette, {}), (palette, film), (palette, {"transparency": 3})],
        "BMP": [(image, {}) for image in (colour, palette, grey, clear)],
        "PPM": [(colour, {}), (grey, {})],
        "JPEG2000": [(smooth, {})],
        "AVIF": [(smooth, {})],
    }  # fmt: skip
    suffixes = {"JPEG": ".jpg", "JPEG2000": ".jp2"}
    files = [
        (suffixes.get(kind, f".{kind.lower()}"), encoded(image, kind, **how))
        for kind, images in kinds.items()
        for image, how in images
    ]
    return (*files, *PLAIN, (".png", deep_color()[0]))


def change_picture(random: Random) -> tuple[str, bytes]:
    """A suffix, and a changed image file."""
    suffix, content = random.choice(pictures())
    change = mutate_png if suffix == ".png" and random.random() < 0.8 else mutate
    changed = change(content, random, donor(random))
    return (random.choice(pictures())[0] if random.random() < 0.05 else suffix), changed


def donor(random: Random) -> bytes:
    """What foreign pieces come from."""
    return random.choice(pictures())[1]


def folder(root: Path, random: Random) -> Case:
    """ROOT/CLASS/*.png, and one changed file among them."""
    images, options = _write_images(root), file_options(random)
    suffix, content = change_picture(random)
    name = random.choice(CLASSES)
    (root / name / f"changed{suffix}").write_bytes(content)
    known = [(_as_read(pixels, options["in_channels"]), label) for pixels, label in images.values()]
    what = (
        f"folder, changed{suffix}, {options['on_error']}, cache {options['cache']}, {options['in_channels']} channels"
    )
    return Case(what, root, lambda: Folder(str(root), **options), known, free=[name])


def table(root: Path, random: Random) -> Case:
    """A table of images that are sound; rows that are as they were must mean what they meant."""
    images, options = _write_images(root), file_options(random)
    names = dict(zip(CLASSES, random.choice((CLASSES, DIGITS[2:4])), strict=True))
    pairs = {
        f"{path},{names[name]}": (_as_read(pixels, options["in_channels"]), names[name])
        for path, (pixels, name) in images.items()
    }
    lines = ["path,label", *pairs]
    if random.random() < 0.6:
        there = change_rows(lines, random)
        text = change_dialect(there, random)
    else:
        text = mutate_table("\n".join(lines).encode(), random, donor(random))
        there = text.decode("utf-8", "replace").split("\n")
    (root / "table.csv").write_bytes(text)
    case = Case(f"csv, labels {names}", root, lambda: CSV(str(root / "table.csv"), **options))
    intact = [pairs[line] for line in pairs if line in there]
    if there[0] == lines[0]:
        case.known = intact
    else:
        case.either = dict(intact)
    case.free = [None] * (len(there) - len(case.known))
    return case


def _write_images(root: Path) -> dict[str, tuple[np.ndarray, str]]:
    """Images and class names by their path."""
    images = {
        f"{name}/{number:02}.png": (noise(100 * label + number, SIDE, SIDE, 3), name)
        for (label, name), number in product(enumerate(CLASSES), range(12))
    }
    for path, (pixels, _) in images.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(encoded(pixels, "PNG"))
    return images


def _as_read(pixels: np.ndarray, in_channels: int) -> bytes:
    image = Image.fromarray(pixels)
    return (image.convert("L") if in_channels == 1 else image).tobytes()
