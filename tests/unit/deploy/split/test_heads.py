"""Arithmetic around a network gives every row what it would get alone, and padding nothing."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

pytest.importorskip("torch")

import torch
from torch import nn

from conch.deploy.split.heads import (
    ACTIVATIONS,
    Classifier,
    Embedding,
    Flattened,
    Keyword,
    LabelLogits,
    MaskedTokens,
    Parts,
    Ranker,
    Similarity,
    TextQueries,
    TokenStates,
    Tower,
    pool,
    unit,
)

MODES = ("mean", "max", "cls", "lasttoken", "weightedmean", "mean_sqrt_len_tokens")


class Table(nn.Module):
    """A vector a token that depends on nothing but the token, and the sum of them as logits."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(10, 3)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> SimpleNamespace:
        states = self.table(input_ids)
        summed = (states * attention_mask[:, :, None]).sum(dim=1)
        return Output(states, summed)


class Output(SimpleNamespace):
    def __init__(self, states: torch.Tensor, summed: torch.Tensor) -> None:
        super().__init__(logits=summed, pooler_output=summed, states=states)

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.states


def network() -> Keyword:
    torch.manual_seed(0)
    return Keyword(Table(), ("input_ids", "attention_mask")).eval()


def texts(*lengths: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens 1, 2, 3, ... of texts of these lengths, padded at the end with 9."""
    longest = max(lengths)
    ids = torch.tensor([[*range(1, size + 1), *[9] * (longest - size)] for size in lengths])
    mask = torch.tensor([[1] * size + [0] * (longest - size) for size in lengths])
    return ids, mask


@pytest.mark.parametrize("mode", MODES)
def test_pooling_is_that_of_sentence_transformers(mode: str) -> None:
    pooling = pytest.importorskip("sentence_transformers.sentence_transformer.modules.pooling")
    states, (_, mask) = torch.randn(3, 5, 4), texts(5, 2, 1)
    theirs = pooling.Pooling(4, pooling_mode=mode)({"token_embeddings": states, "attention_mask": mask})
    torch.testing.assert_close(pool(states, mask[:, :, None].float(), mode), theirs["sentence_embedding"])


@pytest.mark.parametrize("mode", MODES)
def test_padding_does_not_change_a_vector(mode: str) -> None:
    embed = Embedding(network(), 1, [mode], nn.Sequential())
    (alone,) = embed(*texts(2), torch.tensor([[False]]))
    (padded,) = embed(*texts(2, 4), torch.tensor([[False], [False]]))
    torch.testing.assert_close(padded[:1], alone)


def test_vectors_of_several_poolings_are_joined_and_projected() -> None:
    embed = Embedding(network(), 1, ["mean", "max"], nn.Linear(6, 2))
    assert embed(*texts(2, 3), torch.tensor([[True], [True]]))[0].shape == (2, 2)


def test_each_row_says_whether_its_vector_is_normalised() -> None:
    (vectors,) = Embedding(network(), 1, ["mean"], nn.Sequential())(*texts(3, 3), torch.tensor([[True], [False]]))
    torch.testing.assert_close(vectors[0], unit(vectors[1]))
    torch.testing.assert_close(vectors[0].norm(), torch.tensor(1.0))


def test_each_row_says_what_makes_scores_of_its_logits() -> None:
    codes = torch.tensor([[ACTIVATIONS[name]] for name in ("none", "softmax", "sigmoid")], dtype=torch.int32)
    logits, scores = Classifier(network())(*texts(2, 2, 2), codes)
    torch.testing.assert_close(scores, torch.stack([logits[0], logits[1].softmax(-1), logits[2].sigmoid()]))


def test_states_of_padding_are_zero() -> None:
    (states,) = TokenStates(network(), 1)(*texts(1, 3))
    assert not states[0, 1:].any()
    assert states[0, 0].any()


def test_texts_of_a_request_are_answered_as_single_texts_and_padding_with_zero() -> None:
    ranker = Ranker(network(), "sigmoid")
    ids, mask = texts(3, 1, 2)
    ids = torch.stack([ids, ids])
    mask = torch.stack([mask, mask])
    mask[1, 2] = 0  # the second request has two texts
    (scores,) = Flattened(ranker, 1)(ids, mask)
    torch.testing.assert_close(scores[0], ranker(ids[0], mask[0])[0])
    torch.testing.assert_close(scores[1, :2], scores[0, :2])
    assert scores[1, 2] == 0


def test_network_never_sees_a_text_without_tokens() -> None:
    class Picky(nn.Module):
        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> tuple[torch.Tensor]:
            assert attention_mask.any(dim=-1).all()
            return (input_ids.float(),)

    ids, mask = (tensor[None] for tensor in texts(2, 2))
    mask[0, 1] = 0
    (output,) = Flattened(Picky(), 1)(ids, mask)
    assert not output[0, 1].any()


def test_parts_of_a_sample_are_rows_of_the_network() -> None:
    class Twice(nn.Module):
        def forward(self, rows: torch.Tensor) -> tuple[torch.Tensor]:
            return (rows * 2,)

    rows = torch.arange(24.0).reshape(2, 3, 4)
    (output,) = Parts(Twice())(rows)
    torch.testing.assert_close(output, rows * 2)


def test_tower_gives_unit_vectors_and_ignores_what_it_does_not_take() -> None:
    (vectors,) = Tower(network(), 2)(*texts(2, 3), torch.ones(2))
    torch.testing.assert_close(vectors.norm(dim=-1), torch.ones(2))


@pytest.mark.parametrize("sigmoid", [True, False])
def test_text_whose_vector_is_zero_counts_for_nothing(sigmoid: bool) -> None:
    similarity = Similarity(torch.tensor(10.0), torch.tensor(-1.0), sigmoid=sigmoid)
    medium, vectors = unit(torch.randn(1, 4)), unit(torch.randn(1, 3, 4))
    logits, probs = similarity(medium, vectors)
    padded = similarity(medium, torch.cat([vectors, torch.zeros(1, 2, 4)], dim=1))
    for alone, with_padding in zip((logits, probs), padded, strict=True):
        torch.testing.assert_close(with_padding[:, :3], alone)
        assert not with_padding[:, 3:].any()
    torch.testing.assert_close(logits[0], vectors[0] @ medium[0] * 10 - 1)
    assert probs.sum() == pytest.approx(1, abs=1e-5) or sigmoid


class Language(nn.Module):
    """A body that gives states, and a head that gives the scores of words."""

    def __init__(self) -> None:
        super().__init__()
        self.body = Body()
        self.head = nn.Linear(3, 10)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> SimpleNamespace:
        states = self.body(input_ids)["last_hidden_state"]
        self.rows = states.shape[1]
        return SimpleNamespace(logits=self.head(states))


class Body(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(10, 3)

    def forward(self, input_ids: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"last_hidden_state": self.table(input_ids)}


@pytest.mark.parametrize("body", ["", "body"])
def test_words_are_scored_at_the_positions_asked_for(body: str) -> None:
    torch.manual_seed(0)
    model = Language().eval()
    ids, positions = torch.tensor([[1, 2, 3, 4], [5, 6, 7, 0]]), torch.tensor([[2, 0], [1, 1]])
    (got,) = MaskedTokens(Keyword(model, ("input_ids",)), body)(ids, positions)

    assert model.rows == (2 if body else 4)
    every = model(ids).logits.softmax(-1)
    torch.testing.assert_close(got, torch.stack([every[0, [2, 0]], every[1, [1, 1]]]))
    assert model.rows == 4, "the hook is gone"


@pytest.mark.parametrize("body", ["", "body"])
def test_options_are_scored_before_each_mark_of_each_text(body: str) -> None:
    torch.manual_seed(0)
    model = Language().eval()
    ids = torch.tensor([[[1, 2, 3, 4], [5, 6, 7, 0]], [[3, 0, 0, 0], [0, 0, 0, 0]]])
    mask = torch.tensor([[[1, 1, 1, 1], [1, 1, 1, 0]], [[1, 0, 0, 0], [0, 0, 0, 0]]])
    marks = torch.tensor([[[4, 2], [3, 0]], [[1, 0], [0, 0]]])
    labels = torch.tensor([[[[1, 2], [3, 0]], [[4, 5], [0, 0]]], [[[2, 1], [0, 0]], [[0, 0], [0, 0]]]])
    (got,) = LabelLogits(Keyword(model, ("input_ids", "attention_mask")), body, 1)(ids, mask, marks, labels)

    assert got.shape == labels.shape
    every = model(ids.flatten(0, 1)).logits
    torch.testing.assert_close(got[0, 0], torch.stack([every[0, 3, [1, 2]], every[0, 1, [3, 0]]]))
    torch.testing.assert_close(got[0, 1, 0], every[1, 2, [4, 5]])
    torch.testing.assert_close(got[1, 0, 0], every[2, 0, [2, 1]])


class Detector(nn.Module):
    """How much each of two places of an image is of each text: the sum of the text's tokens times the place's pixel."""

    def forward(self, pixels: torch.Tensor, tokens: torch.Tensor, mask: torch.Tensor) -> SimpleNamespace:
        assert bool((mask.sum(dim=1) > 0).all()), "no text without a token"
        sums = (tokens * mask).sum(dim=1).reshape(len(pixels), 1, -1)
        return SimpleNamespace(logits=pixels[:, :, None] * sums, pred_boxes=pixels[:, :, None].expand(-1, -1, 4))


def test_texts_of_unequal_number_and_length_are_looked_for_as_alone() -> None:
    look = TextQueries(Detector(), 1)
    pixels = torch.tensor([[1.0, 2.0], [5.0, 7.0]])
    tokens = torch.tensor([[[1, 2, 3], [4, 9, 9]], [[6, 9, 9], [9, 9, 9]]])
    mask = torch.tensor([[[1, 1, 1], [1, 0, 0]], [[1, 0, 0], [0, 0, 0]]])
    logits, boxes = look(pixels, tokens, mask)
    assert logits.tolist() == [[[6, 4], [12, 8]], [[30, 0], [42, 0]]]
    assert boxes.shape == (2, 2, 4)
