"""``python -m tagcache``: runs the command if its script is not on the path."""

from __future__ import annotations

from tagcache.cli.main import main

if __name__ == "__main__":
    main(prog_name="python -m tagcache")
