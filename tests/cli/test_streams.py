"""Streams that cannot show, take or keep everything: what was done is done, and nobody reads a traceback."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from subprocess import CompletedProcess

import pytest
import typer

from bangbench.cli.output import Output, ending
from bangbench.core.errors import BenchError

PRINTS = "from bangbench.cli.{module} import *\nwith streams_prepared():\n    {body}"


def shell(
    words: str, body: str = "print('done')", module: str = "streams", **surroundings: str
) -> CompletedProcess[bytes]:
    """Run a few lines of Python as a program, its streams as the words of a shell arrange them."""
    lines = PRINTS.format(module=module, body=body)
    if module == "output":
        lines = "from bangbench.cli.streams import *\n" + lines
    command = f'"$PYTHON" -c "$LINES" {words}'
    environment = {**os.environ, **surroundings, "PYTHON": sys.executable, "LINES": lines}
    return subprocess.run(["bash", "-o", "pipefail", "-c", command], env=environment, capture_output=True, check=False)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
def test_what_a_stream_cannot_show_is_replaced(encoding: str) -> None:
    done = shell("", "print('L∞ ≤ 3 ± 1, 漢字 \\udcff')", PYTHONIOENCODING=encoding)
    assert done.returncode == 0
    assert done.stderr == b""
    assert done.stdout.decode(encoding).strip() in ("L_inf <= 3 +- 1, ?? ?", "L_inf <= 3 ± 1, ?? ?")


def test_json_keeps_its_content_whatever_the_stream_can_show() -> None:
    done = shell("", "Output().print_json({'name': '漢字 ∞'})", "output", PYTHONIOENCODING="ascii")
    assert json.loads(done.stdout) == {"name": "漢字 ∞"}


@pytest.mark.parametrize("words", [">&-", "2>&-", ">&- 2>&-"])
def test_closed_streams_are_no_failure(words: str) -> None:
    done = shell(words)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_full_device_is_said_in_one_line() -> None:
    done = shell("> /dev/full")
    assert done.returncode == 1
    assert done.stderr.count(b"\n") == 1
    assert done.stderr.startswith(b"bangbench: cannot write the output: [Errno 28] No space left on device")


def test_a_reader_that_is_gone_is_told_nothing() -> None:
    done = shell("| true", "import time; time.sleep(0.5); print('x' * 100000)")
    assert (done.returncode, done.stderr) == (1, b"")


def test_terminated_unwinds() -> None:
    body = "try: os.kill(os.getpid(), signal.SIGTERM)\n    except KeyboardInterrupt as error: print(type(error))"
    assert b"Terminated" in shell("", f"import os, signal\n    {body}").stdout


def test_warnings_of_the_bench_look_like_its_errors() -> None:
    body = "logging.getLogger('bangbench.data.tree').warning('passed over %d', 3)"
    assert logging.getLogger("bangbench.data.tree").handlers == []
    assert shell("", body).stderr == b"bangbench: passed over 3\n"


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (MemoryError(), "not enough memory (MemoryError)"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried\nmore"), "not enough memory (Default"),
        (ImportError("libx.so: failed to map segment from shared object"), "not enough memory (libx.so"),
        (OSError(28, "No space left on device", "x.csv"), "x.csv: No space left on device"),
    ],
)
def test_what_the_machine_lacks_is_one_line(error: Exception, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as caught, ending(Output()):
        raise error
    assert caught.value.exit_code == 1
    said = capsys.readouterr().err
    assert said.startswith(f"bangbench: {message}")
    assert said.count("\n") == 1


def test_a_name_from_a_foreign_file_means_nothing_to_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit), ending(Output()):
        raise BenchError("\x1b]0;mine\x07.png: cannot be read\nget it again")
    assert capsys.readouterr().err == "bangbench: \\x1b]0;mine\\x07.png: cannot be read\nget it again\n"
