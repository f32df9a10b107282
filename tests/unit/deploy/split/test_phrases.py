"""Phrases of a text told with comparisons are those that Grounding DINO tells with running maxima."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")
library = pytest.importorskip("transformers.models.grounding_dino.modeling_grounding_dino")
traced_phrases = pytest.importorskip("conch.deploy.split.phrases")
Traced = pytest.importorskip("conch.deploy.split.traced").Traced

ENDS = torch.tensor([101, 102, 1012, 1029])


def texts() -> list[Any]:
    """Batches of words of which about a third end a phrase, of 1 to 12 words."""
    draw = torch.Generator().manual_seed(0)
    batches = []
    for length in list(range(1, 13)) * 5:
        words = torch.randint(500, 600, (3, length), generator=draw)
        ends = ENDS[torch.randint(0, 4, (3, length), generator=draw)]
        batches.append(torch.where(torch.rand(3, length, generator=draw) < 0.35, ends, words))
    return batches


def test_phrases_are_the_library_s() -> None:
    for words in texts():
        told = library.generate_masks_with_special_tokens_and_transfer_map(words, ENDS)
        for want, got in zip(told, traced_phrases.phrases(words, ENDS), strict=True):
            assert torch.equal(want, got), words


class Told(torch.nn.Module):
    def forward(self, words: Any) -> Any:
        return library.generate_masks_with_special_tokens_and_transfer_map(words, ENDS)


def test_a_traced_network_tells_phrases_of_texts_of_any_length() -> None:
    own = library.generate_masks_with_special_tokens_and_transfer_map
    long, short = texts()[11], texts()[4]
    traced = torch.jit.trace(Traced(Told(), traced_phrases.followed_phrases), (long,), check_trace=False)
    assert library.generate_masks_with_special_tokens_and_transfer_map is own
    for words in (long, short):
        assert all(torch.equal(want, got) for want, got in zip(Told()(words), traced(words), strict=True))
