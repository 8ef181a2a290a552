"""Generate the blocking half of the clients from the asynchronous half.

Every module in a package ``_async`` becomes one of the same name in the package ``_sync`` beside
it: ``async`` and ``await`` are removed, and the names below replaced. A statement whose first line
ends with ``# async only`` is left out.

    python tools/unasync.py           # write the generated modules
    python tools/unasync.py --check   # exit code 1 if one of them is not current
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ASYNC_ONLY = "# async only"
_RESULT = r"(\w+(?:\[\w+\])?)"
# Applied in order, each to whole words, in code as well as in docstrings.
REPLACEMENTS = [
    (rf"(?:Awaitable|Coroutine)\[(?:Any, Any, )?{_RESULT}\](?: \| \1)?", r"\1"),
    (r"async (def|with|for)", r"\1"),
    (r"await ", ""),
    (r"__a(enter|exit)__", r"__\1__"),
    (r"the tasks of any number of event loops", "any number of threads"),
    (r"the tasks of one event loop", "the threads of one process"),
    (r"gather", "list"),
    # Modules and classes that are written twice, as they differ in more than the waiting.
    (r"awaited_pool|asyncio_network", "pool"),
    (r"AwaitedPool|PoolPerLoop", "Pool"),
    (r"AwaitedFlights", "Flights"),
    (r"_pools", "_pool"),
    (r"_async", "_sync"),
    (r"_awaited", "_returned"),
    (r"AwaitedPipeline", "Pipeline"),
    (r"Awaited(Client|Commands|Computation)", r"Blocking\1"),
    (r"(Any)?Async([A-Z]\w*)", r"\1\2"),
    (r"CachedCoroutine", "CachedFunction"),
    (r"coroutine function", "function"),
    # Django's names.
    (r"(self(?:\._(?:backend|cache))?)\.async_client\(\)", r"\1.client"),
    (r"a((?:get|set|delete)(?:_many)?|get_or_set|add|touch|has_key|clear)", r"\1"),
    (r"a((?:incr|decr)(?:_version)?|invalidate_tags?)", r"\1"),
    (r"a(p?ttl|persist|p?expire(?:_at)?|(?:iter_)?keys|delete_pattern|lock)", r"\1"),
    (r"_a(time_left|deadline|names|scan)", r"_\1"),
    (r"asyncio\.sleep", "time.sleep"),
]
_PATTERNS = [
    (re.compile(rf"(?<!\w){pattern}(?!\w)" if pattern[-1] != " " else rf"\b{pattern}"), replacement)
    for pattern, replacement in REPLACEMENTS
]


def blocking(source: str, name: str) -> str:
    """Return the blocking twin of a module, which is named in its first line."""
    lines = source.splitlines(keepends=True)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.stmt) and lines[node.lineno - 1].rstrip().endswith(ASYNC_ONLY):
            first = min(
                [node.lineno, *(each.lineno for each in getattr(node, "decorator_list", []))]
            )
            lines[first - 1 : node.end_lineno] = [""] * (node.end_lineno - first + 1)
    text = "".join(lines)
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return f"# Generated from {name} by tools/unasync.py: do not edit.\n{text}"


def formatted(text: str, path: Path) -> str:
    """Return the module as ruff would leave it, without imports that it no longer needs."""
    for command in (["check", "--fix-only", "--quiet", "--select=I,F401"], ["format", "--quiet"]):
        text = subprocess.run(
            [sys.executable, "-m", "ruff", *command, f"--stdin-filename={path}", "-"],
            input=text,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    return text


def main(check: bool) -> int:
    """Write, or check, every generated module; return the exit code."""
    stale = []
    for source in sorted(ROOT.glob("tagcache/**/_async/*.py")):
        target = source.parent.parent / "_sync" / source.name
        name = str(source.relative_to(ROOT))
        text = formatted(blocking(source.read_text(encoding="utf-8"), name), target)
        if target.exists() and target.read_text(encoding="utf-8") == text:
            continue
        stale.append(str(target.relative_to(ROOT)))
        if not check:
            target.parent.mkdir(exist_ok=True)
            target.write_text(text, encoding="utf-8")
    for target in sorted(ROOT.glob("tagcache/**/_sync/*.py")):
        if not (target.parent.parent / "_async" / target.name).exists():
            stale.append(str(target.relative_to(ROOT)))
            if not check:
                target.unlink()
    for path in stale:
        print(f"{path} is not current: run make unasync" if check else f"{path} is updated")
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv[1:]))
