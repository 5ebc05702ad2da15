"""Image files decoded without surprises: every kind that people have becomes uint8, or one line says why not.

Needs no torch.
"""

import io
import os
import stat
import struct
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import cache, partial
from typing import IO, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image, JpegImagePlugin, PngImagePlugin, TiffImagePlugin, UnidentifiedImageError

from zoo.datamodules.checks import grey_or_colour
from zoo.datamodules.layout import shown

T = TypeVar("T")
# Not all that Pillow knows: to read EPS, it runs a program.
_FORMATS = frozenset(("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP"))
_EXIF = frozenset(("exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp"))  # where Pillow looks for a mark
_ORIENTATION = 0x0112  # the EXIF tag; its values 2 to 8 say how the picture is to be turned
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_QUIET = threading.Lock()  # warnings filters belong to the process, not to a thread


def read_image(path: str | os.PathLike[str], in_channels: int) -> npt.NDArray[np.uint8]:
    """Decode an image file to uint8 (H, W, C), upright as a viewer would show it.

    - The camera's orientation mark is applied.
    - 16-bit grey is scaled to 0..255. Other integers and floats: values within 0..1 count as fractions, within 0..255
      as they are, within 0..65535 as 16-bit; anything else is stretched from its minimum to its maximum.
    - Palettes, CMYK and other colour spaces are converted; transparency is shown on white.
    - Of an animation, the first picture is taken.

    Args:
        path: The file.
        in_channels: 1 for grey, 3 for colour.

    Raises:
        FileNotFoundError: There is no such file.
        PermissionError: It may not be read.
        ValueError: It is not an image, is damaged, or would be far too large when decoded.
    """
    return _read_file(path, partial(_decode, channels=grey_or_colour(in_channels)))


def read_image_bytes(data: bytes, name: str, in_channels: int) -> npt.NDArray[np.uint8]:
    """Decode an image that is in memory, as `read_image` does.

    Args:
        data: What would be in the file.
        name: What errors call it.
        in_channels: 1 for grey, 3 for colour.

    Raises:
        ValueError: It is not an image, is damaged, or would be far too large when decoded.
    """
    return _named(name, partial(_decode, io.BytesIO(data), channels=grey_or_colour(in_channels)))


def image_size_of(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Height and width of what `read_image` returns, from the file's header.

    Raises:
        FileNotFoundError: There is no such file.
        PermissionError: It may not be read.
        ValueError: It is not an image, its header is damaged, or it would be far too large when decoded.
    """
    return _read_file(path, _upright_size)


class _RefusedError(ValueError):
    """Why an image is not taken; the name of the file is put before it."""


def _read_file(path: str | os.PathLike[str], read: Callable[[IO[bytes]], T]) -> T:
    return _named(os.fspath(path), partial(_with_file, path, read))


def _with_file(path: str | os.PathLike[str], read: Callable[[IO[bytes]], T]) -> T:
    if not stat.S_ISREG((status := os.stat(path)).st_mode):  # noqa: PTH116  # opening a pipe would wait for its writer
        raise _RefusedError(
            "is a folder, not an image" if stat.S_ISDIR(status.st_mode) else "is a pipe or device, not an image"
        )
    with open(path, "rb") as stream:  # noqa: PTH123  # a Path for every small file takes time
        return read(stream)


def _named(name: str, read: Callable[[], T]) -> T:
    """What `read` returns; its errors in one line that begins with the name."""
    try:
        return read()
    except FileNotFoundError:
        raise FileNotFoundError(f"{shown(name)}: no such file") from None
    except PermissionError:
        raise PermissionError(f"{shown(name)}: may not be read; check the rights of the file") from None
    except _RefusedError as error:
        raise ValueError(f"{shown(name)}: {error}") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        most = f"{Image.MAX_IMAGE_PIXELS:,}" if Image.MAX_IMAGE_PIXELS else "the limit of"
        raise ValueError(f"{shown(name)}: refused, it has more than {most} pixels") from None
    except UnidentifiedImageError:
        raise ValueError(f"{shown(name)}: not an image, or of a kind that is not read here") from None
    except Exception as error:  # decoders of damaged files raise whatever they stumble on
        reason = shown(" ".join(str(error).split())) or type(error).__name__
        raise ValueError(f"{shown(name)}: damaged image ({reason})") from None


def _open(stream: IO[bytes]) -> Image.Image:
    """Read the header, and refuse what Pillow would only warn of: more pixels than its limit of 89 million."""
    start = stream.read(1024)
    stream.seek(0)
    image: Image.Image
    if start.startswith(b"\xff\xd8\xff") and b"Exif" not in start:
        image = JpegImagePlugin.JpegImageFile(stream)  # unlike Image.open, this never warns
    elif start.startswith(b"\x89PNG\r\n\x1a\n"):
        image = PngImagePlugin.PngImageFile(stream)
    else:
        with _quietly():
            return Image.open(stream, formats=_formats())
    if Image.MAX_IMAGE_PIXELS is not None and image.width * image.height > Image.MAX_IMAGE_PIXELS:
        raise Image.DecompressionBombError
    return image


@contextmanager
def _quietly() -> Iterator[None]:
    """Nothing is printed about damaged EXIF and the like; only one thread at a time can do so."""
    with _QUIET, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


@cache
def _formats() -> tuple[str, ...]:
    Image.init()
    return tuple(sorted(_FORMATS & Image.OPEN.keys()))


def _decode(stream: IO[bytes], channels: int) -> npt.NDArray[np.uint8]:
    image = _open(stream)
    with _quietly() if image.format == "TIFF" else nullcontext():  # whose marks are read again behind the pixels
        image.load()
    turn = _TURNS.get(_orientation(image))
    if image.mode == "F" or image.mode.startswith("I"):
        # Pillow scales PPM files of more than 8 bits to 16, whatever their values.
        is_deep = image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM")
        image = Image.fromarray(_to_bytes(np.asarray(image), is_deep))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    if image.mode == "LAB":
        raise _RefusedError("in the colour space LAB, which is not read here: save it as RGB")
    mode = "L" if channels == 1 else "RGB"
    if image.mode not in ("L", "RGB", "1"):
        image = image.convert("RGB")
    if image.mode != mode:
        image = image.convert(mode)
    if turn is not None:
        image = image.transpose(turn)
    pixels = np.array(image)  # a copy: asarray would be read-only
    return pixels.reshape(image.height, image.width, channels)


def _orientation(image: Image.Image) -> int:
    if _EXIF.isdisjoint(image.info):
        return 1
    try:
        with _quietly():  # not PNG's own method, which decodes the picture to look for a mark behind it
            return int(Image.Image.getexif(image).get(_ORIENTATION, 1))
    except Exception:  # damaged EXIF says nothing about the pixels
        return 1


def _upright_size(stream: IO[bytes]) -> tuple[int, int]:
    image = _open(stream)
    if isinstance(image, PngImagePlugin.PngImageFile) and _has_text_behind(stream):
        image.load()
    # Pillow turns the size of a TIFF itself.
    turned = not isinstance(image, TiffImagePlugin.TiffImageFile) and _orientation(image) in (5, 6, 7, 8)
    return (image.width, image.height) if turned else (image.height, image.width)


def _has_text_behind(stream: IO[bytes]) -> bool:
    """Whether a PNG has chunks behind its pixels that may hold an orientation mark."""
    place, behind = stream.tell(), False
    stream.seek(8)
    while len(head := stream.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        behind = behind or kind == b"IDAT"
        if behind and kind in (b"eXIf", b"tEXt", b"zTXt", b"iTXt"):
            break
        stream.seek(length + 4, os.SEEK_CUR)  # the contents and their check sum
    stream.seek(place)
    return len(head) == 8


def _to_bytes(values: npt.NDArray[np.generic], is_deep: bool) -> npt.NDArray[np.uint8]:
    if not np.isfinite(values).all():  # before they are made wider, of which numpy warns for some of them
        raise _RefusedError("holds values that are not finite")
    numbers = values.astype(np.float64)
    low, high = float(numbers.min()), float(numbers.max())
    if is_deep or (low >= 0 and 255 < high <= 65535):
        numbers /= 257  # 65535 / 255
    elif low >= 0 and high <= 1:
        numbers *= 255
    elif low < 0 or high > 255:
        numbers = (numbers - low) * (255 / (high - low)) if high > low else np.zeros_like(numbers)
    return np.rint(numbers).astype(np.uint8)
