"""What the tests share: the command in this process, the command as a user starts it, small data, no network."""

import os
from pathlib import Path

# Many small networks: a second thread costs more than it gives. Set before torch is imported, and for the commands that
# tests start, because the number of threads changes the last bits of a sum.
os.environ["OMP_NUM_THREADS"] = "1"

ROOT = Path(__file__).parent.parent
OFFLINE = ROOT / "tests" / "offline"
"""On PYTHONPATH, its sitecustomize.py refuses the network to every Python process that a test starts."""
RAY_ASKS = {"169.254.169.254", "metadata.google.internal"}
"""Ray asks in whose cloud it runs, whatever it is told about reporting; it is refused and goes on without an answer."""
PYTHON_PATH = os.pathsep.join([str(OFFLINE), str(ROOT)])
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(OFFLINE), os.environ.get("PYTHONPATH")]))

import signal
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pytest

import tests.offline.sitecustomize as offline  # the same guard in this process

# A shell starts what runs in its background deaf to Ctrl-C, and so would be the commands that tests start and stop.
signal.signal(signal.SIGINT, signal.default_int_handler)


@dataclass
class Outcome:
    """What a command printed, and its exit status."""

    status: int
    out: str
    err: str


Zoo = Callable[..., Outcome]


@pytest.fixture(scope="session", autouse=True)
def refusal_notes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file in which the guard notes the hosts that it refused, in any process of the tests."""
    path = tmp_path_factory.mktemp("offline") / "refused"
    os.environ[offline.NOTES] = str(path)
    return path


@pytest.fixture(autouse=True)
def refused_hosts(refusal_notes: Path) -> Iterator[Callable[[], set[str]]]:
    """Fail a test that asked for another machine, even if the code made nothing of the refusal.

    A test of the guard itself calls what it gets: the hosts refused so far, which are then forgotten.
    """

    def take() -> set[str]:
        hosts = set(refusal_notes.read_text().splitlines()) if refusal_notes.exists() else set()
        refusal_notes.unlink(missing_ok=True)
        return hosts

    take()
    yield take
    hosts = take() - RAY_ASKS
    assert not hosts, f"the test reached for the network: {hosts}"


@pytest.fixture
def zoo_main(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Zoo:
    """Run the command in this process, in a temporary folder."""
    from zoo.cli import main

    def run(*arguments: object) -> Outcome:
        words = [str(argument) for argument in arguments]
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["zoo", *words])
        for variable in ("PL_GLOBAL_SEED", "ZOO_RUN_DIR"):
            monkeypatch.delenv(variable, raising=False)
        capfd.readouterr()
        status = main(words)
        captured = capfd.readouterr()
        return Outcome(status, captured.out, captured.err)

    return run


def command(*arguments: object) -> list[str]:
    """The installed command `zoo` beside this interpreter."""
    script = Path(sys.executable).parent / "zoo"
    assert script.exists(), "install the package first: pip install -e '.[dev]'"
    return [str(script), *(str(argument) for argument in arguments)]


def environment() -> dict[str, str]:
    """This process's environment without what a run leaves in it."""
    return {key: value for key, value in os.environ.items() if key not in ("PL_GLOBAL_SEED", "ZOO_RUN_DIR")}


@pytest.fixture
def own_handlers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Lightning leaves Ctrl-C switched off when it has stopped; a command ends then, but these tests go on."""
    monkeypatch.setenv("ZOO_ALLOW_IMPORTS", "tests")
    before = {name: signal.getsignal(name) for name in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)}
    yield
    for name, handler in before.items():
        signal.signal(name, handler)


@pytest.fixture
def zoo_command(tmp_path: Path) -> Zoo:
    """Run the installed command in a process of its own, in a temporary folder."""

    def run(*arguments: object, timeout: float = 240) -> Outcome:
        done = subprocess.run(
            command(*arguments), cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=timeout
        )
        return Outcome(done.returncode, done.stdout, done.stderr)

    return run


def run_two_processes(script: str, *arguments: str, timeout: float = 240) -> str:
    """Run a script of this folder as two processes of one job; what it printed."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run(
        [*launch, str(Path(__file__).with_name(script)), *arguments],
        cwd=ROOT,
        env=environment() | {"PYTHONPATH": PYTHON_PATH},
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def write_idx(path: Path, array: np.ndarray) -> None:
    """Write an uncompressed IDX file of unsigned bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    header = struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    path.write_bytes(header + array.astype(np.uint8).tobytes())


@pytest.fixture
def mnist_root(tmp_path: Path) -> Path:
    """A folder that looks like MNIST: 80 training and 30 test images of random strokes, brighter for higher labels."""
    generator = np.random.default_rng(0)
    for prefix, number in (("train", 80), ("t10k", 30)):
        labels = np.arange(number) % 10
        noise = generator.integers(0, 30, (number, 28, 28))
        write_idx(tmp_path / f"data/MNIST/raw/{prefix}-images-idx3-ubyte", noise + labels[:, None, None] * 20)
        write_idx(tmp_path / f"data/MNIST/raw/{prefix}-labels-idx1-ubyte", labels)
    return tmp_path / "data"
