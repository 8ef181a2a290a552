"""The image and docs/examples/compose: the files agree with each other, and with the server."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from click.testing import CliRunner

from tagcache.cli.main import main
from tagcache.config.environment import VARIABLES
from tagcache.config.loading import load
from tagcache.errors import ConfigurationError
from tagcache.redis.connection import check_url
from tagcache.server.preflight import Preflight
from tests.distributed.test_access import ASKED, COMMANDS

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "examples" / "compose"
COMPOSE = (FOLDER / "compose.yaml").read_text("utf-8")
SERVICES: dict[str, Any] = yaml.safe_load(COMPOSE)["services"]
OURS, VALKEY = SERVICES["tagcache"], SERVICES["valkey"]
ONE = FOLDER / "one"
ALONE: dict[str, Any] = yaml.safe_load((ONE / "compose.yaml").read_text("utf-8"))["services"]
IMAGE = (ROOT / "Dockerfile").read_text("utf-8")
VOLUME = "/var/lib/tagcache"
VALKEY_IMAGE = (FOLDER / "Dockerfile").read_text("utf-8")


@pytest.fixture
def environ() -> dict[str, str]:
    """The environment that compose.yaml gives our server, with passwords as in `.env`."""
    return {name: filled_in(text) for name, text in OURS["environment"].items()}


def filled_in(text: str) -> str:
    return re.sub(r"\$\{(\w+):\?[^}]*\}", r"\1-0123abcd", text)


def exposed(image: str) -> set[str]:
    found = re.search(r"^EXPOSE (.*)$", image, re.MULTILINE)
    assert found is not None
    return set(found[1].split())


def test_the_server_would_start_without_a_warning(environ: dict[str, str]) -> None:
    configuration = load(FOLDER / "tagcache.conf", environ)
    assert Preflight().check(configuration) == []
    settings = configuration.settings
    assert settings.engine.backend == "redis"
    check_url(settings.engine.url)
    # Without its password in the environment, the server would not start.
    bare = load(FOLDER / "tagcache.conf", {k: v for k, v in environ.items() if "PASS" not in k})
    with pytest.raises(ConfigurationError, match="the password is the default one"):
        Preflight().check(bare)


@pytest.fixture
def one(tmp_path: Path) -> Path:
    """The configuration of one server, with another folder than the image's."""
    text = (ONE / "tagcache.conf").read_text("utf-8")
    file = tmp_path / "tagcache.conf"
    file.write_text(text.replace(VOLUME, str(tmp_path)), "utf-8")
    return file


def test_one_server_would_start_without_a_warning(one: Path) -> None:
    environ = {name: filled_in(text) for name, text in ALONE["tagcache"]["environment"].items()}
    configuration = load(one, environ)
    settings = configuration.settings
    assert Preflight().check(configuration) == []
    with pytest.raises(ConfigurationError, match="the password is the default one"):
        Preflight().check(load(one, {}))
    ports = {port.rpartition(":")[2] for port in ALONE["tagcache"]["ports"]}
    assert (
        ports == exposed(IMAGE) == {str(settings.server.tcp_port), str(settings.server.http_port)}
    )
    assert f"snapshot_file = {VOLUME}/snapshot\n" in (ONE / "tagcache.conf").read_text("utf-8")
    assert ALONE["tagcache"]["volumes"] == [f"data:{VOLUME}"]
    assert f"VOLUME {VOLUME}\n" in IMAGE
    grace = int(ALONE["tagcache"]["stop_grace_period"].removesuffix("s"))
    assert grace > settings.server.shutdown_grace_seconds
    memory = int(ALONE["tagcache"]["mem_limit"].removesuffix("m")) << 20
    assert memory == 2 * settings.cache.max_memory


def test_the_configuration_checks_out_on_the_command_line() -> None:
    result = CliRunner().invoke(
        main,
        ["config", "check", str(FOLDER / "tagcache.conf")],
        env={name: filled_in(text) for name, text in OURS["environment"].items()},
    )
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("folder", [FOLDER, ONE], ids=["several", "one"])
def test_every_variable_of_the_environment_is_known(folder: Path) -> None:
    text = (folder / "compose.yaml").read_text("utf-8")
    ours = yaml.safe_load(text)["services"]["tagcache"]["environment"]
    assert set(ours) <= {variable for variable, *_ in VARIABLES}
    given = set(re.findall(r"^(\w+)=", (folder / ".env.example").read_text("utf-8"), re.MULTILINE))
    assert given == set(re.findall(r"(?<!\$)\$\{(\w+)", text))
    # Compose stops if a variable is missing, because an empty password protects nothing.
    assert not re.search(r"(?<!\$)\$\{\w+\}", text)


def test_ports_agree(environ: dict[str, str]) -> None:
    server = load(FOLDER / "tagcache.conf", environ).settings.server
    inside = {port.rpartition(":")[2] for port in OURS["ports"]}
    assert inside == {str(server.tcp_port), str(server.http_port)}
    assert all(port.startswith("127.0.0.1:") for port in OURS["ports"])
    assert exposed(IMAGE) == inside
    url = urlsplit(environ["TAGCACHE_ENGINE_URL"])
    assert url.hostname in SERVICES
    assert exposed(VALKEY_IMAGE) == {str(url.port)}
    assert "ports" not in VALKEY
    # The range of ports has room for more servers than are started.
    for port in OURS["ports"]:
        first, last = port.split(":")[1].split("-")
        assert int(last) - int(first) + 1 > OURS["deploy"]["replicas"] == 2


def test_the_user_of_valkey_is_the_one_of_the_url(environ: dict[str, str]) -> None:
    url = urlsplit(environ["TAGCACHE_ENGINE_URL"])
    prefix = load(FOLDER / "tagcache.conf", environ).settings.engine.key_prefix
    configuration = VALKEY["command"][2]
    assert f"user {url.username} on >$$VALKEY_PASSWORD " in configuration
    assert f" ~{prefix}* $$RIGHTS\n" in configuration
    assert "user default off\n" in configuration
    assert "maxmemory-policy noeviction\n" in configuration
    assert f"--user {url.username} " in VALKEY["healthcheck"]["test"][1]
    assert VALKEY["environment"]["RIGHTS"].split() == [f"+{c}" for c in COMMANDS + ASKED]


def test_limits_leave_room(environ: dict[str, str]) -> None:
    grace = load(FOLDER / "tagcache.conf", environ).settings.server.shutdown_grace_seconds
    assert int(OURS["stop_grace_period"].removesuffix("s")) > grace
    most = re.search(r"^maxmemory (\d+)mb$", VALKEY["command"][2], re.MULTILINE)
    assert most is not None
    assert int(VALKEY["mem_limit"].removesuffix("m")) > int(most[1])
    connections = load(FOLDER / "tagcache.conf", environ).settings.performance.max_connections
    assert OURS["ulimits"]["nofile"] > connections


@pytest.mark.parametrize(
    ("folder", "services"), [(FOLDER, SERVICES), (ONE, ALONE)], ids=["several", "one"]
)
def test_nothing_runs_as_root_or_with_more_than_it_needs(
    folder: Path, services: dict[str, Any]
) -> None:
    for service in services.values():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        image = folder / service["build"] / "Dockerfile"
        users = re.findall(r"^USER (.*)$", image.read_text("utf-8"), re.MULTILINE)
        assert len(users) == 1
        assert users[0] not in ("root", "0")


def test_the_image_has_what_it_starts() -> None:
    ignored = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    copied = re.search(r"^COPY (\S+) (/etc/\S+)$", IMAGE, re.MULTILINE)
    assert copied is not None
    assert ROOT / copied[1] == ONE / "tagcache.conf"
    assert f"!{copied[1]}" in ignored
    assert f'CMD ["tagcache", "server", "--config", "{copied[2]}"]\n' in IMAGE
    # Several servers have a file of their own in its place.
    assert OURS["volumes"] == [f"./tagcache.conf:{copied[2]}:ro"]
    for name in (line[1:] for line in ignored if line.startswith("!")):
        assert (ROOT / name).exists(), name
    # The health check runs `tagcache health`, on the default port of the command line.
    assert re.search(r'^HEALTHCHECK .* CMD \["tagcache", "health"\]$', IMAGE, re.MULTILINE)
    assert CliRunner().invoke(main, ["health", "--help"]).exit_code == 0
