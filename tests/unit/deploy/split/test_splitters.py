"""What is known against breaking a network apart is said before anything is tried."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from conch.deploy.split.parts import CannotSplit
from conch.deploy.split.splitters import not_followed, split

torch = pytest.importorskip("torch")


def network(*kinds: str) -> Any:
    """A network that holds modules of these classes."""
    return torch.nn.Sequential(*(type(kind, (torch.nn.Identity,), {})() for kind in kinds))


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("SuperGlueForKeypointMatching", "another number of points in each"),
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
