"""Makes the environment that the model names: python make_environment.py [MODEL_DIRECTORY [PYTHON]].

It takes numpy, and nothing else, from that Python (the one that runs this, if none is named), so that nothing is
downloaded, and has one module of its own. For a model of yours, `python -m venv` and `pip install` do the same, or
conda and conda-pack.
"""

import subprocess
import sys
from pathlib import Path

MODULE = """
WORDS = "zero one two three four five six seven eight nine".split()


def spell(number):
    return " ".join(WORDS[int(digit)] for digit in str(number))
"""


def make(model_directory: Path, python: str = sys.executable) -> Path:
    """The environment, in that model directory."""
    environment = model_directory / "environment"
    subprocess.run([python, "-m", "venv", "--without-pip", environment], check=True)
    interpreter = environment / "bin" / "python"
    packages = Path(_printed(interpreter, "import sysconfig; print(sysconfig.get_path('purelib'))"))
    version, numpy = _printed(python, "import numpy; print(numpy.__version__, numpy.__path__[0])").split(" ", 1)
    for directory in (Path(numpy), Path(f"{numpy}.libs")):  # the second has the libraries of numpy's wheels
        if directory.exists():
            (packages / directory.name).symlink_to(directory)
    (packages / "spelled_numbers.py").write_text(MODULE)
    if not version.startswith("1."):
        print(f"The environment has numpy {version}; Triton up to 24.10 needs one with numpy 1.", file=sys.stderr)
    return environment


def _printed(python, code):
    return subprocess.run([python, "-c", code], check=True, capture_output=True, text=True).stdout.strip()


if __name__ == "__main__":
    here = Path(__file__).parent / "models" / "elsewhere"
    print(make(*[Path(sys.argv[1]), *sys.argv[2:]] if sys.argv[1:] else [here]))
