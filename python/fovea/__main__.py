"""The command `fovea`, as the package carries it: python -m fovea, or fovea where scripts are."""

import os
import pathlib
import sys


def main() -> None:
    command = pathlib.Path(__file__).parent / "bin" / "fovea"
    if not command.exists():
        sys.exit("fovea: this is a build tree, where the command is bin/fovea of the build")
    os.environ.setdefault("FOVEA_PYTHON", sys.executable)
    os.execv(command, ["fovea", *sys.argv[1:]])


if __name__ == "__main__":
    main()
