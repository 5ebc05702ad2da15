"""Image files of every awkward kind, written by the tests."""

import struct
import zlib
from pathlib import Path

import lightning as L
import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.v2 import functional

from zoo.datamodules import Digits
from zoo.datamodules.batch import Sizing, squares
from zoo.datamodules.images import ImageFiles, collect_images, read_image
from zoo.datamodules.views import VIEWS, views

RAMP = np.arange(0, 256, dtype=np.uint8).reshape(16, 16)
COLOR = np.stack([RAMP, RAMP.T, RAMP[::-1]], axis=-1)
NOISE = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)


def save(image: Image.Image, path: Path, **options: object) -> Path:
    image.save(path, **options)
    return path


def test_grey_and_color(tmp_path: Path) -> None:
    grey, color = save(Image.fromarray(RAMP), tmp_path / "g.png"), save(Image.fromarray(COLOR), tmp_path / "c.png")
    assert np.array_equal(read_image(grey, 1), RAMP[..., None])
    assert np.array_equal(read_image(grey, 3), np.repeat(RAMP[..., None], 3, axis=2))
    assert np.array_equal(read_image(color, 3), COLOR)
    assert read_image(color, 1).shape == (16, 16, 1)
    assert read_image(color, 3).flags.writeable


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_mark_is_applied(tmp_path: Path, orientation: int) -> None:
    """REQ-I2: the camera's orientation mark is applied."""
    stored = np.zeros((24, 48, 3), np.uint8)
    stored[:12, :24] = (255, 0, 0)
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = read_image(save(Image.fromarray(stored), tmp_path / "photo.png", exif=exif), 3)
    upright = {
        1: stored, 2: stored[:, ::-1], 3: stored[::-1, ::-1], 4: stored[::-1],
        5: stored.transpose(1, 0, 2), 6: np.rot90(stored, -1), 7: stored[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(stored),
    }  # fmt: skip
    assert np.array_equal(image, upright[orientation])


def test_sixteen_bits_are_scaled(tmp_path: Path) -> None:
    """REQ-I2: 16-bit grey is scaled, not cut off at white."""
    path = save(Image.fromarray(RAMP.astype(np.uint16) * 257), tmp_path / "deep.png")
    assert np.array_equal(read_image(path, 1)[..., 0], RAMP)
    assert np.array_equal(read_image(path, 3)[..., 2], RAMP)
    dark = save(Image.fromarray(np.full((4, 4), 257 * 3, np.uint16)), tmp_path / "dark.tiff")
    assert set(read_image(dark, 1).ravel()) == {3}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (RAMP / 255, RAMP),
        (RAMP.astype(float), RAMP),
        (RAMP * 257.0, RAMP),
        (RAMP * 2.0 - 255, RAMP),
        (RAMP * 1e6, RAMP),
        (np.full((2, 2), 0.5), np.full((2, 2), 128)),
    ],
)
def test_floats_are_scaled(tmp_path: Path, values: np.ndarray, expected: np.ndarray) -> None:
    path = save(Image.fromarray(values.astype(np.float32)), tmp_path / "float.tiff")
    assert np.array_equal(read_image(path, 1)[..., 0], expected)


def test_floats_that_are_not_finite(tmp_path: Path) -> None:
    path = save(Image.fromarray(np.full((2, 2), np.nan, np.float32)), tmp_path / "nan.tiff")
    with pytest.raises(ValueError, match=r"nan\.tiff: holds values that are not finite$"):
        read_image(path, 1)


def test_palette_and_one_bit(tmp_path: Path) -> None:
    flat = np.zeros((8, 8, 3), np.uint8)
    flat[4:] = (200, 100, 50)
    path = save(Image.fromarray(flat).convert("P", palette=Image.Palette.ADAPTIVE), tmp_path / "palette.png")
    assert np.array_equal(read_image(path, 3), flat)
    bits = save(Image.fromarray(RAMP > 127), tmp_path / "bits.png")
    assert set(read_image(bits, 1).ravel()) == {0, 255}
    assert read_image(bits, 3).shape == (16, 16, 3)


def test_transparency_is_shown_on_white(tmp_path: Path) -> None:
    pixels = np.zeros((2, 3, 4), np.uint8)
    pixels[:, 1, 3], pixels[:, 2, 3] = 128, 255
    path = save(Image.fromarray(pixels), tmp_path / "clear.png")
    assert read_image(path, 1)[0, :, 0].tolist() == [255, 127, 0]
    grey = save(Image.fromarray(pixels[..., 2:]), tmp_path / "clear_grey.png")
    assert read_image(grey, 3)[0, :, 1].tolist() == [255, 127, 0]
    keyed = save(Image.fromarray(np.array([[0, 9]], np.uint8)), tmp_path / "keyed.png", transparency=0)
    assert read_image(keyed, 1).ravel().tolist() == [255, 9]


def test_cmyk(tmp_path: Path) -> None:
    path = save(Image.new("CMYK", (4, 4), (0, 255, 255, 0)), tmp_path / "print.tiff")
    assert np.array_equal(read_image(path, 3), np.full((4, 4, 3), (255, 0, 0)))


def test_animation_gives_its_first_picture(tmp_path: Path) -> None:
    frames = [Image.new("L", (4, 4), value) for value in (10, 200)]
    path = save(frames[0], tmp_path / "film.gif", save_all=True, append_images=frames[1:])
    assert set(read_image(path, 1).ravel()) == {10}


def test_what_is_no_image_is_refused(tmp_path: Path) -> None:
    photo = save(Image.fromarray(np.tile(COLOR, (8, 8, 1))), tmp_path / "photo.jpg")
    drawing = save(Image.fromarray(NOISE), tmp_path / "drawing.png")
    files = {
        "half.jpg": photo.read_bytes()[: photo.stat().st_size // 2],
        "half.png": drawing.read_bytes()[: drawing.stat().st_size // 2],
        "page.png": b"<html><body>Not found</body></html>",
        "empty.jpg": b"",
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=r"not an image|damaged image") as error:
            read_image(tmp_path / name, 3)
        assert str(error.value).startswith(f"{tmp_path / name}: ")
        assert "\n" not in str(error.value)


def test_missing_file_and_channels(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"absent\.png: no such file$"):
        read_image(tmp_path / "absent.png", 3)
    with pytest.raises(ValueError, match=r"^in_channels must be 1 \(grey\) or 3 \(colour\), not 4$"):
        read_image(tmp_path / "absent.png", 4)


@pytest.mark.parametrize("side", [10_000, 20_000])
def test_decompression_bomb_is_refused(tmp_path: Path, side: int) -> None:
    """REQ-I2: a small file of a huge picture is refused before it is decoded."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    path = tmp_path / "bomb.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b""))
    with pytest.raises(ValueError, match=r"bomb\.png: refused, it has more than [\d,]+ pixels$"):
        read_image(path, 3)


def test_collecting(tmp_path: Path) -> None:
    for name in ("b.PNG", "a.jpg", "deep/er/c.webp", "notes.txt", ".hidden.png", ".cache/d.png", "__MACOSX/e.png"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    odd = tmp_path / "odd.dat"
    odd.touch()
    found = collect_images([odd, tmp_path / "photos", tmp_path / "photos" / "a.jpg"])
    assert [path.name for path in found] == ["odd.dat", "a.jpg", "b.PNG", "c.webp"]
    with pytest.raises(FileNotFoundError, match=r"nowhere: no such file or folder$"):
        collect_images([tmp_path / "nowhere"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"empty: holds no images; suffixes looked for: \.avif \.bmp \.gif"):
        collect_images([tmp_path / "empty"])
    with pytest.raises(ValueError, match=r"^no images given"):
        collect_images([])


class Echo(L.LightningModule):
    def predict_step(self, batch: tuple[torch.Tensor, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        return batch


def test_files_are_prepared_like_the_test_set(tmp_path: Path) -> None:
    data = Digits(image_size=20, batch_size=5)
    data.setup()
    for row, image in enumerate(data.splits["test"].whole(np.arange(7))):
        save(Image.fromarray(image[..., 0]), tmp_path / f"{row}.png")
    files = ImageFiles(collect_images([tmp_path]), data.describe()["preprocessing"], batch_size=3)
    options = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_checkpointing": False}
    batches = L.Trainer(**options, enable_model_summary=False).predict(Echo(), datamodule=files)
    images, indices = (torch.cat(parts) for parts in zip(*batches, strict=True))
    assert indices.tolist() == list(range(7))
    loader = data.test_dataloader()
    expected = torch.cat([data.on_after_batch_transfer(batch, 0)[0] for batch in loader])[:7]
    assert torch.equal(images, expected)
    image, index = files.predict_dataloader().dataset[np.array([4]), 0]
    assert (image.shape, index.tolist()) == ((1, 20, 20, 1), [4])


def test_damaged_file_is_one_line_in_a_loader(tmp_path: Path) -> None:
    good, bad = save(Image.fromarray(NOISE), tmp_path / "good.png"), tmp_path / "bad.png"
    bad.write_bytes(good.read_bytes()[:100])
    facts = {"image_size": 8, "in_channels": 3, "mean": [0.5] * 3, "std": [0.5] * 3, "border": 0}
    with pytest.raises(ValueError, match=r"bad\.png: ") as error:
        list(ImageFiles([good, bad], facts).predict_dataloader())
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_files_are_cut_as_evaluation_cuts_them(tmp_path: Path, interpolation: str) -> None:
    path = save(Image.fromarray(np.tile(NOISE, (2, 3, 1))), tmp_path / "photo.png")
    facts = {"image_size": 14, "in_channels": 3, "mean": [0.5] * 3, "std": [0.5] * 3, "border": 2}
    files = ImageFiles([path], {**facts, "crop": 0.5, "interpolation": interpolation})
    (images, _), *_ = files.predict_dataloader()
    larger = squares([read_image(path, 3)], 20, interpolation)
    assert np.array_equal(images[:, 2:12, 2:12], larger[:, 5:15, 5:15])
    assert int(images.sum()) == int(images[:, 2:12, 2:12].sum()), "a black border"
    with pytest.raises(ValueError, match=r"^crop must be above 0 and at most 1, for example 0\.875, not 0$"):
        ImageFiles([path], {**facts, "crop": 0})


@pytest.mark.parametrize("side", [16, 19, 20])
def test_views_are_those_of_torchvision(side: int) -> None:
    images = np.random.default_rng(1).integers(0, 256, (2, side, side + 3, 3), dtype=np.uint8)
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2)
    five = functional.five_crop(pixels, 14)
    mirrored = tuple(functional.horizontal_flip(part) for part in five)
    expected = {"none": five[4:], "flip": (five[4], mirrored[4]), "crops": five + mirrored}
    assert list(expected) == list(VIEWS)
    for kind, parts in expected.items():
        found = views(images, 14, kind)
        assert np.array_equal(found, torch.stack([*parts], dim=1).permute(0, 1, 3, 4, 2))
        assert not np.shares_memory(found, images)


def test_views_that_cannot_be_had() -> None:
    with pytest.raises(ValueError, match=r"^unknown views 'flipp': did you mean 'flip'\?"):
        views(NOISE[None], 16, "flipp")
    with pytest.raises(ValueError, match=r"^images of 16 x 16 pixels are smaller than views of 17: enlarge them$"):
        views(NOISE[None], 17, "none")
    facts = {"image_size": 8, "in_channels": 3, "mean": [0.5] * 3, "std": [0.5] * 3, "border": 0}
    with pytest.raises(ValueError, match=r"^unknown views 'ten'"):
        ImageFiles([], facts, views="ten")


@pytest.mark.parametrize(("kind", "number"), [("none", 1), ("flip", 2), ("crops", 10)])
def test_a_batch_holds_the_views_of_a_file_one_after_the_other(tmp_path: Path, kind: str, number: int) -> None:
    paths = [save(Image.fromarray(np.roll(NOISE, k, axis=1)), tmp_path / f"{k}.png") for k in range(3)]
    facts = {"image_size": 32, "in_channels": 3, "mean": [0.5] * 3, "std": [0.5] * 3, "border": 2, "crop": 0.7}
    batches = list(ImageFiles(paths, facts, batch_size=2, views=kind).predict_dataloader())
    assert [indices.tolist() for _, indices in batches] == [[0] * number + [1] * number, [2] * number]
    # The crop of the model is that of one view; ten views have their own: 28 of 32 pixels, and the border around each.
    sizing = Sizing(32, 2, 0.875 if kind == "crops" else 0.7)
    images = torch.cat([images for images, _ in batches]).view(3, number, 32, 32, 3).numpy()
    for path, found in zip(paths, images, strict=True):
        expected = views(squares([read_image(path, 3)], sizing.side), 28, kind)[0]
        assert np.array_equal(found[:, 2:30, 2:30], expected)
        assert int(found.sum()) == int(expected.sum())
