"""REQ-S5, REQ-S2, REQ-I1: hashes are compared whole, over every part, and before what they prove is used."""

import hashlib
import threading
import urllib.request
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

import zoo
from tests.test_data_download import CONTENT, MIRRORS, ONE, Response, Server
from zoo import pretrained
from zoo.datamodules.download import Archive, fetch
from zoo.weight_files import read_weights
from zoo.weights import embedded

SHA256 = hashlib.sha256(CONTENT).hexdigest()
MD5 = hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()


def test_released_weights_are_verified_before_they_are_parsed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """REQ-S5: of a file as long as the right one, in which nothing could be parsed, the hash is what is said."""
    known = embedded()["lenet5.mnist"]
    (tmp_path / known.file).write_bytes(b"\xff" * known.size)
    monkeypatch.setattr(pretrained, "FOLDER", tmp_path)
    with pytest.raises(ValueError, match=f"is damaged: its SHA-256 is .* and not {known.sha256}"):
        zoo.create_model("lenet5", pretrained="mnist")


def test_a_part_without_a_sum_excuses_no_other(tmp_path: Path) -> None:
    """REQ-S2: the check sum of an empty tensor is 0, as if torch had been told to write none."""
    path, weight = tmp_path / "weights.pt", torch.arange(1.0, 65.0)
    torch.save({"empty": torch.zeros(0), "weight": weight}, path)
    with zipfile.ZipFile(path) as archive:
        sums = [part.CRC for part in archive.infolist()]
    assert 0 in sums
    assert any(sums)
    content = bytearray(path.read_bytes())
    content[content.index(weight.numpy().tobytes()) + 100] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="Bad CRC-32"):
        read_weights(path)


def fault(path: Path, kind: str, expected: str) -> str:
    """What is wrong with a file that should have this hash."""
    whole = {"md5": "", "sha256": "", kind: expected}
    return Archive(path.name, md5=whole["md5"], sha256=whole["sha256"]).fault(path)


@pytest.mark.parametrize(("kind", "right"), [("sha256", SHA256), ("md5", MD5)])
def test_every_digit_of_a_hash_counts(kind: str, right: str, tmp_path: Path) -> None:
    """REQ-I1: files that agree in the first digits, or in all but one, are another's."""
    path = tmp_path / "file.gz"
    path.write_bytes(CONTENT)
    assert fault(path, kind, right) == ""
    others = [right[:place] + f"{int(right[place], 16) ^ 1:x}" + right[place + 1 :] for place in range(len(right))]
    for other in (*others, right[:8].ljust(len(right), "0"), right[:8]):
        assert fault(path, kind, other) == f"{kind.upper()} {right} instead of {other}"


def test_two_who_want_a_file_fetch_it_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """REQ-I1: who comes second waits for a slow server's answer to the first, and finds the file whole."""
    both_ask = threading.Event()

    def answer(start: int) -> Response:
        if len(server.asked) > 1:
            both_ask.set()
        both_ask.wait(0.5)
        return Response(CONTENT[start:], ONE, length=len(CONTENT) - start)

    server = Server({ONE: answer}, ranges=False)
    monkeypatch.setattr(urllib.request, "build_opener", lambda *_: server)
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    archive = Archive("file.gz", sha256=SHA256)
    with ThreadPoolExecutor(2) as pool:
        wanted = [pool.submit(fetch, archive, MIRRORS[:1], tmp_path / "data") for _ in range(2)]
        assert [path.result().read_bytes() for path in wanted] == [CONTENT, CONTENT]
    assert server.asked == [(ONE, 0)]
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["file.gz"]
