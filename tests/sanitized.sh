#!/usr/bin/env bash
# sanitized.sh TEST...: run tests, except the slow ones, of the native core built with AddressSanitizer and
# UndefinedBehaviorSanitizer. Each error ends the run. Needs gcc and the .venv of `make test`.
set -euo pipefail
cd "$(dirname "$0")/.."

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
# A copy, because the usual build is in the folder of the sources.
cp -r tagcache tests twisted pyproject.toml "$scratch"
rm -f "$scratch"/tagcache/native/*.so
python=$PWD/.venv/bin/python
include=$("$python" -c 'import sysconfig; print(sysconfig.get_paths()["include"])')
suffix=$("$python" -c 'import sysconfig; print(sysconfig.get_config_var("EXT_SUFFIX"))')
gcc -shared -fPIC -O1 -g -Wall -Wextra -Werror -fsanitize=address,undefined -fno-sanitize-recover=all \
    -I"$include" "$scratch"/tagcache/native/*.c -o "$scratch/tagcache/native/_core$suffix"
cd "$scratch"
# CPython's own allocator would hide errors, and CPython frees nothing at its end.
LD_PRELOAD="$(gcc -print-file-name=libasan.so) $(gcc -print-file-name=libubsan.so)" \
    ASAN_OPTIONS=detect_leaks=0 PYTHONMALLOC=malloc TAGCACHE_NATIVE=require PYTHONPATH=$scratch \
    TAGCACHE_TEST_REACTOR=tagcache "$python" -m pytest -p no:cacheprovider -q -n auto \
    -m "not slow and not soak" "$@"
