"""The package installs completely, and its removal leaves nothing behind."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path
from urllib.request import urlopen

import pytest

import tagcache
from tests.integration.running import RunningServer

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
EPOCH = "SOURCE_DATE_EPOCH=1790000000"


def run(*command: object, **more: object) -> str:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL_ENV"))}
    done = subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        env=clean,
        **more,  # type: ignore[call-overload]
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return str(done.stdout)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A wheel and an sdist, built in a copy of the tree, so that the tree stays clean."""
    return build(tmp_path_factory.mktemp("tree"))


def build(tree: Path) -> dict[str, Path]:
    files = run("git", "ls-files", "-co", "--exclude-standard", cwd=ROOT).splitlines()
    for name in files:
        if (ROOT / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, tree / name, follow_symlinks=False)
    run("env", EPOCH, sys.executable, "-m", "build", "--outdir", tree / "dist", tree)
    (wheel,) = (tree / "dist").glob("*.whl")
    (sdist,) = (tree / "dist").glob("*.tar.gz")
    return {"wheel": wheel, "sdist": sdist}


@pytest.mark.parametrize("kind", ["wheel", "sdist"])
def test_an_installed_package_serves_and_can_be_removed(
    built: dict[str, Path], kind: str, tmp_path: Path
) -> None:
    environment = tmp_path / "venv"
    venv.create(environment, with_pip=True)
    python, twistd = environment / "bin" / "python", environment / "bin" / "twistd"
    run(python, "-m", "pip", "install", "--quiet", built[kind])
    assert "A tag-aware cache server" in run(twistd, "--help", cwd=tmp_path)
    assert "--config" in run(twistd, "tagcache", "--help", cwd=tmp_path)
    assert run(twistd, "tagcache", "--version", cwd=tmp_path).startswith("tagcache ")
    assert "server" in run(environment / "bin" / "tagcache", "--help", cwd=tmp_path)
    describe = "from tagcache.config.descriptions import descriptions; print(descriptions())"
    assert "(TCP_NODELAY)" in run(python, "-c", describe, cwd=tmp_path)
    with RunningServer(tmp_path, twistd=twistd) as server:
        with server.connect() as client:
            assert client.ask(b"PUT\tk\t60000\ta,b\tvalue") == b"OK\n"
            assert client.ask(b"GET\tk") == b"VALUE\tvalue\n"
        for path in ("/", "/dashboard/main.js", "/dashboard/app.css", "/dashboard/icon.svg"):
            with urlopen(f"http://127.0.0.1:{server.http_port}{path}", timeout=60) as response:
                assert response.status == 200
        assert "Traceback" not in server.text()
    run(python, "-m", "pip", "uninstall", "--quiet", "--yes", "tagcache-server")
    left = run(twistd, "--help", cwd=tmp_path)
    assert "tag-aware" not in left
    assert "web " in left
    run(python, "-m", "pip", "check")
    assert not list(environment.glob("lib/*/site-packages/tagcache*"))


def test_an_extra_that_is_missing_is_named_in_a_sentence(
    built: dict[str, Path], tmp_path: Path
) -> None:
    environment = tmp_path / "venv"
    venv.create(environment, with_pip=True)
    run(environment / "bin" / "python", "-m", "pip", "install", "--quiet", built["wheel"])
    twistd = environment / "bin" / "twistd"
    tls = "ssl:0:interface=127.0.0.1"
    for name, sections, reactor, extra in (
        ("manhole", {"manhole": {"enabled": "true"}}, None, "conch"),
        ("redis", {"engine": {"backend": "redis"}}, "asyncio", "redis"),
        ("tls", {"server": {"tcp_port": tls}}, None, "tls"),
        ("uvloop", {}, "uvloop", "uvloop"),
    ):
        directory = tmp_path / name
        directory.mkdir()
        with RunningServer(
            directory, sections, twistd=twistd, reactor=reactor, wait=False
        ) as server:
            assert server.process.wait(60) == 1
            assert f"pip install 'tagcache-server[{extra}]'" in server.text()
            assert "No module named" not in server.text()


def test_a_second_build_gives_the_same_bytes(built: dict[str, Path], tmp_path: Path) -> None:
    # In another folder, and later.
    again = build(tmp_path / "elsewhere")
    for kind, path in built.items():
        assert again[kind].read_bytes() == path.read_bytes(), kind


def test_an_editable_install_lists_the_command() -> None:
    assert "A tag-aware cache server" in run(Path(sys.executable).with_name("twistd"), "--help")


def test_listing_the_commands_imports_nothing_of_ours() -> None:
    script = (
        "import sys; from twisted.plugins import tagcache_plugin; "
        "print(tagcache_plugin.tagcache.tapname, [m for m in sys.modules if m[:9] == 'tagcache.'])"
    )
    assert run(sys.executable, "-c", script, cwd="/") == "tagcache []\n"


def test_the_version_is_named_in_one_place(built: dict[str, Path]) -> None:
    assert built["wheel"].name.startswith(f"tagcache_server-{tagcache.__version__}-")
    assert built["sdist"].name == f"tagcache_server-{tagcache.__version__}.tar.gz"
