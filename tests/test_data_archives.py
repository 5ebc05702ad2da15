"""Archives that the tests write, hostile and damaged ones among them."""

import io
import re
import tarfile
import zipfile
from pathlib import Path

import pytest

from zoo.datamodules.archives import extract_tar, extract_zip


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def write_tar(path: Path, *members: tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for member in members:
            member.size = 4 if member.isreg() else 0
            tar.addfile(member, io.BytesIO(b"evil"))
    return path


def link(name: str, target: str) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = tarfile.SYMTYPE, target
    return member


@pytest.mark.parametrize(
    "members",
    [
        [tarfile.TarInfo("good"), tarfile.TarInfo("../evil")],
        [tarfile.TarInfo("good/../../evil")],
        [link("way", ".."), tarfile.TarInfo("way/evil")],
        [link("way", "/etc")],
    ],
)
def test_tar_with_members_outside_is_refused(tmp_path: Path, members: list[tarfile.TarInfo]) -> None:
    """REQ-I1: nothing is unpacked outside the folder."""
    folder = tmp_path / "root"
    folder.mkdir()
    path = write_tar(folder / "file.tar.gz", *members)
    with pytest.raises(ValueError, match=f"^{re.escape(str(path))}: refused, ") as error:
        extract_tar(path, folder)
    assert "\n" not in str(error.value)
    assert names(tmp_path) == ["root", "root/file.tar.gz"]


def test_absolute_names_stay_within_the_folder(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "file.tar.gz", tarfile.TarInfo("/zoo-test/evil"))
    extract_tar(path, tmp_path)
    assert names(tmp_path) == ["file.tar.gz", "zoo-test", "zoo-test/evil"]


def test_damaged_archives_leave_nothing_behind(tmp_path: Path) -> None:
    """REQ-I1: what is unpacked appears only when it is whole."""
    path = write_tar(tmp_path / "file.tar.gz", *map(tarfile.TarInfo, "abc"))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match="cannot be unpacked"):
        extract_tar(path, tmp_path)
    zipped = tmp_path / "file.zip"
    with zipfile.ZipFile(zipped, "w") as file:
        file.writestr("in/a", b"content" * 100)
    with pytest.raises(ValueError, match=r"there is no in/b in it$"):
        extract_zip(zipped, ["in/b"], tmp_path)
    zipped.write_bytes(zipped.read_bytes().replace(b"content", b"CONTENT", 1))
    with pytest.raises(ValueError, match="cannot be unpacked"):
        extract_zip(zipped, ["in/a"], tmp_path)
    assert names(tmp_path) == ["file.tar.gz", "file.zip"]
