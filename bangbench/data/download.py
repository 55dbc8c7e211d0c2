"""Download one file over HTTP: checked before it gets its name, or not there at all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import requests

from bangbench.core.errors import BenchError
from bangbench.core.progress import Progress
from bangbench.store.files import write_atomically

_CHUNK_BYTES = 1 << 16
_TIMEOUT_SECONDS = 30
#: The largest file that is downloaded (CIFAR-10) has 170 MB.
_MOST_BYTES = 1 << 30


def download(url: str, target: Path, check: Callable[[Path], None], progress: Progress) -> None:
    """Fetch `url` into `target`, replacing it only after ``check(temporary)`` has returned.

    Progress is in bytes, of which at most 1 GiB are taken. Raises `BenchError` for a refused connection, an error
    status, a transfer that ends early or not at all, and whatever `check` raises; the temporary file is gone in all
    cases.
    """

    def write(temporary: Path) -> None:
        _transfer(url, temporary, progress)
        check(temporary)

    write_atomically(target, write)


def _transfer(url: str, temporary: Path, progress: Progress) -> None:
    bar = _ByteBar(url.rpartition("/")[2], progress)
    import pooch

    # Left to itself, requests would accept a .gz file as "gzip-encoded" content and unpack it on the way.
    headers = {"Accept-Encoding": "identity"}
    get = pooch.HTTPDownloader(bar, _CHUNK_BYTES, timeout=_TIMEOUT_SECONDS, headers=headers)
    try:
        get(url, str(temporary), None)
    except requests.exceptions.RequestException as error:
        raise BenchError(_explain(error, url, bar)) from error
    except ValueError as error:  # pooch takes any length for a number
        raise BenchError(f"{url}: expected a file with its length, the server sent nonsense ({error})") from error
    finally:
        bar.finish()


class _ByteBar:
    """What pooch takes for a progress bar, passed on to a `Progress`.

    Pooch counts whole chunks, the last one too, and fills the bar once more at the end: never more than the total
    is passed on.
    """

    def __init__(self, label: str, progress: Progress) -> None:
        self.received = 0
        self._label = label
        self._progress = progress
        self._total: int | None = None

    @property
    def total(self) -> int:
        """Return the bytes announced by the server (0: not announced)."""
        return self._total or 0

    @total.setter
    def total(self, count: int) -> None:
        self._total = max(0, count)
        self._progress.start(self._label, self._total, unit="B")

    def update(self, count: int) -> None:
        """Count `count` bytes, as far as they fit into the total."""
        if self.received + count > _MOST_BYTES:
            raise BenchError(f"{self._label}: expected at most {_MOST_BYTES:,} bytes, the server sends more")
        step = min(count, self.total - self.received) if self.total else count
        self.received += step
        self._progress.advance(step)

    def reset(self) -> None:
        """Keep what was counted."""

    def close(self) -> None:
        """Leave the end to `finish`, which is called after failures too."""

    def finish(self) -> None:
        """End the stretch if one was begun."""
        if self._total is not None:
            self._progress.finish()


def _explain(error: requests.exceptions.RequestException, url: str, bar: _ByteBar) -> str:
    again = "check the network (or its proxy) and run the command again"
    if error.response is not None:
        answer = f"{error.response.status_code} {error.response.reason}"
        return f"{url}: expected the file, the server answered {answer}: it may have moved; try again later"
    if isinstance(error, requests.exceptions.ChunkedEncodingError) or bar.total:
        return (
            f"{url}: expected {bar.total} bytes, the connection ended after about {bar.received}: the server or "
            f"the network broke off; {again}; nothing was kept"
        )
    if isinstance(error, requests.exceptions.Timeout):
        return f"{url}: expected an answer within {_TIMEOUT_SECONDS} seconds, found none; {again}"
    return f"{url}: expected an answer from {urlsplit(url).netloc}, found none ({type(error).__name__}); {again}"
