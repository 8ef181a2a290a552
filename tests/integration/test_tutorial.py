"""The tutorial, followed step by step."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.running import RunningServer
from tests.integration.sessions import run_session

TEXT = (Path(__file__).parents[2] / "docs" / "tutorial.md").read_text(encoding="utf-8")
BEFORE, BLOG, AFTER = re.split(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)


def sessions(text: str) -> list[str]:
    return re.findall(r"```console\n(.*?)```", text, re.DOTALL)


@pytest.fixture
def blog(server: RunningServer, tmp_path: Path) -> Iterator[str]:
    """The address of the program of the tutorial, which runs."""
    (tmp_path / "blog.py").write_text(
        BLOG.replace("1984", str(server.port)).replace("port=8000", "port=0"), encoding="utf-8"
    )
    with subprocess.Popen(
        [sys.executable, "blog.py"], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stderr is not None
            started = (re.search(r"http://(127\.0\.0\.1:\d+)", line) for line in process.stderr)
            yield next(found[1] for found in started if found)
        finally:
            process.kill()


@pytest.mark.needs("curl", "bash")
def test_the_tutorial(server: RunningServer, blog: str, tmp_path: Path) -> None:
    environ = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "TAGCACHE_URL": f"http://127.0.0.1:{server.http_port}",
        "HOME": str(tmp_path),
    }
    before, after = sessions(BEFORE), sessions(AFTER)
    assert (len(before), len(after)) == (2, 4)
    for session in (*before, *after):
        run_session(session.replace("127.0.0.1:8000", blog), environ, tmp_path)
