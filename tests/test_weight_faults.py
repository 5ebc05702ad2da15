"""Files of weights that are hostile or damaged: one line that names the file, and no code runs."""

import os
import pickle
import random
import sys
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from zoo.weight_files import read_weights, write_weights

TENSORS = {"layer.weight": torch.arange(6.0).reshape(2, 3), "layer.bias": torch.tensor([1.0, -2.0])}
DESCRIPTION: dict[str, Any] = {"name": "mlp", "args": {}, "recipe": {}, "data": {}}


def fault(path: Path) -> str:
    """The message with which a file is refused."""
    with pytest.raises(ValueError) as caught:
        read_weights(path)
    message = str(caught.value)
    assert message.startswith(f"'{path}' ")
    assert "\n" not in message
    return message


class Order:
    """Unpickled, it calls a function."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.order = (function, arguments)

    def __reduce__(self) -> Any:
        return self.order


def write_module(folder: Path, marker: Path) -> None:
    """An importable module that leaves a marker when it is imported, and another when its function is called."""
    (folder / "evil.py").write_text(
        f"from pathlib import Path\nPath({str(marker)!r}).touch()\n"
        f"def instantiate(*a, **k):\n    Path({str(marker)!r} + '_called').touch()\n"
        "class Evil:\n    def __init__(self, *a, **k): instantiate()\n"
    )


@pytest.fixture
def marker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that must not come into being; the environment variable tries to switch the protection off."""
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    return tmp_path / "marker"


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("where", ["alone", "with tensors"])
def test_a_bare_pickle_with_a_payload(protocol: int, where: str, marker: Path, tmp_path: Path) -> None:
    payload = Order(os.mkdir, str(marker))
    path = tmp_path / "weights.pt"
    path.write_bytes(pickle.dumps(payload if where == "alone" else {"a": 1, "state_dict": payload}, protocol))
    message = fault(path)
    assert ("holds more than tensors" in message) == (protocol >= 2)  # older ones begin like any text
    assert not marker.exists()
    pickle.loads(path.read_bytes())
    assert marker.exists(), "the pickle should be able to do harm"


@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "legacy"])
def test_a_file_of_torch_with_a_payload(is_zip: bool, marker: Path, tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    content = {"state_dict": TENSORS, "zoo": DESCRIPTION, "extra": Order(os.mkdir, str(marker))}
    torch.save(content, path, _use_new_zipfile_serialization=is_zip)
    assert "holds more than tensors, posix.mkdir for one, and was not loaded" in fault(path)
    assert not marker.exists()
    torch.load(path, weights_only=False)
    assert marker.exists(), "the file should be able to do harm"


def test_a_whole_network_is_refused_with_the_remedy(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2), tmp_path / "weights.pt")
    assert fault(tmp_path / "weights.pt").endswith("that can run code: save the model's state_dict() alone")


@pytest.mark.parametrize("place", ["checkpoint", "hyper_parameters", "zoo"])
def test_what_a_checkpoint_names_is_not_imported(
    place: str, marker: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_module(tmp_path, marker)
    monkeypatch.syspath_prepend(str(tmp_path))
    names = {"_class_path": "evil.Evil", "_instantiator": "evil.instantiate", "class_path": "evil.Evil"}
    checkpoint: dict[str, Any] = {"state_dict": TENSORS, "hyper_parameters": {}, "zoo": dict(DESCRIPTION)}
    (checkpoint if place == "checkpoint" else checkpoint[place]).update(names)
    torch.save(checkpoint, tmp_path / "weights.ckpt")
    found = read_weights(tmp_path / "weights.ckpt")
    assert list(found.tensors) == list(TENSORS)
    assert "evil" not in sys.modules
    assert not [*tmp_path.glob("marker*")]


def test_a_class_of_an_importable_module_is_not_imported(
    marker: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_module(tmp_path, marker)
    monkeypatch.syspath_prepend(str(tmp_path))
    stream = b"\x80\x02cevil\ninstantiate\n)R."  # calls evil.instantiate()
    (tmp_path / "weights.pt").write_bytes(stream)
    assert "holds more than tensors, evil.instantiate for one" in fault(tmp_path / "weights.pt")
    assert not [*tmp_path.glob("marker*")]
    pickle.loads(stream)
    assert len([*tmp_path.glob("marker*")]) == 2, "the pickle should be able to do harm"
    del sys.modules["evil"]


def written(path: Path) -> bytes:
    write_weights(path, TENSORS, DESCRIPTION)
    return path.read_bytes()


def test_truncated_safetensors(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    data = written(path)
    header_end = 8 + int.from_bytes(data[:8], "little")
    ends = [0, 1, 7, 8, 9, header_end - 1, header_end, header_end + 1, len(data) - 1]
    ends += random.Random(0).sample(range(10, len(data) - 1), 20)
    for end in ends:
        path.write_bytes(data[:end])
        message = fault(path)
        assert (" is truncated or damaged: " in message) == (end > 8), (end, message)


@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "legacy"])
def test_truncated_files_of_torch(is_zip: bool, tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    torch.save(TENSORS, path, _use_new_zipfile_serialization=is_zip)
    data = path.read_bytes()
    for end in [0, 1, 2, 3, 4, len(data) - 1, *random.Random(0).sample(range(5, len(data) - 1), 20)]:
        path.write_bytes(data[:end])
        fault(path)


def test_more_than_the_header_says(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    path.write_bytes(written(path) + b"\0")
    assert "is truncated or damaged: its header does not fit its content" in fault(path)


@pytest.mark.parametrize("length", [2**64 - 1, 2**63, 2**40, 10_000])
def test_a_header_longer_than_the_file(length: int, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    data = written(path)
    path.write_bytes(length.to_bytes(8, "little") + data[8:])
    assert f"its header would end at byte {length + 8:,} of {len(data):,}" in fault(path)


@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "legacy"])
def test_flipped_bits_in_files_of_torch(is_zip: bool, tmp_path: Path) -> None:
    """Each is refused; or, in a zip with its check sums, changes nothing; or, in a legacy file, gives some tensors."""
    path = tmp_path / "weights.pt"
    torch.save({"state_dict": TENSORS, "zoo": DESCRIPTION}, path, _use_new_zipfile_serialization=is_zip)
    data = path.read_bytes()
    generator = random.Random(0)
    refused = 0
    for _ in range(500):
        damaged = bytearray(data)
        damaged[generator.randrange(len(data))] ^= 1 << generator.randrange(8)
        path.write_bytes(damaged)
        try:
            found = read_weights(path)
        except ValueError as error:
            refused += 1
            assert str(error).startswith(f"'{path}' ")
            assert "\n" not in str(error)
        else:
            assert found.tensors
            if is_zip:
                assert found.description == DESCRIPTION
                assert all(torch.equal(found.tensors[name], tensor) for name, tensor in TENSORS.items())
    assert 50 < refused < 500


# The zip files of torch


def packed(path: Path, parts: list[tuple[str, bytes]], compression: int = zipfile.ZIP_STORED) -> Path:
    """A sound zip of these parts."""
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w", compression) as archive:
        warnings.simplefilter("ignore")  # of a name that is there already
        for name, content in parts:
            archive.writestr(name, content)
    return path


@pytest.fixture
def parts(tmp_path: Path) -> list[tuple[str, bytes]]:
    """The parts of a file that torch wrote."""
    torch.save(TENSORS, tmp_path / "sound.pt")
    with zipfile.ZipFile(tmp_path / "sound.pt") as archive:
        return [(part.filename, archive.read(part)) for part in archive.infolist()]


def test_a_file_that_was_packed_anew_is_read(parts: list[tuple[str, bytes]], tmp_path: Path) -> None:
    found = read_weights(packed(tmp_path / "weights.pt", parts)).tensors
    assert all(torch.equal(found[name], tensor) for name, tensor in TENSORS.items())


@pytest.mark.parametrize("is_first", [True, False])
def test_two_parts_with_one_name(parts: list[tuple[str, bytes]], is_first: bool, tmp_path: Path) -> None:
    """torch reads the first one, Python's own library the last."""
    name, content = next(part for part in parts if part[0].endswith("data/0"))
    twice = [(name, bytes(len(content))), *parts] if is_first else [*parts, (name, bytes(len(content)))]
    assert fault(packed(tmp_path / "weights.pt", twice)).endswith("is damaged: two of its parts have the same name")


def test_parts_that_are_compressed(parts: list[tuple[str, bytes]], tmp_path: Path) -> None:
    """A kilobyte could become a gigabyte."""
    path = packed(tmp_path / "weights.pt", parts, zipfile.ZIP_DEFLATED)
    assert fault(path).endswith("is damaged: its parts are compressed, which torch.save never does")


def test_one_file_behind_another(parts: list[tuple[str, bytes]], tmp_path: Path) -> None:
    """Python's library reads the second, and torch, which counts from the beginning, the first, unchecked."""
    sound = packed(tmp_path / "weights.pt", parts)
    damaged = bytearray(sound.read_bytes())
    damaged[damaged.index(TENSORS["layer.weight"].numpy().tobytes())] ^= 1
    both = tmp_path / "both.pt"
    both.write_bytes(bytes(damaged) + sound.read_bytes())
    assert not torch.equal(torch.load(both, weights_only=True)["layer.weight"], TENSORS["layer.weight"])
    assert fault(both).endswith("is damaged: something stands before its first part")


def test_something_behind_a_file(parts: list[tuple[str, bytes]], tmp_path: Path) -> None:
    """Which end of two is the right one, libraries need not agree on."""
    path = packed(tmp_path / "weights.pt", parts)
    path.write_bytes(path.read_bytes() + written(tmp_path / "other.safetensors"))
    assert fault(path).endswith("is damaged: something stands after its end")


def test_a_part_that_is_shorter_than_its_tensor(parts: list[tuple[str, bytes]], tmp_path: Path) -> None:
    short = [(name, content[:8] if name.endswith("data/0") else content) for name, content in parts]
    assert "is truncated or damaged" in fault(packed(tmp_path / "weights.pt", short))


def test_files_without_check_sums_are_read(tmp_path: Path) -> None:
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(TENSORS, tmp_path / "weights.pt")
    finally:
        torch.serialization.set_crc32_options(True)
    found = read_weights(tmp_path / "weights.pt").tensors
    assert all(torch.equal(found[name], tensor) for name, tensor in TENSORS.items())


def test_a_tensor_that_is_larger_than_its_file(tmp_path: Path) -> None:
    """One number that is said to stand for 4 TB."""
    torch.save({"a": torch.ones(1).expand(10**12)}, tmp_path / "weights.pt")
    assert fault(tmp_path / "weights.pt").endswith("is damaged: a has more elements, 1,000,000,000,000, than the file")


def header(text: bytes, values: bytes = b"") -> bytes:
    return len(text).to_bytes(8, "little") + text + values


HEADERS = {
    "no JSON": header(b"{nonsense}"),
    "deep": header(b'{"__metadata__":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_001),
    "negative shape": header(b'{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}', bytes(4)),
    "huge shape": header(b'{"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,4]}}', bytes(4)),
    "overlap": header(
        b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
        bytes(4),
    ),
    "beyond the end": header(b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}', bytes(4)),
    "unknown kind": header(b'{"a":{"dtype":"F31","shape":[1],"data_offsets":[0,4]}}', bytes(4)),
    "description is no JSON": header(
        b'{"__metadata__":{"zoo":"{"},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', bytes(4)
    ),
    "description is deep": header(
        b'{"__metadata__":{"zoo":"' + b"[" * 100_000 + b'"},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
        bytes(4),
    ),
}


@pytest.mark.parametrize("name", HEADERS)
def test_headers_that_lie(name: str, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    path.write_bytes(HEADERS[name])
    assert "is truncated or damaged: its header does not fit its content" in fault(path)


def test_names_that_would_write_on_the_screen(tmp_path: Path) -> None:
    torch.save({"\x1b[2Ja\n": torch.ones(1)}, tmp_path / "weights.pt")
    message = fault(tmp_path / "weights.pt")
    assert message.endswith(r"is damaged: a tensor in it is called '\x1b[2Ja\n'")


FOREIGN = {
    "empty": (b"", "is empty: fetch it again"),
    "web page": (b"\n <!DOCTYPE html><html>Sign in</html>", "is a web page and no file of weights"),
    "pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "is a pointer of Git LFS"),
    "text": (b"weights, honestly", "is not a checkpoint or another file of weights: it begins with b'wei"),
    "other zip": (b"PK\x03\x04" + bytes(100), "is truncated or damaged: its table of contents does not fit it"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_files_that_are_something_else(name: str, tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    path.write_bytes(FOREIGN[name][0])
    assert FOREIGN[name][1] in fault(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([torch.ones(1)], "holds a list and no dictionary of tensors"),
        (torch.ones(1), "holds a Tensor and no dictionary of tensors"),
        ({}, "has no tensors in it, neither by name nor in state_dict, model_state_dict, model, model_ema"),
        ({"state_dict": {"a": 1, 2: torch.ones(1)}, "optimizer": {"b": torch.ones(1)}}, "has no tensors in it"),
        ({"a": torch.ones(2, 2).to_sparse()}, "has a tensor that is not dense and real: a"),
        ({"a": torch.ones(1, dtype=torch.complex64)}, "has a tensor that is not dense and real: a"),
        ({"a": torch.ones(1, device="meta")}, "has a tensor that is not dense and real: a"),
    ],
    ids=["list", "tensor", "empty", "none", "sparse", "complex", "meta"],
)
def test_content_that_is_no_state_dict(content: object, message: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "weights.pt")
    assert message in fault(tmp_path / "weights.pt")


def test_programs_are_no_weights(tmp_path: Path) -> None:
    network = torch.nn.Linear(2, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated
        torch.jit.script(network).save(tmp_path / "script.pt")
    assert "is a TorchScript program, which holds more than tensors: save" in fault(tmp_path / "script.pt")
    torch.export.save(torch.export.export(network, (torch.ones(1, 2),)), tmp_path / "program.pt2")
    assert "is truncated or damaged, or holds more than tensors" in fault(tmp_path / "program.pt2")


def test_places_that_are_no_files(tmp_path: Path) -> None:
    assert fault(tmp_path).endswith("is a folder: name a file of weights in it")
    for address in ("https://example.org/weights.pt", "s3://bucket/weights.pt"):
        with pytest.raises(ValueError, match=f"'{address}' is an address: weights are read from local files only"):
            read_weights(address)
    with pytest.raises(FileNotFoundError, match=r"^no file of weights at '.*none\.pt'$"):
        read_weights(tmp_path / "none.pt")


def test_a_file_that_may_not_be_read_is_not_called_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "weights.pt"
    torch.save(TENSORS, path)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(PermissionError, match=r"weights\.pt"):
        read_weights(path)
