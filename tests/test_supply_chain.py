"""What is installed with the package, from where, and that none of it reaches the network unasked."""

import importlib.metadata
import json
import re
import socket
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.conftest import ROOT, environment
from tests.offline.sitecustomize import is_of_this_machine

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
RUNTIME = [Requirement(line) for line in PROJECT["dependencies"]]
EXTRAS = [Requirement(line) for lines in PROJECT["optional-dependencies"].values() for line in lines]
OURS: dict[str, Requirement] = {canonicalize_name(requirement.name): requirement for requirement in [*EXTRAS, *RUNTIME]}
LOCK = (ROOT / ".ci" / "lock.txt").read_text()
KNOWN_BAD: list[dict[str, str]] = json.loads((ROOT / "tests" / "known_bad_versions.json").read_text())
# Reserved for documentation: nobody is there.
FAR = ("example.com", "198.51.100.7", "2001:db8::7")


def pins() -> list[tuple[Requirement, list[str]]]:
    """The lock's versions, each with its hashes."""
    lines = [line for line in LOCK.replace("\\\n", " ").splitlines() if re.match(r"\w", line)]
    return [
        (Requirement(line.split(" --hash")[0]), re.findall(r"--hash=sha256:([0-9a-f]{64})\b", line)) for line in lines
    ]


def version_of(pin: Requirement) -> Version:
    """`2.15` of `torch==2.15`."""
    (exact,) = pin.specifier
    assert exact.operator == "=="
    return Version(exact.version)


def overlaps(allowed: SpecifierSet, bad: SpecifierSet) -> bool:
    """Whether a version is both allowed and bad.

    Ranges of these kinds begin at a version that they name, or at 0, and so does what two of them share.
    """
    assert {part.operator for part in [*allowed, *bad]} <= {">=", "<=", "<", "=="}
    named = {"0", *(part.version for part in [*allowed, *bad])}
    return any(allowed.contains(version) and bad.contains(version) for version in named)


@pytest.mark.parametrize(
    ("allowed", "bad", "is_open"),
    [
        (">=2.10", "<2.10", False),
        (">=2.10", "<=2.10", True),
        (">=2.4", ">=2.6.2,<=2.6.3", True),
        ("", "<1", True),
        ("==2.0.8", "<2.0.8", False),
    ],
)
def test_ranges_that_share_a_version_are_found(allowed: str, bad: str, is_open: bool) -> None:
    assert overlaps(SpecifierSet(allowed), SpecifierSet(bad)) == is_open


@pytest.mark.parametrize("entry", KNOWN_BAD, ids=lambda entry: f"{entry['package']}{entry['versions']}")
def test_known_bad_versions_are_out_of_reach(entry: dict[str, str]) -> None:
    """REQ-S1: no version with a known fault is allowed by our floors, in the lock, or installed here."""
    bad = SpecifierSet(entry["versions"])
    if entry["package"] in OURS:
        assert not overlaps(OURS[entry["package"]].specifier, bad), "raise the floor in pyproject.toml"
    locked = [version_of(pin) for pin, _ in pins() if canonicalize_name(pin.name) == entry["package"]]
    assert not [version for version in locked if bad.contains(version)], "renew .ci/lock.txt"
    try:
        installed = importlib.metadata.version(entry["package"])
    except importlib.metadata.PackageNotFoundError:  # of an extra
        return
    assert not bad.contains(installed, prereleases=True)


def test_the_floors_that_security_rests_on() -> None:
    """REQ-S1: checkpoints run no code and class paths have an allow-list, with the oldest versions that we allow."""
    floors = {
        name: Version(next(iter(OURS[name].specifier)).version) for name in ("lightning", "torch", "jsonargparse")
    }
    assert floors["lightning"] >= Version("2.6.6")
    assert floors["torch"] >= Version("2.10")
    assert floors["jsonargparse"] >= Version("4.53")
    assert str(OURS["albumentations"].specifier) == "==2.0.8"


def installed_tree() -> set[str]:
    """What an install of the package with all its extras brings along, as far as it is installed here."""
    found: set[str] = set()
    waiting = ["lightning-zoo"]
    while waiting:
        name = waiting.pop()
        try:
            lines = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        for requirement in map(Requirement, lines):
            wanted = requirement.marker is None or any(
                requirement.marker.evaluate({"extra": extra}) for extra in ("", *PROJECT["optional-dependencies"])
            )
            key = canonicalize_name(requirement.name)
            if wanted and key not in found:
                found.add(key)
                waiting.append(key)
    return found


def test_the_list_of_known_bad_versions_is_about_what_we_install() -> None:
    """REQ-S1: an entry names a package of our tree, an advisory, what it does and who says so."""
    in_reach = installed_tree() | {canonicalize_name(pin.name) for pin, _ in pins()} | {"setuptools"}
    for entry in KNOWN_BAD:
        assert entry["package"] == canonicalize_name(entry["package"])
        assert entry["package"] in in_reach, f"{entry['package']} is not installed with us: remove it"
        assert entry["advisory"] and entry["what"] and entry["source"].startswith("https://")
    assert {"lightning", "torch", "pillow"} <= {entry["package"] for entry in KNOWN_BAD}


@pytest.mark.parametrize("python", ["3.11", "3.12"])
def test_the_lock_has_every_runtime_dependency_with_hashes(python: str) -> None:
    """REQ-S1: CI installs one version of each dependency, which our floors allow, and only files with a known hash."""
    markers = {key: str(value) for key, value in default_environment().items()}
    markers |= {"python_version": python, "python_full_version": f"{python}.0"}
    chosen: dict[str, Requirement] = {}
    for pin, hashes in pins():
        assert hashes, f"{pin.name} has no hash"
        if pin.marker is None or pin.marker.evaluate(markers):
            key = canonicalize_name(pin.name)
            assert key not in chosen, f"two versions of {pin.name}"
            chosen[key] = pin
    for requirement in RUNTIME:
        version = version_of(chosen[canonicalize_name(requirement.name)])
        assert requirement.specifier.contains(version), f"renew .ci/lock.txt: {requirement} and {version}"
    assert "albumentationsx" not in chosen


def test_the_lock_is_what_ci_installs_and_names_no_index() -> None:
    """REQ-S1: the hashes are required, and where the files come from is the installer's own setting."""
    script = (ROOT / ".ci" / "run").read_text()
    assert re.search(r"pip\" install --require-hashes -r \S+lock\.txt", script)
    assert re.search(r"pip\" install --no-deps \S+\.whl", script)
    assert "://" not in LOCK and "--index-url" not in "\n".join(LOCK.splitlines()[2:])


@pytest.mark.parametrize("host", FAR)
def test_the_guard_refuses_every_way_to_another_machine(host: str, refused_hosts: Callable[[], set[str]]) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as datagrams:
        ways: list[Callable[[], object]] = [
            lambda: datagrams.connect((host, 53)),
            lambda: datagrams.connect_ex((host, 53)),
            lambda: datagrams.sendto(b"?", (host, 53)),
            lambda: datagrams.sendto(b"?", 0, (host, 53)),
            lambda: socket.create_connection((host, 443), timeout=1),
            lambda: socket.getaddrinfo(host, 443),
            lambda: socket.gethostbyname(host),
            lambda: socket.gethostbyname_ex(host),
            lambda: socket.gethostbyaddr(host),
        ]
        for ask in ways:
            with pytest.raises(ConnectionError, match=f"no network in tests: .*{re.escape(host)}"):
                ask()
            assert any(host in noted for noted in refused_hosts())


def test_the_guard_is_in_child_processes_too(refused_hosts: Callable[[], set[str]]) -> None:
    """Those that inherit the environment, those that get `environment()`, and those that multiprocessing starts."""
    ask = "import socket\ntry: socket.create_connection(('example.com', 80), 1)\nexcept OSError as error: print(error)"
    spawn = f"import multiprocessing\nmultiprocessing.get_context('spawn').Pool(1).map(exec, [{ask!r}])"
    for code, variables in ((ask, None), (ask, environment()), (spawn, None)):
        done = subprocess.run([sys.executable, "-c", code], env=variables, capture_output=True, text=True, timeout=60)
        assert "no network in tests: socket.getaddrinfo of example.com" in done.stdout, done.stderr
        assert refused_hosts() == {"example.com"}


def test_the_guard_lets_this_machine_talk_to_itself(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname(), 5) as asker:
        answerer = server.accept()[0]
        with answerer:
            answerer.sendall(b"yes")
        assert asker.recv(3) == b"yes"
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as asker:
        server.bind(str(tmp_path / "socket"))
        server.listen()
        asker.connect(str(tmp_path / "socket"))
    near = ["localhost", "127.8.9.1", "::1", "0.0.0.0", None, b"localhost", ("::1", 80, 0, 0), (0, 0), "/run/socket"]
    assert all(map(is_of_this_machine, near))
    assert not any(map(is_of_this_machine, [*FAR, (FAR[0], 80), b"example.com", "localhost.example.com", "10.0.0.1"]))


OFFLINE_RUN = """
import importlib, pathlib, sys
from zoo.cli import main
import zoo, zoo.datamodules, zoo.cli, zoo.benchmarks

for package in (zoo, zoo.datamodules, zoo.cli, zoo.benchmarks):
    for path in sorted(pathlib.Path(package.__file__).parent.glob("*.py")):
        if path.stem != "__main__":
            importlib.import_module(f"{package.__name__}.{path.stem}")
import numpy
from PIL import Image
Image.fromarray(numpy.zeros((8, 8), numpy.uint8)).save("image.png")
best = "run/checkpoints/best.ckpt"
lines = ["list", "data list", "benchmark list", *(f"info {name}" for name in zoo.list_models())]
lines += ["fit --model lenet5 --pretrained mnist --recipe.epochs 1 --run_dir run"]
lines += [f"validate --ckpt_path {best}", f"test --ckpt_path {best}", f"predict --ckpt_path {best} image.png"]
failed = [line for line in lines if main(line.split())]
assert not failed, failed
"""


def test_nothing_asks_for_the_network_unless_it_is_told_to(
    tmp_path: Path, refused_hosts: Callable[[], set[str]]
) -> None:
    """REQ-A4, REQ-S6: import of every module, list, info, fit, validate, test and predict, with empty caches."""
    homes = {
        name: str(tmp_path / "caches") for name in ("HF_HOME", "TORCH_HOME", "XDG_CACHE_HOME", "ZOO_CACHE", "HOME")
    }
    done = subprocess.run(
        [sys.executable, "-c", OFFLINE_RUN], cwd=tmp_path, env=environment() | homes, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert refused_hosts() == set()
