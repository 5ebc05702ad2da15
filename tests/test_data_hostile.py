"""Image files as they turn up: each is decoded to the right picture, or refused in one line that names it."""

import io
import os
import re
import struct
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from zoo.datamodules.images import image_size_of, read_image, read_image_bytes

RAMP = np.arange(0, 256, dtype=np.uint8).reshape(16, 16)
COLOR = np.stack([RAMP, RAMP.T, RAMP[::-1]], axis=-1)
NOISE = np.random.default_rng(0).integers(0, 256, (48, 48, 3), dtype=np.uint8)
FLAT = np.zeros((16, 32, 3), np.uint8)  # its quarters survive JPEG compression
FLAT[:8, :16], FLAT[8:, 16:] = (200, 40, 40), (40, 40, 200)
ORIENTATION = 0x0112


def encoded(image: np.ndarray | Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(stream, kind, **options)
    return stream.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, depth: int, color: int, rows: bytes, behind: bytes = b"") -> bytes:
    """A PNG file; `rows` begin with their filter byte each."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(rows, 9))
    return b"\x89PNG\r\n\x1a\n" + header + pixels + behind + chunk(b"IEND", b"")


def deep_color() -> tuple[bytes, np.ndarray]:
    values = np.random.default_rng(1).integers(0, 65536, (5, 7, 3)).astype(">u2")
    data = png(7, 5, 16, 2, b"".join(b"\0" + row.tobytes() for row in values))
    return data, values / 257


def exif(orientation: int, **more: str | bytes) -> Image.Exif:
    marks = Image.Exif()
    marks[ORIENTATION] = orientation
    for name, value in more.items():
        marks[{"comment": 0x010E, "xmp": 0x02BC}[name]] = value
    return marks


def changed(data: bytes, place: int, mask: int = 0xFF) -> bytes:
    return data[:place] + bytes([data[place] ^ mask]) + data[place + 1 :]


def without_adobe_marker(data: bytes) -> bytes:
    start = data.index(b"\xff\xee")
    (length,) = struct.unpack(">H", data[start + 2 : start + 4])
    return data[:start] + data[start + 2 + length :]


def film(kind: str) -> bytes:
    frames = [Image.new("L", (4, 3), value) for value in (10, 200)]
    return encoded(frames[0], kind, save_all=True, append_images=frames[1:])


def palette(**options: object) -> bytes:
    image = Image.new("P", (3, 1))
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    image.putdata([0, 1, 2])
    return encoded(image, "PNG", **options)


def translucent(kind: str) -> bytes:
    pixels = np.zeros((2, 3, 4), np.uint8)
    pixels[:, 1, 3], pixels[:, 2, 3] = 128, 255
    return encoded(pixels if kind == "RGBA" else pixels[..., 2:], "PNG")


def floats(values: np.ndarray) -> bytes:
    return encoded(values.astype(np.float32), "TIFF")


JPEG, PNG, PHOTO = encoded(NOISE, "JPEG"), encoded(NOISE, "PNG"), encoded(FLAT, "JPEG", quality=95, subsampling=0)
ON_WHITE = np.broadcast_to(np.array([255, 127, 0], np.uint8)[:, None], (2, 3, 3))
RED = np.full((16, 16, 3), (255, 0, 0), np.uint8)
LATE_MARK = png(2, 1, 8, 0, b"\0\x05\x09", chunk(b"eXIf", exif(6).tobytes().removeprefix(b"Exif\0\0")))
BAD_EXIF = b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\x01\x12"
CMYK = encoded(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG")
SIGNALLING = floats(np.array([[0.5, 0.375]])).replace(struct.pack("<f", 0.375), b"\x01\0\x80\x7f")  # one kind of NaN
TAGGED = encoded(FLAT, "TIFF", compression="tiff_lzw", dpi=(72, 72))
XRESOLUTION = TAGGED.index(struct.pack("<HHI", 0x011A, 5, 1)) + 8  # where its number is said to be
BAD_TAG = TAGGED[:XRESOLUTION] + struct.pack("<I", len(TAGGED) + 9) + TAGGED[XRESOLUTION + 4 :]
LAB = encoded(Image.new("LAB", (4, 4)), "TIFF")
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"
DAMAGED, NO_IMAGE, TOO_LARGE = "damaged image", "not an image", r"refused, it has more than [\d,]+ pixels"

# File name, content, and what is expected: the picture, the picture within so many steps of 255, or the error.
CASES: list[tuple[str, bytes, np.ndarray | tuple[np.ndarray, int] | str]] = [
    ("cut.jpg", JPEG[: len(JPEG) // 2], DAMAGED),
    ("cut_in_header.jpg", JPEG[:100], DAMAGED),
    ("cut_at_end.jpg", JPEG[:-40], DAMAGED),
    ("cut_progressive.jpg", encoded(NOISE, "JPEG", progressive=True)[:-600], DAMAGED),
    ("cut.png", PNG[: len(PNG) // 2], DAMAGED),
    ("wrong_header_sum.png", changed(PNG, 30), DAMAGED),
    ("wrong_pixels.png", changed(PNG, 3000), DAMAGED),
    ("wrong_pixels_uncompressed.png", changed(encoded(NOISE, "PNG", compress_level=0), 3000), DAMAGED),
    ("page.jpg", b"<!doctype html><html><body>404 Not Found</body></html>", NO_IMAGE),
    ("postscript.jpg", EPS, NO_IMAGE),
    ("empty.png", b"", NO_IMAGE),
    ("one_byte.jpg", b"\xff", NO_IMAGE),
    ("grey16.png", encoded(RAMP.astype(np.uint16) * 257, "PNG"), np.repeat(RAMP[..., None], 3, 2)),
    ("grey16_big_endian.tif", encoded(Image.fromarray(RAMP.astype(">u2") * 257), "TIFF"), RAMP),
    ("grey16_dark.pgm", b"P5 2 1 65535\n" + struct.pack(">HH", 0, 200), np.array([[0, 1]])),
    ("grey10.pgm", b"P5 3 1 1023\n" + struct.pack(">HHH", 0, 512, 1023), (np.array([[0, 127.6, 255]]), 1)),
    ("color16.png", deep_color()[0], (deep_color()[1], 1)),
    ("fractions.tif", floats(RAMP / 255), RAMP),
    ("no_number.tif", floats(np.array([[0.5, np.nan]])), "holds values that are not finite"),
    ("signalling.tif", SIGNALLING, "holds values that are not finite"),
    ("infinite.tif", floats(np.array([[0.5, np.inf]])), "holds values that are not finite"),
    ("all_negative.tif", floats(np.full((2, 2), -3.0)), np.zeros((2, 2))),
    ("int32.tif", encoded(Image.fromarray(RAMP.astype(np.int32) * 257), "TIFF"), RAMP),
    ("palette.png", palette(), np.eye(3)[None] * 255),
    ("palette_clear.png", palette(transparency=1), np.array([[[255, 0, 0], [255, 255, 255], [0, 0, 255]]])),
    ("palette_half.png", palette(transparency=bytes([255, 0, 255])), np.array([[[255, 0, 0], [255] * 3, [0, 0, 255]]])),
    ("cmyk_adobe.jpg", CMYK, (RED, 2)),
    # Without the marker most programs, Pillow among them, still take the values as Adobe writes them, inverted.
    ("cmyk_plain.jpg", without_adobe_marker(CMYK), (RED, 2)),
    ("lab.tif", LAB, "in the colour space LAB, which is not read here: save it as RGB"),
    ("clear_grey.png", translucent("LA"), ON_WHITE),
    ("clear_color.png", translucent("RGBA"), ON_WHITE),
    ("bits.png", encoded(Image.fromarray(RAMP > 127), "PNG"), (RAMP > 127) * 255),
    ("turned.jpg", encoded(FLAT, "JPEG", quality=95, subsampling=0, exif=exif(6)), (np.rot90(FLAT, -1), 6)),
    ("turned.tif", encoded(FLAT, "TIFF", exif=exif(8)), np.rot90(FLAT)),
    ("turned_with_xmp.tif", encoded(FLAT, "TIFF", exif=exif(8, xmp=b"<x:xmpmeta/>")), np.rot90(FLAT)),
    ("turned16.png", encoded(RAMP[:8].astype(np.uint16) * 257, "PNG", exif=exif(8)), np.rot90(RAMP[:8])),
    ("turned.webp", encoded(FLAT, "WEBP", lossless=True, exif=exif(6)), np.rot90(FLAT, -1)),
    ("mark_behind_pixels.png", LATE_MARK, np.array([[5], [9]])),
    (
        "much_exif.jpg",
        encoded(FLAT, "JPEG", quality=95, subsampling=0, exif=exif(3, comment="x" * 65000)),
        (FLAT[::-1, ::-1], 6),
    ),
    ("bad_exif.jpg", PHOTO[:2] + b"\xff\xe1" + struct.pack(">H", 2 + len(BAD_EXIF)) + BAD_EXIF + PHOTO[2:], (FLAT, 6)),
    ("bad_tag.tif", BAD_TAG, FLAT),
    ("bomb.png", png(20_000, 20_000, 1, 0, bytes(2501 * 20_000)), TOO_LARGE),
    ("bomb_in_header.png", png(60_000, 60_000, 8, 2, b""), TOO_LARGE),
    ("small_bomb.png", png(10_000, 10_000, 8, 2, b""), TOO_LARGE),
    ("bomb.gif", b"GIF89a\xff\xff\xff\xff" + encoded(RAMP, "GIF")[10:], TOO_LARGE),
    ("small_bomb.pgm", b"P5 10000 10000 255\n", TOO_LARGE),
    ("film.gif", film("GIF"), np.full((3, 4), 10)),
    ("pages.tif", film("TIFF"), np.full((3, 4), 10)),
    ("a_png.jpg", encoded(COLOR, "PNG"), COLOR),
    ("a_jpeg.png", PHOTO, (FLAT, 6)),
    ("no_suffix", encoded(COLOR, "BMP"), COLOR),
    ("no_width.png", png(0, 4, 8, 0, b""), DAMAGED),
    ("no_size.gif", b"GIF89a" + bytes(20), NO_IMAGE),
    ("pixel.png", encoded(COLOR[:1, 1:2], "PNG"), COLOR[:1, 1:2]),
    ("line.png", encoded(np.tile(RAMP.reshape(1, -1), (1, 9)), "PNG"), np.tile(RAMP.reshape(1, -1), (1, 9))),
    ("column.png", encoded(RAMP.reshape(-1, 1), "PNG"), RAMP.reshape(-1, 1)),
    ("more_behind.jpg", PHOTO + os.urandom(1000), (FLAT, 6)),
    ("two\nlines.jpg", b"nothing", NO_IMAGE),
]


@pytest.mark.parametrize(("name", "content", "expected"), CASES, ids=[case[0] for case in CASES])
def test_right_picture_or_one_line(
    name: str, content: bytes, expected: np.ndarray | tuple[np.ndarray, int] | str, tmp_path: Path
) -> None:
    """REQ-I2: awkward files of every format give the right picture, or an error that names the file."""
    path = tmp_path / name
    path.write_bytes(content)
    if isinstance(expected, str):
        for read in (lambda: read_image(path, 3), lambda: read_image_bytes(content, str(path), 3)):
            check_error(read, path, expected)
        return
    picture, tolerance = expected if isinstance(expected, tuple) else (expected, 0)
    picture = picture if picture.ndim == 3 else np.repeat(picture[..., None], 3, axis=2)
    image = read_image(path, 3)
    assert (image.dtype, image.shape, image.flags.writeable) == (np.uint8, picture.shape, True)
    assert np.abs(image.astype(float) - picture).max() <= tolerance
    assert np.array_equal(read_image_bytes(content, "x", 3), image)
    assert image_size_of(path) == image.shape[:2]
    weights = np.array([0.299, 0.587, 0.114])  # ITU-R 601-2, which Pillow's grey follows
    assert np.abs(read_image(path, 1)[..., 0] - image @ weights).max() <= 1


def check_error(read: Callable[[], object], path: Path, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as error:
        read()
    name = str(path) if "\n" not in str(path) else ascii(str(path))
    assert re.match(re.escape(f"{name}: ") + reason, str(error.value)), error.value
    assert "\n" not in str(error.value) and len(str(error.value)) < len(name) + 120


def test_there_are_enough_cases() -> None:
    assert len({content for _, content, _ in CASES}) >= 50


def test_what_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "folder.png").mkdir()
    os.mkfifo(tmp_path / "pipe.png")  # opening it would wait for ever
    (tmp_path / "broken.png").symlink_to(tmp_path / "gone.png")
    for read in (lambda path: read_image(path, 3), image_size_of):
        with pytest.raises(ValueError, match=r"folder\.png: is a folder, not an image$"):
            read(tmp_path / "folder.png")
        with pytest.raises(ValueError, match=r"pipe\.png: is a pipe or device, not an image$"):
            read(tmp_path / "pipe.png")
        with pytest.raises(FileNotFoundError, match=r"broken\.png: no such file$"):
            read(tmp_path / "broken.png")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the superuser may read everything")
def test_unreadable_file(tmp_path: Path) -> None:
    path = tmp_path / "secret.png"
    path.write_bytes(PNG)
    path.chmod(0)
    with pytest.raises(PermissionError, match=r"secret\.png: may not be read; check the rights of the file$"):
        read_image(path, 3)


@pytest.mark.parametrize("name", ["bad_exif.jpg", "bad_tag.tif", "small_bomb.png", "small_bomb.pgm", "two\nlines.jpg"])
def test_what_pillow_warns_of_is_not_repeated_to_the_user(name: str) -> None:
    content = next(content for known, content, _ in CASES if known == name)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            read_image_bytes(content, name, 3)
        except ValueError:
            assert not name.startswith("bad")
    assert caught == []


def test_limit_follows_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 48 * 48)
    assert np.array_equal(read_image_bytes(PNG, "x", 3), NOISE)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 48 * 48 - 1)
    with pytest.raises(ValueError, match=r"^x: refused, it has more than 2,303 pixels$"):
        read_image_bytes(PNG, "x", 3)


def test_size_needs_only_the_header(tmp_path: Path) -> None:
    path = tmp_path / "half.png"
    path.write_bytes(PNG[: len(PNG) // 2])
    assert image_size_of(path) == (48, 48)
    with pytest.raises(ValueError, match=DAMAGED):
        read_image(path, 3)
