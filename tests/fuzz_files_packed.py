"""Data sets of files that hold many images, one of the files changed."""

import gzip
import io
import struct
import tarfile
from pathlib import Path
from random import Random

import numpy as np

from tests.conftest import write_idx
from tests.fuzz_files_images import donor
from tests.fuzz_files_mutations import mutate, mutate_gzip, mutate_in_place
from tests.fuzz_files_parts import (
    CLASSES,
    DIGITS,
    SIDE,
    Case,
    Pair,
    Row,
    change_file,
    encoded,
    file_options,
    noise,
    plain_options,
)
from tests.test_data_cifar import NAMES, opcodes, python2
from zoo.datamodules import CIFAR10, MNIST, SVHN, HuggingFace, WebDataset

Idx = tuple[tuple[int, ...], bytes]  # dimensions and values


def mnist(root: Path, random: Random) -> Case:
    """IDX files, plain or .gz; a reader of its own says exactly what they hold."""
    raw, is_packed = root / "MNIST/raw", random.random() < 0.5
    for prefix, count in (("train", 60), ("t10k", 30)):
        write_idx(raw / f"{prefix}-images-idx3-ubyte", noise(count, count, 28, 28))
        write_idx(raw / f"{prefix}-labels-idx1-ubyte", np.arange(count) % 10)
    if is_packed:
        for path in list(raw.iterdir()):
            path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes(), 1))
            path.unlink()
    path = random.choice(sorted(raw.iterdir()))
    change = random.choice((mutate, mutate_in_place, mutate_in_place))
    if is_packed and random.random() < 0.8:
        change = mutate_gzip
    path.write_bytes(change(path.read_bytes(), random, donor(random)))
    options = plain_options(28)
    case = Case(f"mnist, {path.name}", root, lambda: MNIST(str(root), **options), verdict="refuse")
    train, test = _read_pairs(raw, "train"), _read_pairs(raw, "t10k")
    if train is not None and test is not None:
        case.known = train + test
        labels = [label for _, label in train]
        case.verdict = "accept" if min(map(labels.count, DIGITS)) > 1 else ""
    return case


def _read_pairs(raw: Path, prefix: str) -> list[Pair] | None:
    """What two IDX files hold, or None if they are not sound."""
    images, labels = _read_idx(raw, f"{prefix}-images-idx3-ubyte", 3), _read_idx(raw, f"{prefix}-labels-idx1-ubyte", 1)
    if images is None or labels is None or max(labels[1]) > 9 or images[0] != (*labels[0], 28, 28):
        return None
    return [(images[1][784 * row : 784 * (row + 1)], str(label)) for row, label in enumerate(labels[1])]


def _read_idx(raw: Path, name: str, dimensions: int) -> Idx | None:
    try:
        plain = raw / name
        data = plain.read_bytes() if plain.exists() else gzip.decompress((raw / f"{name}.gz").read_bytes())
        shape = struct.unpack(f">{dimensions}I", data[4 : 4 + 4 * dimensions])
    except Exception:  # not sound
        return None
    values = data[4 + 4 * dimensions :]
    is_sound = data[:4] == bytes((0, 0, 8, dimensions)) and len(values) == int(np.prod(shape, dtype=object)) > 0
    return (shape, values) if is_sound else None


def _spans(content: bytes, pieces: list[bytes], start: int = 0) -> list[range]:
    """Where pieces stand in a file, one after the other."""
    found = []
    for piece in pieces:
        start = content.index(piece, start)
        found.append(range(start, start + len(piece)))
        start += len(piece)
    return found


def _together(content: bytes, pieces: list[bytes]) -> list[range]:
    """Where pieces stand that follow each other without a gap."""
    return _spans(content, pieces, content.index(b"".join(pieces)))


def cifar(root: Path, random: Random) -> Case:
    """Pickles as Python 2 wrote them."""
    base = root / "cifar-10-batches-py"
    base.mkdir(parents=True)
    files = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]
    rows = dict[str, list[Row]]()
    for number, name in enumerate(files):
        pixels, labels = noise(2000 + number, 10, 3072), [label * 7 % 10 for label in range(10)]
        content = python2({b"data": pixels, b"labels": labels, b"batch_label": b"a batch"})
        (base / name).write_bytes(content)
        images = pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        pairs = [(image.tobytes(), NAMES[label].decode()) for image, label in zip(images, labels, strict=True)]
        places = _spans(content, [row.tobytes() for row in pixels]), _together(content, [*map(opcodes, labels)])
        rows[name] = [Row(*row) for row in zip(pairs, *places, strict=True)]
    (base / "batches.meta").write_bytes(python2({b"label_names": NAMES}))
    name = random.choice(files) if random.random() < 0.9 else "batches.meta"
    options = plain_options(32)
    case = Case(f"cifar10, {name}", root, lambda: CIFAR10(str(root), **options))
    case.known = [row.pair for other in files if other != name for row in rows[other]]
    return change_file(case, base / name, rows.get(name, []), random, donor(random))


def svhn(root: Path, random: Random) -> Case:
    """MATLAB files; packed ones have a check sum, plain ones have none."""
    import scipy.io

    root.mkdir(parents=True)
    rows, is_packed = dict[str, list[Row]](), random.random() < 0.3
    for part, count in (("train", 40), ("test", 20)):
        path, images = root / f"{part}_32x32.mat", noise(count, count, 32, 32, 3)
        labels = (np.arange(count) % 10 + 1).astype(np.uint8)
        content = {"X": images.transpose(1, 2, 3, 0), "y": labels[:, None]}
        scipy.io.savemat(path, content, do_compression=is_packed)
        pairs = [(image.tobytes(), str(label % 10)) for image, label in zip(images, labels.tolist(), strict=True)]
        places = [range(0)] * count, [range(0)] * count
        if not is_packed:
            stored = [image.transpose(2, 1, 0).tobytes() for image in images]  # (C, W, H): the order of MATLAB
            data = path.read_bytes()
            places = _spans(data, stored), _together(data, [label.tobytes() for label in labels])
        rows[part] = [Row(*row) for row in zip(pairs, *places, strict=True)]
    part, other = random.sample(("train", "test"), 2)
    options = plain_options(32)
    case = Case(f"svhn, {part}{', packed' * is_packed}", root, lambda: SVHN(str(root), **options))
    case.known = [row.pair for row in rows[other]]
    return change_file(case, root / f"{part}_32x32.mat", rows[part], random, donor(random))


def shards(root: Path, random: Random) -> Case:
    """A tar file as the library webdataset writes it."""
    root.mkdir(parents=True)
    images = [noise(3000 + number, SIDE, SIDE, 3) for number in range(24)]
    files, rows, path = [encoded(pixels, "PNG", compress_level=0) for pixels in images], list[Row](), root / "0.tar"
    with tarfile.open(path, "w") as tar:
        for number, (pixels, file) in enumerate(zip(images, files, strict=True)):
            suffix, text = ("json", b'{"label": %d}') if number % 3 == 0 else ("cls", b"%d\n")
            places = [
                _add(tar, f"{number:03}.{name}", data) for name, data in (("png", file), (suffix, text % (number % 2)))
            ]
            rows.append(Row((pixels.tobytes(), CLASSES[number % 2]), *places))
    options = {
        **plain_options(),
        "drop_last": True,
        "classes": list(CLASSES),
        "on_error": random.choice(("raise", "skip")),
    }
    case = Case(f"webdataset, {options['on_error']}", root, lambda: WebDataset(str(path), **options))
    return change_file(case, path, rows, random, donor(random))


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> range:
    """Add a member; where its data stand."""
    info = tarfile.TarInfo(name)
    info.size = len(data)
    start = tar.offset + tarfile.BLOCKSIZE
    tar.addfile(info, io.BytesIO(data))
    return range(start, start + len(data))


def parquet(root: Path, random: Random) -> Case:
    """A Parquet file that the library datasets reads, without compression or dictionaries, which would hide bytes."""
    import datasets
    import pyarrow.parquet

    root.mkdir(parents=True)
    datasets.disable_progress_bars()
    names = DIGITS[:2]  # so that the classes are called the same if a change takes their names away
    images, labels = [noise(4000 + number, SIDE, SIDE, 3) for number in range(24)], [number % 2 for number in range(24)]
    files, path = [encoded(pixels, "PNG", compress_level=0) for pixels in images], root / "train.parquet"
    features = datasets.Features({"picture": datasets.Image(), "label": datasets.ClassLabel(names=list(names))})
    content = {"picture": [{"bytes": file, "path": None} for file in files], "label": labels}
    rows_of_all = datasets.Dataset.from_dict(content, features=features).with_format("arrow")[:]
    pyarrow.parquet.write_table(rows_of_all, path, compression="none", use_dictionary=False)
    data = path.read_bytes()
    pairs = [(pixels.tobytes(), names[label]) for pixels, label in zip(images, labels, strict=True)]
    places = _spans(data, files), _together(data, [struct.pack("<q", label) for label in labels])
    rows = [Row(*row) for row in zip(pairs, *places, strict=True)]
    options = {**file_options(random), "in_channels": 3}
    case = Case(f"huggingface, {options['on_error']}", root, lambda: HuggingFace(str(root), **options))
    return change_file(case, path, rows, random, donor(random))
