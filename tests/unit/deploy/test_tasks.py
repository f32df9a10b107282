"""The task table is complete and consistent."""

from __future__ import annotations

from pathlib import Path

import pytest

from conch.deploy import samples, tasks
from conch.deploy.tasks import ALIASES, TASKS, Task, document, find_task
from conch.errors import InvalidArgumentError

TEMPLATES = Path(tasks.__file__).parent.parent / "templates"
PAGE = Path(__file__).parents[3] / "docs" / "reference" / "tasks.md"
KINDS = {"object", "int", "float", "bool", "str", "list", "json", "template", "texts", "generation", "any"}

every_task = pytest.mark.parametrize("task", TASKS.values(), ids=TASKS.keys())


def test_every_task_of_the_installed_transformers_is_in_the_table() -> None:
    pipelines = pytest.importorskip("transformers.pipelines")
    registry = pipelines.PIPELINE_REGISTRY
    assert set(registry.supported_tasks) <= set(TASKS)
    assert {ALIASES[alias] for alias in registry.task_aliases} == set(registry.task_aliases.values())


@every_task
def test_pipeline_of_a_task_is_one_that_transformers_has(task: Task) -> None:
    pipelines = pytest.importorskip("transformers.pipelines")
    assert not task.pipeline or task.pipeline in pipelines.PIPELINE_REGISTRY.supported_tasks


@every_task
def test_files_of_a_task_are_templates_and_import_no_others(task: Task) -> None:
    libraries = {path.name for path in TEMPLATES.glob("hf_*.py")}
    for name in (task.template, *task.libraries):
        source = (TEMPLATES / name).read_text()
        imported = {library for library in libraries if f"from {library.removesuffix('.py')} import" in source}
        assert imported <= set(task.libraries), name
        assert "conch" not in source.replace("`conch deploy`", ""), f"{name} must not depend on conch"


@every_task
def test_template_of_a_task_serves_it(task: Task) -> None:
    assert task.name in (TEMPLATES / task.template).read_text()


@every_task
def test_names_of_a_task_are_unique_and_its_parameters_of_known_kinds(task: Task) -> None:
    for specs in (task.inputs, task.outputs, task.parameters):
        names = [spec.name for spec in specs]
        assert len(names) == len(set(names))
    plain = {spec.kind.partition("[")[0] for spec in task.parameters if "|" not in spec.kind}
    assert plain <= KINDS


@every_task
def test_task_has_samples_to_verify_it_with(task: Task) -> None:
    assert task.name in samples._MAKERS


def test_task_is_found_by_its_alias() -> None:
    assert find_task("ner").name == "token-classification"


def test_unknown_task_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InvalidArgumentError, match="unknown task 'juggling'; expected one of: any-to-any, audio"):
        find_task("juggling")


def test_page_of_the_documentation_is_the_table() -> None:
    assert PAGE.read_text() == document.page(), "run: python -m conch.deploy.tasks.document > docs/reference/tasks.md"
