"""What is known against breaking a network apart is said before anything is tried."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from conch.deploy.split import splitters
from conch.deploy.split.parts import CannotSplit, PythonPart, Split
from conch.deploy.split.splitters import not_followed, split

torch = pytest.importorskip("torch")


def network(*kinds: str) -> Any:
    """A network that holds modules of these classes."""
    return torch.nn.Sequential(*(type(kind, (torch.nn.Identity,), {})() for kind in kinds))


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("SuperGlueForKeypointMatching", "another number of points in each"),
        ("LightGlueForKeypointMatching", "how many layers it runs depends on how sure it is"),
        ("EfficientLoFTRForKeypointMatching", "it mixes which points match"),
        ("FunnelAttentionStructure", "how often it pools depends on the length of each text"),
    ],
)
def test_network_that_no_exporter_follows_is_refused_with_the_reason(kind: str, reason: str) -> None:
    subject: Any = SimpleNamespace(plan=SimpleNamespace(max_batch_size=8), model=network("Linear", kind))
    with pytest.raises(CannotSplit, match=reason):
        split(subject)


def test_nothing_is_known_against_other_networks() -> None:
    assert not not_followed(network("Linear", "BertModel"))
    assert not not_followed(object())


@pytest.mark.parametrize(
    ("templates", "note"),
    [
        (("tokenize_text.py", "classify.py"), ""),
        (("tokenize_text.py", "pipeline_postprocess.py"), "part1: the pipeline's own steps; its process imports torch"),
        (("pipeline_preprocess.py", "pipeline_postprocess.py"), "part0 and part1: the pipeline's own steps; their "),
    ],
)
def test_parts_that_import_transformers_are_named(
    templates: tuple[str, ...], note: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = tuple(
        PythonPart(suffix=f"part{number}", stage="", summary="", template=template, inputs=(), outputs=())
        for number, template in enumerate(templates)
    )
    monkeypatch.setitem(splitters._SPLITTERS, "seeing", ("generic:whole_pipeline",))
    monkeypatch.setattr("conch.deploy.split.generic.whole_pipeline", lambda subject: Split(parts))
    plan = SimpleNamespace(max_batch_size=8, task=SimpleNamespace(name="seeing"))
    subject: Any = SimpleNamespace(plan=plan, model=network("Linear"))
    assert [text[: len(note)] for text in split(subject).notes] == [note] * bool(note)


def test_a_way_that_fails_is_a_reason_and_the_next_one_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(subject: Any) -> Split:
        raise KeyError("hidden_size\nand more")

    monkeypatch.setitem(splitters._SPLITTERS, "seeing", ("generic:classification", "generic:whole_pipeline"))
    monkeypatch.setattr("conch.deploy.split.generic.classification", fail)
    monkeypatch.setattr("conch.deploy.split.generic.whole_pipeline", fail)
    plan = SimpleNamespace(max_batch_size=8, task=SimpleNamespace(name="seeing"))
    subject: Any = SimpleNamespace(plan=plan, model=network("Linear"))
    with pytest.raises(CannotSplit) as caught:
        split(subject)
    each = "KeyError: 'hidden_size\\nand more'"
    assert str(caught.value) == f"generic:classification failed: {each}; generic:whole_pipeline failed: {each}"
    monkeypatch.setattr("conch.deploy.split.generic.whole_pipeline", lambda subject: Split(()))
    assert split(subject) == Split(())
