"""Takes files out of archives: nothing outside the folder, and every file appears under its name only when whole."""

import shutil
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath


def extract_tar(archive: Path, folder: Path) -> None:
    """Unpack a .tar.gz of plain files into a folder; files of the same name are replaced.

    Raises:
        ValueError: The archive is damaged, or something in it is no plain file within the folder.
        PermissionError: The folder may not be written to.
    """
    try:
        # On the same disk as the folder, so that moving a file into its place is one step.
        with tempfile.TemporaryDirectory(prefix=f".{archive.name}.", dir=folder) as temporary:
            with tarfile.open(archive, "r:gz") as tar:
                for member in tar:
                    if not member.isreg() and not member.isdir():
                        raise ValueError(f"{archive}: refused, {member.name!r} is neither a file nor a folder")
                    tar.extract(member, temporary, filter="data")
            _move_files(Path(temporary), folder)
    except PermissionError:
        raise PermissionError(f"{folder}: may not be written to; check its rights or choose another root") from None
    except tarfile.FilterError as error:
        raise ValueError(f"{archive}: refused, {error}") from None
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise ValueError(f"{archive}: cannot be unpacked ({error})") from None


def _move_files(source: Path, folder: Path) -> None:
    for path in sorted(source.rglob("*")):
        if path.is_file():
            target = folder / path.relative_to(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            path.replace(target)


def extract_zip(archive: Path, members: Sequence[str], folder: Path) -> None:
    """Take the named members out of a .zip; they go into the folder itself, without the folders of the archive.

    Raises:
        ValueError: The archive is damaged, or has no such member.
        PermissionError: The folder may not be written to.
    """
    try:
        with zipfile.ZipFile(archive) as zipped:
            for member in members:
                target = folder / PurePosixPath(member).name
                part = target.with_name(target.name + ".part")
                try:
                    with zipped.open(member) as source, part.open("wb") as file:
                        shutil.copyfileobj(source, file)
                    part.replace(target)
                finally:
                    part.unlink(missing_ok=True)
    except PermissionError:
        raise PermissionError(f"{folder}: may not be written to; check its rights or choose another root") from None
    except KeyError:
        raise ValueError(f"{archive}: there is no {member} in it") from None
    except (zipfile.BadZipFile, EOFError, zlib.error, OSError) as error:
        raise ValueError(f"{archive}: cannot be unpacked ({error})") from None
