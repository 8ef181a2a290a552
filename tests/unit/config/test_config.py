"""Reading the configuration, and the errors for an invalid one."""

from __future__ import annotations

import re
from ipaddress import ip_network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tagcache.config.environment import VARIABLES, overrides
from tagcache.config.limits import limits_of, near_limits
from tagcache.config.loading import Configuration, Origin, find, load
from tagcache.errors import ConfigurationError
from tagcache.model.tag_rules import TagRule


def read(tmp_path: Path, text: str, **environ: str) -> Configuration:
    path = tmp_path / "tagcache.conf"
    path.write_text(text, encoding="utf-8")
    return load(path, environ)


def faults(tmp_path: Path, text: str, **environ: str) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        read(tmp_path, text, **environ)
    assert str(tmp_path / "tagcache.conf") in str(caught.value)
    for fault in caught.value.faults:
        assert fault in str(caught.value)
    return list(caught.value.faults)


def test_an_empty_file_is_all_defaults(tmp_path: Path) -> None:
    assert read(tmp_path, "").settings == load(None, {}).settings


def test_the_references_defaults() -> None:
    settings = load(None, {}).settings
    assert settings.server.http_port == "8080"
    assert settings.server.tcp_port == "1984"
    assert settings.server.num_shards == 16
    assert settings.server.cleanup_interval_seconds == 1
    assert settings.authentication.username == "admin"
    assert settings.authentication.password == "password"
    assert settings.authentication.token_lifetime_seconds == 3600
    assert settings.cache.default_ttl_seconds == 0
    assert settings.cache.max_tags_per_entry == 100
    assert settings.cache.max_key_length == 1024
    assert settings.cache.max_value_length == 1048576
    assert settings.logging.level == "info"
    assert settings.performance.tcp_nodelay is True
    assert settings.performance.tcp_keepalive_seconds == 7200
    assert settings.performance.max_connections == 10000
    assert settings.security.require_auth is True
    assert settings.security.rate_limit_per_minute == 0
    assert settings.security.allowed_ips == ()


def test_values_of_every_kind(tmp_path: Path) -> None:
    settings = read(
        tmp_path,
        """\ufeff
        [server]
        tcp_port = "unix:/run/tagcache.sock"
        cleanup_interval_seconds = 0.5
        allowed_hosts = Cache.Example.com., *.svc.local
        [authentication]
        password = "a, b # c"
        [performance]
        tcp_nodelay = no
        max_connections = 5   # few
        [security]
        allowed_ips = 127.0.0.1, 10.1.2.3/8, fd00::/8
        """,
    ).settings
    assert settings.server.tcp_port == "unix:/run/tagcache.sock"
    assert settings.server.cleanup_interval_seconds == 0.5
    assert settings.server.allowed_hosts == ("cache.example.com", "*.svc.local")
    assert settings.authentication.password == "a, b # c"
    assert settings.performance.tcp_nodelay is False
    assert settings.performance.max_connections == 5
    assert settings.security.allowed_ips == (
        ip_network("127.0.0.1/32"),
        ip_network("10.0.0.0/8"),
        ip_network("fd00::/8"),
    )


@pytest.mark.parametrize(
    ("line", "password"),
    [
        ('password = "abc#def"', "abc#def"),
        ("password = 'abc#def' # comment", "abc#def"),
        ("password = abc # comment#more", "abc"),
        ("password = abc#def", None),
        ("password = abc#", None),
    ],
)
def test_a_hash_sign_is_not_lost(tmp_path: Path, line: str, password: str | None) -> None:
    text = f"[authentication]\n{line}"
    if password is None:
        (fault,) = faults(tmp_path, text)
        assert fault.startswith("line 2: password: a # in a value must be in quotes")
        assert "abc" not in fault
    else:
        assert read(tmp_path, text).settings.authentication.password == password


def test_values_are_not_interpolated(tmp_path: Path) -> None:
    settings = read(tmp_path, "[authentication]\npassword = %(x)s$y").settings
    assert settings.authentication.password == "%(x)s$y"


def test_the_password_is_not_in_the_repr(tmp_path: Path) -> None:
    configuration = read(tmp_path, "[authentication]\npassword = hunter2")
    assert "hunter2" not in repr(configuration)
    assert "hunter2" not in str(list(configuration.knobs()))


def test_all_errors_are_reported_at_once(tmp_path: Path) -> None:
    told = faults(
        tmp_path,
        "stray = 1\n"
        "[server]\n"
        "tcp_port = abc\n"
        "tcp_prt = 3\n"
        "[perfomance]\n"
        "x = 1\n"
        "[performance]\n"
        "tcp_nodelay = maybe\n"
        "max_connections = 0\n"
        "[authentication]\n"
        "password = hunter2,b\n"
        "[security]\n"
        "allowed_ips = 10.0.0.0/8, foo\n",
        TC_SWEEP_INTERVAL_MS="soon",
        LOG_LEVEL="loud",
    )
    expected = [
        ("the environment variable TC_SWEEP_INTERVAL_MS", "server.cleanup_interval_seconds"),
        ("the environment variable LOG_LEVEL", "logging.level"),
        ("line 1: stray", "is before the first section"),
        ("line 3: server.tcp_port", "neither a port number"),
        ("line 4: server.tcp_prt", "did you mean tcp_port?"),
        ("line 5: perfomance", "did you mean performance?"),
        ("line 8: performance.tcp_nodelay", '"maybe"'),
        ("line 9: performance.max_connections", "too small"),
        ("line 11: authentication.password", "put the value in quotes"),
        ("line 13: security.allowed_ips", '"foo" is neither an address nor a network'),
    ]
    assert len(told) == len(expected)
    for start, part in expected:
        assert [fault for fault in told if fault.startswith(start) and part in fault], start
    assert "hunter2" not in "".join(told)


@pytest.mark.parametrize(
    "host",
    [
        "https://cache.example.com",
        "cache.example.com:8080",
        "*",
        "a.*.com",
        "*x.com",
        "a b",
        "a..b",
    ],
)
def test_what_is_not_a_host(tmp_path: Path, host: str) -> None:
    (told,) = faults(tmp_path, f"[server]\nallowed_hosts = good.example, {host}")
    assert told.startswith("line 2: server.allowed_hosts")
    assert f'"{host}" is neither a host name nor a pattern such as *.example.com' in told


def test_the_error_for_a_knob_before_any_section_names_its_section(tmp_path: Path) -> None:
    (told,) = faults(tmp_path, "tcp_nodelay = true")
    assert "it belongs in [performance]" in told


def test_an_unknown_name_that_resembles_nothing_lists_the_known_ones(tmp_path: Path) -> None:
    (told,) = faults(tmp_path, "[manhole]\nzzz = 1")
    assert "known: enabled, port, user" in told


def test_a_host_in_the_environment_that_is_no_address_is_named(tmp_path: Path) -> None:
    (fault,) = faults(tmp_path, "", HOST="my-laptop")
    assert fault.startswith(
        "the environment variable HOST (server.host) is 'my-laptop', which is no"
    )
    assert load(None, {"HOST": "localhost"}).settings.server.host == "localhost"


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("tagcache.conf", '[security]\nallowed_ips = ["127.0.0.1"]\n', True),
        ("tagcache.conf", '[logging]\nlevel = "trace"\n', True),
        ("a b.toml", "[server]\ntcp_port = 99999999\n", True),
        ("tagcache.conf", "[server]\ntcp_port = 99999999\n", False),
        ("tagcache.conf", '[server]\nhostt = "::1"\n', False),
        ("tagcache.toml", "[server]\nhost = ::1\nhostt = 1", False),
    ],
)
def test_toml_is_distinguished_from_other_errors(
    tmp_path: Path, name: str, text: str, expected: bool
) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        load(path, {})
    hints = [fault for fault in caught.value.faults if "tagcache config import-toml" in fault]
    assert hints == (list(caught.value.faults) if expected else [])


def test_a_section_given_as_a_value_is_reported(tmp_path: Path) -> None:
    assert faults(tmp_path, "cache = 1", HOST="::1") == [
        "line 1: cache: is a section; write it as [cache]"
    ]


def test_a_subsection_is_reported(tmp_path: Path) -> None:
    told = faults(tmp_path, "[cache]\n[[more]]\nx = 1\n[server]\n[[tcp_port]]\nx = 1")
    assert told == [
        "line 2: more: [cache] cannot contain sections",
        "line 5: tcp_port: [server] cannot contain sections",
    ]
    assert faults(tmp_path, "[unknown]\n[[more]]\nx = 1")


@pytest.mark.parametrize("text", ["nan", "inf", "-1", "1e999", "0"])
def test_seconds_are_finite_and_within_bounds(tmp_path: Path, text: str) -> None:
    (told,) = faults(tmp_path, f"[server]\ncleanup_interval_seconds = {text}")
    assert told.startswith("line 2: server.cleanup_interval_seconds")


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), ("1048576", 2**20), ("64kb", 2**16), ("512 MB", 2**29), ("2gb", 2**31), ("7b", 7)],
)
def test_sizes_have_units(tmp_path: Path, text: str, size: int) -> None:
    path = tmp_path / "tagcache.conf"
    path.write_text(f"[cache]\nmax_memory = {text}\n")
    assert load(path, {}).settings.cache.max_memory == size


@pytest.mark.parametrize("text", ["", "-1", "1.5gb", "mb", "1tb", "1 2", "0x10", "\u0661"])
def test_what_is_not_a_size_is_reported(tmp_path: Path, text: str) -> None:
    (told,) = faults(tmp_path, f'[cache]\nmax_memory = "{text}"')
    assert "is not a number of bytes such as 1048576, 512mb" in told


def test_what_is_not_ini_is_reported_by_line_and_not_quoted(tmp_path: Path) -> None:
    told = faults(tmp_path, "[server]\npassword hunter2\n[server]\n[cache\n")
    assert [fault.split(":")[0] for fault in told] == ["line 2", "line 3", "line 4"]
    assert "hunter2" not in "".join(told)


def test_what_is_not_text_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "tagcache.conf"
    path.write_bytes(b"[server]\nhost = \xff\n")
    with pytest.raises(ConfigurationError, match="line 2: is not UTF-8 text"):
        load(path, {})


def test_a_file_that_cannot_be_read_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read: No such file"):
        load(tmp_path / "nowhere.conf", {})
    with pytest.raises(ConfigurationError, match="cannot be read: Is a directory"):
        load(tmp_path, {})


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    path = tmp_path_factory.mktemp("config") / "tagcache.conf"
    path.write_text(text, encoding="utf-8", errors="replace")
    try:
        load(path, {})
    except ConfigurationError as error:
        assert error.faults


@pytest.mark.parametrize(
    ("variable", "value", "section", "key", "expected"),
    [
        ("HOST", "0.0.0.0", "server", "host", "0.0.0.0"),
        ("PORT", "81", "server", "http_port", "81"),
        ("TC_HTTP_PORT", "82", "server", "http_port", "82"),
        ("TCP_PORT", "83", "server", "tcp_port", "83"),
        ("TC_TCP_PORT", "84", "server", "tcp_port", "84"),
        ("NUM_SHARDS", "2", "server", "num_shards", 2),
        ("TC_NUM_SHARDS", "3", "server", "num_shards", 3),
        ("CLEANUP_INTERVAL_SECONDS", "5", "server", "cleanup_interval_seconds", 5.0),
        ("CLEANUP_INTERVAL_MS", "1500", "server", "cleanup_interval_seconds", 1.5),
        ("TC_SWEEP_INTERVAL_MS", "250", "server", "cleanup_interval_seconds", 0.25),
        ("ALLOWED_ORIGIN", "https://a", "server", "allowed_origin", "https://a"),
        ("TAGCACHE_USERNAME", "me", "authentication", "username", "me"),
        ("TAGCACHE_PASSWORD", "a,b", "authentication", "password", "a,b"),
        ("TAGCACHE_ENGINE", "Redis", "engine", "backend", "redis"),
        ("TAGCACHE_ENGINE_URL", "redis://a", "engine", "url", "redis://a"),
        ("LOG_LEVEL", "DEBUG", "logging", "level", "debug"),
    ],
)
def test_the_environment_goes_before_the_file(
    tmp_path: Path, variable: str, value: str, section: str, key: str, expected: object
) -> None:
    configuration = read(
        tmp_path,
        "[server]\nhost = 127.0.0.2\ncleanup_interval_seconds = 7\nnum_shards = 9\n"
        "tcp_port = 1\nhttp_port = 2\n[logging]\nlevel = error\n[authentication]\npassword = x",
        **{variable: value},
    )
    assert getattr(getattr(configuration.settings, section), key) == expected
    assert configuration.origins[section, key] is Origin.ENVIRONMENT


def test_every_environment_variable_is_tested() -> None:
    marks = test_the_environment_goes_before_the_file.pytestmark  # type: ignore[attr-defined]
    assert {each[0] for each in marks[0].args[1]} == {each[0] for each in VARIABLES}


def test_an_empty_variable_counts_as_not_set() -> None:
    assert overrides({"PORT": ""}) == ([], [])


def test_the_first_of_two_variables_wins_and_the_other_is_reported() -> None:
    configuration = load(None, {"PORT": "1", "TC_HTTP_PORT": "2"})
    assert configuration.settings.server.http_port == "1"
    assert configuration.notices == (
        "the environment variable TC_HTTP_PORT has no effect: "
        "PORT sets server.http_port too, and takes precedence",
    )
    assert load(None, {"PORT": "1", "TC_HTTP_PORT": "1"}).notices == ()


def test_origins(tmp_path: Path) -> None:
    configuration = read(tmp_path, "[server]\nhost = ::1\n[cache]", TCP_PORT="5")
    assert configuration.origins["server", "host"] is Origin.FILE
    assert configuration.origins["server", "tcp_port"] is Origin.ENVIRONMENT
    assert configuration.origins["cache", "max_key_length"] is Origin.DEFAULT
    assert set(configuration.changed()) == {("server", "host"), ("server", "tcp_port")}


def test_where_the_file_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    here = tmp_path / "here"
    for directory in (home / ".config" / "tagcache", here, tmp_path / "xdg" / "tagcache"):
        directory.mkdir(parents=True)
    monkeypatch.chdir(here)
    assert find({"HOME": str(home)}) is None
    in_home = home / ".config" / "tagcache" / "tagcache.conf"
    in_home.touch()
    assert find({"HOME": str(home)}) == in_home
    in_xdg = tmp_path / "xdg" / "tagcache" / "tagcache.conf"
    in_xdg.touch()
    assert find({"HOME": str(home), "XDG_CONFIG_HOME": str(tmp_path / "xdg")}) == in_xdg
    (here / "tagcache.conf").touch()
    assert find({"HOME": str(home)}) == Path("tagcache.conf")
    assert list(here.iterdir()) == [here / "tagcache.conf"]


def test_tag_rules(tmp_path: Path) -> None:
    configuration = read(
        tmp_path,
        """
        [tag_rules]
        posts = "post:{id}:*", "post:{id}", posts
        "every front page" = '*/front', "front, and pages"
        [cache]
        max_tags_per_entry = 7
        """,
    )
    posts, front = configuration.settings.tag_rules.rules
    assert (posts.name, posts.pattern, posts.tags) == (
        "posts",
        "post:{id}:*",
        ("post:{id}", "posts"),
    )
    assert (front.name, front.pattern, front.tags) == (
        "every front page",
        "*/front",
        ("front, and pages",),
    )
    assert [knob for knob in configuration.knobs() if knob[0] == "tag_rules"] == [
        ("tag_rules", "posts", ("post:{id}:*", "post:{id}", "posts"), Origin.FILE),
        ("tag_rules", "every front page", ("*/front", "front, and pages"), Origin.FILE),
    ]
    assert set(configuration.changed()) == {
        ("tag_rules", "posts"),
        ("tag_rules", "every front page"),
        ("cache", "max_tags_per_entry"),
    }
    limits = limits_of(configuration.settings)
    assert limits.max_tags_per_entry == 7
    assert limits.tags_of(b"post:1:x") == (b"post:1", b"posts")


def test_without_tag_rules_nothing_is_looked_for() -> None:
    assert limits_of(load(None, {}).settings).tag_rules is None


def test_the_near_cache_has_no_tag_rules(tmp_path: Path) -> None:
    """Its entries have the tags that they have in Redis."""
    configuration = read(tmp_path, "[tag_rules]\nall = *, all\n[engine]\nnear_cache_mb = 1")
    assert near_limits(configuration.settings).tag_rules is None


def test_every_fault_of_tag_rules_names_the_rule(tmp_path: Path) -> None:
    told = faults(
        tmp_path,
        "[tag_rules]\n"
        "alone = post:{id}\n"
        "nothing = ,\n"
        'empty = "", t\n'
        "two = {a}{b}, {c}, '', t#t\n"
        "fine = a, b\n",
    )
    assert told == [
        "line 2: tag_rules.alone: there is no tag after the pattern",
        "line 3: tag_rules.nothing: the pattern is empty",
        "line 3: tag_rules.nothing: there is no tag after the pattern",
        "line 4: tag_rules.empty: the pattern is empty",
        "line 5: two: a # in a value must be in quotes; write a blank before one that begins a "
        "comment",
        "line 5: tag_rules.two: the pattern has nothing between {a} and {b}",
        "line 5: tag_rules.two: the tag {c} names {c}, which is not in the pattern",
        "line 5: tag_rules.two: a tag is empty",
    ]
    (fault,) = faults(tmp_path, "tag_rules = 1")
    assert fault == "line 1: tag_rules: is a section; write it as [tag_rules]"
    (fault,) = faults(tmp_path, '[tag_rules]\nx = ["a", "b"]')
    assert fault.startswith("line 2: ")


DOCUMENT = Path(__file__).parents[3] / "docs" / "tag-rules.md"


def test_what_the_document_says_of_patterns() -> None:
    table = DOCUMENT.read_text(encoding="utf-8").split("| pattern | key | `{id}` |")[1]
    rows = [line for line in table.partition("\n\n")[0].splitlines()[2:] if line]
    for row in rows:
        pattern, key, expected = (cell.strip().strip("`") for cell in row.strip("|").split("|"))
        matched = [tag.decode() for tag in TagRule("", pattern, ("{id}",)).made_of(key.encode())]
        assert matched == ([] if expected == "no match" else [expected]), row
    assert len(rows) == 8


def test_the_rules_of_the_document(tmp_path: Path) -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    first, site = (
        read(tmp_path, block).settings.tag_rules
        for block in re.findall(r"```ini\n(.*?)```", text, re.DOTALL)
    )
    explained = text.split("$ tagcache tags explain ")[1].partition("```")[0]
    key, *lines = explained.splitlines()
    made = [f"{tag.decode()}\t{rule.name}\t-" for rule, tag in first.made_of(key.encode())]
    assert made == lines
    sample = DOCUMENT.parent / "examples" / "django_rules.conf"
    assert load(sample, {}).settings.tag_rules == site
