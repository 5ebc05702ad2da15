"""Files of weights that are in order: every format is read, and what is written comes back."""

import errno
import hashlib
import json
import os
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

import zoo
from tests.conftest import ROOT
from zoo.weight_files import WeightFile, atomic_file, read_weights, verify, write_weights

TENSORS = {"layer.weight": torch.arange(6.0).reshape(2, 3), "layer.bias": torch.tensor([1.0, -2.0])}
OTHERS = {"layer.weight": torch.zeros(2, 3)}
DESCRIPTION = {"name": "mlp", "args": {"hidden": [3], "norm": None}, "recipe": {"lr": 0.1}, "data": {"text": 'é "q"\n'}}


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert list(found) == list(expected)
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor), name
        assert not found[name].requires_grad


def save(path: Path, content: object, **options: Any) -> Path:
    torch.save(content, path, **options)
    return path


@pytest.mark.parametrize(
    "content",
    [
        TENSORS,
        OrderedDict(TENSORS),
        {name: nn.Parameter(tensor) for name, tensor in TENSORS.items()},
        {"state_dict": TENSORS, "epoch": 3, "optimizer_states": [{"state": {0: torch.ones(1)}}], "step": torch.ones(1)},
        {"model": TENSORS, "model_ema": OTHERS, "arch": "x"},
        {"model_state_dict": TENSORS, "optimizer_state_dict": {}, "state_dict_ema": OTHERS},
        {"epoch": 3, "model_ema": TENSORS},
        {"state_dict_ema": TENSORS, "model": {}},
        {**TENSORS, "version": 2, "names": ["a"], 3: torch.ones(1), "model_ema": OTHERS},
    ],
    ids=["plain", "ordered", "parameters", "lightning", "model", "model_state_dict", "ema", "ema_2", "mixed"],
)
@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "legacy"])
def test_whatever_torch_saved(content: object, is_zip: bool, tmp_path: Path) -> None:
    path = save(tmp_path / "weights.safetensors", content, _use_new_zipfile_serialization=is_zip)  # the name misleads
    found = read_weights(path)
    assert_same(found.tensors, TENSORS)
    assert found.description is None
    assert found.path == path


def test_a_checkpoint_of_ours(tmp_path: Path) -> None:
    found = read_weights(save(tmp_path / "best.ckpt", {"state_dict": TENSORS, "zoo": DESCRIPTION}))
    assert_same(found.tensors, TENSORS)
    assert found.description == DESCRIPTION


@pytest.mark.parametrize("description", [{"name": "x"}, [1], "text", None])
def test_a_description_that_is_not_ours_is_none(description: object, tmp_path: Path) -> None:
    assert read_weights(save(tmp_path / "a", {"state_dict": TENSORS, "zoo": description})).description is None
    safetensors.torch.save_file(TENSORS, tmp_path / "b", {"zoo": json.dumps(description)})
    assert read_weights(tmp_path / "b").description is None


def test_safetensors_of_others(tmp_path: Path) -> None:
    kinds = [torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int8, torch.uint8, torch.bool]
    tensors = {str(kind): torch.tensor([[0, 1], [1, 1]], dtype=kind) for kind in kinds} | {"scalar": torch.tensor(2.0)}
    for metadata in (None, {"format": "pt"}):
        safetensors.torch.save_file(tensors, tmp_path / "weights.bin", metadata)  # again the name misleads
        found = read_weights(str(tmp_path / "weights.bin"))
        assert_same(dict(sorted(found.tensors.items())), dict(sorted(tensors.items())))
        assert found.description is None


def test_any_length_of_header_is_recognised(tmp_path: Path) -> None:
    """The length comes first: with 640 bytes the file begins as a pickle does, with 0x04034b50 as a zip would."""
    path = tmp_path / "weights"
    for length in range(600, 700, 8):
        entry = json.dumps({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
        path.write_bytes(length.to_bytes(8, "little") + entry.ljust(length) + bytes(4))
        assert_same(read_weights(path).tensors, {"a": torch.zeros(1)})


def test_written_and_read_again(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "model.safetensors"
    write_weights(path, TENSORS, DESCRIPTION)
    found = read_weights(path)
    assert_same(dict(sorted(found.tensors.items())), dict(sorted(TENSORS.items())))
    assert found.description == DESCRIPTION
    with safetensors.safe_open(path, framework="pt") as file:  # what any other program sees
        assert file.metadata()["format"] == "pt"
        assert json.loads(file.metadata()["zoo"]) == DESCRIPTION
    assert [file.name for file in path.parent.iterdir()] == ["model.safetensors"]
    umask = os.umask(0)
    os.umask(umask)
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask, "others must be able to read what is shared with them"


def test_strided_and_shared_tensors_are_written(tmp_path: Path) -> None:
    base = torch.arange(24.0).reshape(1, 2, 3, 4)
    tensors = {
        "all": base,
        "again": base,
        "part": base[:, :, 1],
        "transposed": base.transpose(1, 3),
        "last": base.to(memory_format=torch.channels_last),
        "parameter": nn.Parameter(torch.ones(2)),
        "empty": torch.zeros(0, 3),
    }
    write_weights(tmp_path / "a", tensors, DESCRIPTION)
    found = read_weights(tmp_path / "a").tensors
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[name], tensors[name]) for name in tensors)


def test_a_model_comes_back(tmp_path: Path) -> None:
    model = zoo.create_model("lenet5", num_classes=3)
    write_weights(tmp_path / "a", model.state_dict(), model.description())
    found = read_weights(tmp_path / "a")
    assert found.description == model.description()
    other = zoo.create_model("lenet5", num_classes=3)
    other.load_state_dict(found.tensors)
    x = torch.randn(2, 1, 32, 32)
    assert torch.equal(model(x), other(x))


def test_the_same_content_gives_the_same_bytes(tmp_path: Path) -> None:
    """Also from other processes, with other seeds of their hash tables, and from a file that was read."""
    code = (
        "import sys, torch\nfrom zoo.weight_files import read_weights, write_weights\n"
        "found = read_weights(sys.argv[1])\n"
        "tensors = dict(reversed(found.tensors.items()))\n"
        "description = dict(reversed(found.description.items()))\n"
        "[write_weights(f'{sys.argv[2]}/{i}', tensors, description) for i in range(8)]\n"
    )
    write_weights(tmp_path / "first", TENSORS, DESCRIPTION)
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "first"), str(tmp_path)], cwd=ROOT, check=True)
    hashes = {hashlib.sha256(path.read_bytes()).hexdigest() for path in tmp_path.iterdir()}
    assert len([*tmp_path.iterdir()]) == 9
    assert len(hashes) == 1


def test_a_failure_leaves_the_file_that_was_there(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    write_weights(path, TENSORS, DESCRIPTION)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="JSON"):
        write_weights(path, TENSORS, {**DESCRIPTION, "data": {"loss": float("nan")}})
    with pytest.raises(OSError, match="No space left on device"), atomic_file(path) as file:
        file.write(b"half of it")
        raise OSError(errno.ENOSPC, "No space left on device")
    assert path.read_bytes() == before
    assert [*tmp_path.iterdir()] == [path]


def test_values_reach_the_disk_before_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, seen = tmp_path / "model.safetensors", []
    sync, replace = os.fsync, Path.replace

    def note_sync(number: int) -> None:
        seen.append("sync")
        sync(number)

    def note_replace(source: Path, target: Path) -> Path:
        seen.append("rename")
        return replace(source, target)

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(Path, "replace", note_replace)
    write_weights(path, TENSORS, DESCRIPTION)
    assert seen == ["sync", "rename", "sync"]


def test_verify_knows_the_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    write_weights(path, TENSORS, DESCRIPTION)
    data = path.read_bytes()
    sha256 = hashlib.sha256(data).hexdigest()
    verify(path, sha256, len(data))
    with pytest.raises(ValueError, match=r"model\.safetensors' is damaged: it has [\d,]+ bytes and not 7; delete it, "):
        verify(path, sha256, 7)
    with pytest.raises(ValueError, match=f"is damaged: its SHA-256 is {sha256} and not {sha256[:8]}; delete it, fetch"):
        verify(path, sha256[:8], len(data))
    with pytest.raises(FileNotFoundError):
        verify(tmp_path / "none", sha256, len(data))
    for position in (0, 20, len(data) - 1):
        damaged = bytearray(data)
        damaged[position] ^= 1
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="is damaged: its SHA-256 is "):
            verify(path, sha256, len(data))


def test_a_bit_that_flips_in_files_of_others_needs_the_hash(tmp_path: Path) -> None:
    """Why `verify` exists: the format itself does not notice, and older files of ours have no hash inside."""
    path = tmp_path / "model.safetensors"
    safetensors.torch.save_file(TENSORS, path, {"zoo": json.dumps(DESCRIPTION)})
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    found: WeightFile = read_weights(path)
    assert found.description == DESCRIPTION
    assert not all(torch.equal(found.tensors[name], TENSORS[name]) for name in TENSORS)


def test_every_bit_that_flips_in_a_file_of_ours_is_noticed(tmp_path: Path) -> None:
    """All bits in turn: what is still read has the very tensors and the very description."""
    path = tmp_path / "model.safetensors"
    write_weights(path, TENSORS, DESCRIPTION)
    data = bytearray(path.read_bytes())
    end = 8 + int.from_bytes(data[:8], "little")
    refused = 0
    for position in range(8 * len(data)):
        data[position // 8] ^= 1 << position % 8
        path.write_bytes(data)
        try:
            found = read_weights(path)
        except ValueError as error:
            refused += 1
            assert str(error).startswith(f"'{path}' ")
            assert "\n" not in str(error)
        else:
            assert position // 8 < end, "a bit of the values"
            assert_same(dict(sorted(found.tensors.items())), dict(sorted(TENSORS.items())))
            assert found.description == DESCRIPTION
        data[position // 8] ^= 1 << position % 8
    assert refused > 0.95 * 8 * len(data)
