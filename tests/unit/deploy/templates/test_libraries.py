"""What lies beside a model.py."""

from __future__ import annotations

import ast
import sys
from importlib import resources

import pytest

from conch.deploy.family import libraries_of
from conch.deploy.tasks import TASKS

_TEMPLATES = resources.files("conch.deploy") / "templates"
LIGHT = (
    "tokenize_text", "process_image", "process_audio", "classify", "classify_tokens", "rank_labels", "pick_tokens",
    "decode_text", "tokenize_prompt", "process_speech", "process_image_prompt", "join_rows", "find_objects",
    "measure_depth", "find_segments", "cut_speech", "spell_speech", "read_page", "find_answers", "process_video",
    "number_letters", "play_waveform", "find_texts", "process_crops", "find_masks", "tokenize_table", "choose_cells",
    "tokenize_source", "answer_questions", "process_page", "process_sound_prompt",
)  # fmt: skip
ALLOWED = {"numpy", "tokenizers", "PIL", "soundfile", "soxr", "jinja2", "av", "pytesseract", "sentencepiece"}
ALLOWED |= {"triton_python_backend_utils"}


def imported(name: str) -> set[str]:
    """The packages that a template imports anywhere in its text."""
    found: set[str] = set()
    for node in ast.walk(ast.parse((_TEMPLATES / name).read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
        elif isinstance(node, ast.Import):
            found.update(each.name.split(".")[0] for each in node.names)
    return found


@pytest.mark.parametrize("name", sorted(TASKS))
def test_task_names_the_libraries_that_its_template_imports(name: str) -> None:
    assert set(TASKS[name].libraries) == set(libraries_of(TASKS[name].template))


@pytest.mark.parametrize("name", LIGHT)
def test_light_parts_need_neither_torch_nor_transformers_nor_conch(name: str) -> None:
    files = [f"{name}.py", *libraries_of(f"{name}.py")]
    packages = set().union(*(imported(file) for file in files)) - {file.removesuffix(".py") for file in files}
    assert packages - sys.stdlib_module_names <= ALLOWED
