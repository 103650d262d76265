"""`fovea report`: one HTML page, complete in itself, from the JSON files of `fovea bench` and
`fovea check --exhaustive`."""

import argparse
import os
import sys
from pathlib import Path

# Run as a folder or as a module of tools/, it finds its parts beside itself.
sys.path.insert(0, str(Path(__file__).parent))
try:
    import page
except ModuleNotFoundError as missing:
    sys.exit(f"fovea report: the Python package «{missing.name}» is missing: "
             f"pip install -r {Path(__file__).parent / 'requirements.txt'}")
from document import DocumentError, load
from findings import Accuracy, sorted_out

DEFAULT_FOLDER = Path("build/bench")


def printable(path):
    """The name of a file, whose bytes need not be UTF-8."""
    return os.fsencode(path).decode("utf-8", "replace")


def main(arguments=None):
    parser = argparse.ArgumentParser(prog="fovea report", description=__doc__)
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE",
                        help=f"files of `fovea bench` or `fovea check --json` (default: {DEFAULT_FOLDER}/*.json)")
    parser.add_argument("--output", type=Path, default=DEFAULT_FOLDER / "report.html",
                        metavar="FILE", help="the page to write (default: %(default)s)")
    options = parser.parse_args(arguments)
    files = options.files or sorted(DEFAULT_FOLDER.glob("*.json"))
    if not files:
        print(f"fovea report: no JSON file in {DEFAULT_FOLDER}; `fovea bench` makes them",
              file=sys.stderr)
        return 2
    if options.output.resolve() in {path.resolve() for path in files}:
        print(f"fovea report: --output={printable(options.output)} is one of the files to be read",
              file=sys.stderr)
        return 2
    try:
        found = [sorted_out(load(path), printable(path)) for path in files]
    except DocumentError as error:
        print(f"fovea report: {error}", file=sys.stderr)
        return 2
    accuracies = [each for each in found if isinstance(each, Accuracy)]
    measurements = [each for each in found if not isinstance(each, Accuracy)]
    try:
        page.write(options.output, page.render(measurements, accuracies))
    except OSError as error:
        print(f"fovea report: {printable(options.output)}: cannot be written: {error.strerror}",
              file=sys.stderr)
        return 1
    print(printable(options.output))
    return 0


if __name__ == "__main__":
    sys.exit(main())
