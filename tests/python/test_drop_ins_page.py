"""The examples of docs/drop-ins.md run, and examples/compare_model.py."""

import re
import subprocess
import sys

import pytest
from dropins import require
from library import ROOT

PAGE = (ROOT / "docs" / "drop-ins.md").read_text()
EXAMPLES = {f"{heading.strip()} {i}": code
            for heading, text in re.findall(r"^## (.+)\n((?:(?!^## ).*\n)*)", PAGE, re.M)
            for i, code in enumerate(re.findall(r"```python\n(.*?)```", text, re.S))}


@pytest.mark.parametrize("name", EXAMPLES)
def test_example_runs(name):
    for module in re.findall(r"^(?:import|from) (torch|transformers|jax|mlx)\b", EXAMPLES[name],
                             re.M):
        require(module)
    exec(compile(EXAMPLES[name], f"docs/drop-ins.md, {name}", "exec"), {"__name__": "__example__"})


def test_a_model_with_and_without():
    require("transformers")
    done = subprocess.run([sys.executable, ROOT / "examples" / "compare_model.py", "--length", "64",
                           "--layers", "1", "--width", "256"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "greedy tokens equal: yes" in done.stdout
