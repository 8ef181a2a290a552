"""Coverage-guided fuzzing of both protocols, for a limited time."""

from __future__ import annotations

import importlib.util
import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import skip
from tests.faults.test_input import CORPUS
from tests.reliability import ROOT, Measured

SECTION = "bad input"
SECONDS = int(os.environ.get("TAGCACHE_FUZZ_SECONDS", "60"))


@pytest.mark.soak
@pytest.mark.timeout(SECONDS + 120)
@pytest.mark.parametrize("kind", ["codec", "http"])
def test_fuzzing(kind: str, tmp_path: Path, measured: Measured) -> None:
    if importlib.util.find_spec("atheris") is None:
        skip("atheris is not installed (pip install -e '.[soak]')")
    found = tmp_path / "found"
    found.mkdir()
    # In getrusage, a process inherits the peak of the process that started it.
    most_mb = 1000 + (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "tests.soak.fuzz", kind),
            *(str(found), str(CORPUS / kind)),
            *(f"-max_total_time={SECONDS}", "-max_len=2000", "-timeout=20"),
            *(f"-rss_limit_mb={most_mb}", f"-artifact_prefix={tmp_path}/", "-print_final_stats=1"),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    broke = [each.read_bytes() for each in tmp_path.iterdir() if each.is_file()]
    assert done.returncode == 0, (broke, done.stderr[-5000:])
    runs = int(re.findall(r"stat::number_of_executed_units:\s+(\d+)", done.stderr)[0])
    coverage = re.findall(r"cov: (\d+)", done.stderr)
    assert runs > 100
    measured(
        f"{SECONDS} s of coverage-guided fuzzing of the {kind} input (atheris)",
        "the same replies whole and cut, nothing in the log, nothing left behind",
        f"{runs:,} streams, {coverage[-1]} branches reached, {len(list(found.iterdir()))} new "
        "ones worth keeping: no failure",
    )
