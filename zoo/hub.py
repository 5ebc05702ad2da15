"""Files from the Hugging Face hub and the web, and publishing there. What is in a cache needs no network."""

import contextlib
import hashlib
import os
import queue
import re
import sys
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from http import HTTPStatus
from pathlib import Path

from zoo.weights import embedded

PROBE_SECONDS = 4.0
"""How long a server may take to answer at all; the libraries that download would wait and try again for a minute."""
_NAME = r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?"
_REPOSITORY = re.compile(rf"(?!.*(?:--|\.\.)){_NAME}/{_NAME}(?<!\.git)")
_MOST_LETTERS = 96


def check_repository(name: str) -> None:
    """Refuse what cannot be the name of a repository on the hub.

    Raises:
        ValueError: It does not have the form user/name, or breaks the hub's rules for names.
    """
    if not _REPOSITORY.fullmatch(name) or len(name) > _MOST_LETTERS:
        raise ValueError(
            f"'{name}' is no name of a repository on the hub: user/name, in letters, digits, '-', '_' and '.', "
            f"at most {_MOST_LETTERS} of them"
        )


# The hub


def hub_file(repository: str, filename: str, revision: str | None = None) -> Path:
    """A file of a model repository on the hub: the cached copy if there is one, else downloaded into the cache.

    The library's environment variables count: HF_HOME, HF_HUB_CACHE, HF_HUB_OFFLINE, HF_ENDPOINT, HF_TOKEN.

    Args:
        repository: Its name, user/name.
        filename: Name of the file in the repository.
        revision: Branch, tag or commit; main if not given. A branch whose file is cached is not asked for news.

    Raises:
        ValueError: The name of the repository is malformed.
        FileNotFoundError: There is no such repository, revision or file.
        PermissionError: It needs a token, or another one.
        ConnectionError: The hub cannot be reached; said within 5 s.
    """
    from huggingface_hub import constants, hf_hub_download, try_to_load_from_cache

    check_repository(repository)
    cached = try_to_load_from_cache(repository, filename, revision=revision)
    if isinstance(cached, str):
        return Path(cached)
    folder = Path(constants.HF_HUB_CACHE, f"models--{repository.replace('/', '--')}")
    version = "" if revision is None else f" at revision {revision}"
    if reason := _hub_fault():
        raise _offline(f"{filename} of '{repository}'{version} is not in {folder}", reason)
    with _hub_errors(repository, f"{filename}{version}"):
        return Path(hf_hub_download(repository, filename, revision=revision, endpoint=constants.ENDPOINT))


def check_login(repository: str) -> None:
    """Make sure, before any work is done, that something can be published on the hub.

    Raises:
        ConnectionError: The hub cannot be reached; said within 5 s.
        PermissionError: Nobody is logged in.
    """
    from huggingface_hub import constants, get_token

    if reason := _hub_fault():
        raise ConnectionError(f"'{repository}' cannot be published: {reason}")
    if not get_token():
        raise PermissionError(f"not logged in to {constants.ENDPOINT}: hf auth login, or set HF_TOKEN")


def publish(folder: Path, repository: str, *, message: str, private: bool = False) -> str:
    """Upload the files of a folder to a model repository on the hub, which is made if need be; its address.

    Args:
        folder: What to upload.
        repository: Its name, user/name.
        message: What the change is called in the repository's history.
        private: Whether only its owners may see it.

    Raises:
        ValueError: It is to be private, but exists and is public.
        PermissionError: The token does not allow it.
        ConnectionError: The hub broke off.
    """
    from huggingface_hub import HfApi

    hub = HfApi()
    with _hub_errors(repository):
        address = str(hub.create_repo(repository, private=private or None, exist_ok=True))
        is_public = private and not hub.model_info(repository).private
    if is_public:
        raise ValueError(f"'{repository}' exists and is public: make it private at {address}/settings")
    with _hub_errors(repository):
        hub.upload_folder(folder_path=folder, repo_id=repository, commit_message=message)
    return address


def _hub_fault() -> str:
    """Why the hub cannot be asked; empty if it can."""
    from huggingface_hub import constants, get_session

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    # Through the library's own client: it knows more kinds of proxies and certificates than the standard library.
    return _fault(constants.ENDPOINT, lambda: get_session().head(constants.ENDPOINT, timeout=PROBE_SECONDS))


@contextlib.contextmanager
def _hub_errors(repository: str, wanted: str = "") -> Iterator[None]:
    """Turn what the library raises, which is several lines, into one line of a standard kind."""
    try:
        yield
    except Exception as error:  # its network libraries have kinds of their own, which have changed before
        raise _explained(error, repository, wanted) from None


def _explained(error: Exception, repository: str, wanted: str) -> Exception:
    from huggingface_hub import constants, errors

    where, login = f"'{repository}' at {constants.ENDPOINT}", "hf auth login, or set HF_TOKEN"
    page = f"{constants.ENDPOINT}/{repository}"
    if isinstance(error, errors.LocalEntryNotFoundError | RuntimeError) and isinstance(error.__cause__, Exception):
        error = error.__cause__  # these say only that something went wrong
    texts = (  # a kind before those that it is a special case of
        (errors.GatedRepoError, PermissionError, f"'{repository}' is gated: ask for access at {page}, then {login}"),
        (errors.RepositoryNotFoundError, FileNotFoundError, f"no repository {where}, or it is private: {login}"),
        (errors.RevisionNotFoundError, FileNotFoundError, f"{where} has no {wanted}: there is no such revision"),
        (errors.EntryNotFoundError, FileNotFoundError, f"{where} has no {wanted}"),
    )
    for kind, ours, text in texts:
        if isinstance(error, kind):
            return ours(text)
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return PermissionError(f"{where} does not allow it with this token: {login}")
    if isinstance(error, OSError) and error.errno is not None:
        return error  # of this machine, such as a full disk
    return ConnectionError(f"{where} could not be used: {_line(error)}")


# The web


def require_web_file(url: str) -> None:
    """Make sure, before anything is imported for it, that `web_file` can have a file.

    Raises:
        ConnectionError: It is not in the cache, and the server cannot be reached; said within 5 s.
    """
    path = _torch_cache() / Path(urllib.parse.urlparse(url).path).name
    if not path.is_file() and (reason := _fault(url, lambda: _ask(url))):
        raise _offline(f"{path.name} is not in {path.parent}", reason)


def _torch_cache() -> Path:
    """Where torch.hub keeps weights."""
    if torch := sys.modules.get("torch"):
        return Path(torch.hub.get_dir(), "checkpoints")
    caches = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    return Path(os.environ.get("TORCH_HOME", f"{caches}/torch")).expanduser() / "hub" / "checkpoints"


def require_timm_file(backbone: str) -> None:
    """Make sure, before timm is imported, that weights of one of its networks can be had.

    Only timm knows their place on the hub: if anything in the cache could be they, nothing is said.

    Raises:
        ConnectionError: They are not in the cache, and the hub cannot be reached; said within 5 s.
    """
    from huggingface_hub import constants

    cached = [path.name for path in Path(constants.HF_HUB_CACHE).glob("models--*")]
    architecture = backbone.partition(".")[0]
    if any(name.startswith(f"models--timm--{architecture}") or "--timm--" not in name for name in cached):
        return
    if reason := _hub_fault():
        raise _offline(f"weights of timm's {backbone} are not in {constants.HF_HUB_CACHE}", reason)


def web_file(url: str, sha256_prefix: str | None) -> Path:
    """A file from the web, kept where torch.hub keeps its own, so that what torchvision has fetched is found.

    Args:
        url: An https address that ends with the file's name.
        sha256_prefix: The first digits of the file's SHA-256 in hexadecimal, checked for a cached copy as well; None
            if they are not known, and then nothing is checked.

    Raises:
        ValueError: The address is not https, or the cached copy is damaged.
        ConnectionError: The server cannot be reached, said within 5 s; has no such file; or sent another one.
    """
    import torch

    _require_https(url)
    path = _torch_cache() / Path(urllib.parse.urlparse(url).path).name
    if path.is_file():
        _check_hash(path, sha256_prefix or "")
        return path
    require_web_file(url)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        torch.hub.download_url_to_file(url, str(path), sha256_prefix, progress=sys.stderr.isatty())
    except urllib.error.HTTPError as error:
        error.close()
        raise ConnectionError(f"{url} could not be fetched: the server says {error.code} {error.reason}") from None
    except (urllib.error.URLError, ConnectionError, TimeoutError) as error:
        raise ConnectionError(f"{url} could not be fetched: {_line(error)}") from None
    except RuntimeError as error:  # the hash
        raise ConnectionError(f"{url} did not arrive intact, {_line(error)}: try again") from None
    return path


def _require_https(url: str) -> None:
    if not url.startswith("https://"):
        raise ValueError(f"refused {url}: only https:// addresses are used")


def _check_hash(path: Path, prefix: str) -> None:
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest() if prefix else ""
    if not found.startswith(prefix):
        raise ValueError(
            f"'{path}' is damaged: its SHA-256 begins with {found[: len(prefix)]}, not {prefix}; delete it"
        )


def _ask(url: str) -> None:
    """Ask for the file's head, and refuse to be led to another kind of address."""
    request = urllib.request.Request(url, method="HEAD", headers={"User-Agent": "lightning-zoo"})
    with urllib.request.urlopen(request, timeout=PROBE_SECONDS) as answer:
        _require_https(answer.url)


def _fault(address: str, ask: Callable[[], object]) -> str:
    """Why an address cannot be asked; empty if its server answers at all in time.

    In a thread of its own: nothing else ends a look-up of a name that hangs.
    """
    answers: queue.SimpleQueue[str] = queue.SimpleQueue()

    def probe() -> None:
        try:
            ask()
        except urllib.error.HTTPError as error:
            error.close()  # an answer, though not a good one
            answers.put("")
        except Exception as error:  # whatever goes wrong is an answer too
            answers.put(f"{address} cannot be reached ({_line(error)})")
        else:
            answers.put("")

    threading.Thread(target=probe, daemon=True).start()
    try:
        return answers.get(timeout=PROBE_SECONDS)
    except queue.Empty:
        return f"{address} does not answer within {PROBE_SECONDS:g} s"


def _offline(wanted: str, reason: str) -> ConnectionError:
    inside = f"; weights in the package: {', '.join(embedded())}" if embedded() else ""
    return ConnectionError(f"{wanted}, and {reason}{inside}")


def _line(error: BaseException) -> str:
    """The first line that an error says; of an error that wraps the reason, the reason's."""
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    return next(iter(str(reason).strip().splitlines()), type(error).__name__)
