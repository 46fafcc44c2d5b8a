"""The linter's command line."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from . import __doc__ as about
from . import problems
from .cleanliness import clean_file


def main(arguments: Sequence[str] | None = None) -> int:
    """List the problems of the named notebooks and folders -> exit status, 1 if there are any."""
    summary = (about or "").partition("\n")[0]
    parser = argparse.ArgumentParser(prog="python -m peftlab.workbook.lint", description=summary)
    parser.add_argument("paths", nargs="+", type=Path, help="notebooks, or folders of them")
    parser.add_argument("--clean", action="store_true", help="fix first what can be fixed")
    options = parser.parse_args(arguments)
    found = 0
    for path in [p for given in options.paths for p in (sorted(given.glob("*.ipynb")) if given.is_dir() else [given])]:
        if options.clean and clean_file(path):
            print(f"{path}: cleaned")
        for problem in problems(path):
            print(f"{path}: {problem}")
            found += 1
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
