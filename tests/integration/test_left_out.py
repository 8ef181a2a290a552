"""What a test run reports about the tests that it left out."""

from __future__ import annotations

import pytest

pytest_plugins = ["pytester"]

TESTS = """
    import pytest

    @pytest.mark.parametrize("number", range(3))
    @pytest.mark.slow
    def test_slow(number): pass

    def test_quick(): pass
"""
CONFTEST = """
    from tests.left_out import LeftOut

    def pytest_configure(config):
        config.pluginmanager.register(LeftOut())
        config.addinivalue_line("markers", "slow: takes many seconds")
"""


@pytest.mark.parametrize("processes", ["0", "2"])
def test_slow_tests_that_were_left_out_are_counted(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, processes: str
) -> None:
    # The others only take longer.
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(TESTS)
    options = ("-p", "xdist", "-n", processes)
    run = pytester.runpytest_subprocess(*options, "-m", "not slow")
    run.stdout.fnmatch_lines(["3 slow tests were left out; *make test-all*"])
    run.assert_outcomes(passed=1, deselected=None if processes == "2" else 3)
    everything = pytester.runpytest_subprocess(*options)
    everything.stdout.no_fnmatch_line("*left out*")
    everything.assert_outcomes(passed=4)
