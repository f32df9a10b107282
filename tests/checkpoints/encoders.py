"""Further families that read text: encoders with the heads that pipelines know, and decoders that only classify."""

# transformers takes more than its annotations say.
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from . import tokenization
from .recipes import SIZES, Write, reads_text
from .text import labels, silence

_ENCODER: dict[str, Any] = {**SIZES, "max_position_embeddings": 66}
_DISTIL: dict[str, Any] = {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64, "max_position_embeddings": 64}
_ALBERT: dict[str, Any] = {**_ENCODER, "embedding_size": 16}
_MODERN: dict[str, Any] = {
    **SIZES,
    "max_position_embeddings": 128,
    "global_attn_every_n_layers": 2,
    "local_attention": 16,
    "cls_token_id": 0,
    "sep_token_id": 2,
    "reference_compile": False,
}
_DEBERTA: dict[str, Any] = {
    **_ENCODER,
    "relative_attention": True,
    "pos_att_type": ["p2c", "c2p"],
    "position_biased_input": False,
    "share_att_key": True,
    "position_buckets": 16,
    "norm_rel_ebd": "layer_norm",
    "type_vocab_size": 0,
}
_XLNET: dict[str, Any] = {"d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 64}
_T5: dict[str, Any] = {
    "d_model": 32,
    "d_kv": 8,
    "d_ff": 64,
    "num_layers": 2,
    "num_heads": 4,
    "decoder_start_token_id": 1,
}
_FUNNEL: dict[str, Any] = {"block_sizes": [1, 1], "d_model": 32, "n_head": 4, "d_head": 8, "d_inner": 64}
_MOBILE: dict[str, Any] = {
    **_ENCODER,
    "embedding_size": 32,
    "intra_bottleneck_size": 32,
    "hidden_size": 32,
    "trigram_input": True,
    "num_feedforward_networks": 1,
}
_CONVBERT: dict[str, Any] = {**_ENCODER, "embedding_size": 32, "head_ratio": 2, "conv_kernel_size": 3}
_LONGFORMER: dict[str, Any] = {**_ENCODER, "max_position_embeddings": 130, "attention_window": [8, 8]}
_DECODER: dict[str, Any] = {**SIZES, "num_key_value_heads": 2, "max_position_embeddings": 64, "head_dim": 8}

_bert = tokenization.bert
_bare = functools.partial(tokenization.bert, token_types=False)
_roberta = tokenization.roberta
_MOODS = labels("negative", "neutral", "positive")
_ENTITIES = labels("O", "B-PER", "I-PER", "B-LOC", "I-LOC")
_ENTAILMENT = labels("contradiction", "neutral", "entailment")


def _masked(model: str, **entries: Any) -> Write:
    """A masked language model over byte-level BPE that answers readable tokens."""
    tokenizer = _roberta()
    return reads_text(model, _roberta, tune=lambda made: silence(made, tokenizer), **entries)


def _names_things(model: Any) -> None:
    """Make "O" unlikely: a narrow model with random weights likes one class best everywhere."""
    with torch.no_grad():
        model.classifier.bias[0] = -4.0


def _embeds(model: str, pooling: str, *, normalize: bool, **entries: Any) -> Write:
    """A sentence-transformers embedding model around a transformer."""

    def write(directory: Path) -> None:
        from sentence_transformers import SentenceTransformer
        from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling, Transformer

        source = directory / "transformer"
        reads_text(model, _roberta, **entries)(source)
        transformer = Transformer(str(source))
        size = transformer.get_embedding_dimension()
        modules = [transformer, Pooling(size, pooling_mode=pooling)]
        if not normalize:
            modules.append(Dense(in_features=size, out_features=16, activation_function=torch.nn.Tanh()))
        else:
            modules.append(Normalize())
        SentenceTransformer(modules=modules, device="cpu").save(str(directory))
        _remove(source)

    return write


def _ranks(model: str, **entries: Any) -> Write:
    """A sentence-transformers cross-encoder around a classifier of one label."""

    def write(directory: Path) -> None:
        from sentence_transformers import CrossEncoder

        source = directory / "transformer"
        reads_text(model, _roberta, **labels("relevance"), **entries)(source)
        CrossEncoder(str(source), device="cpu").save_pretrained(str(directory))
        _remove(source)

    return write


def _remove(directory: Path) -> None:
    for file in directory.iterdir():
        file.unlink()
    directory.rmdir()


RECIPES: Mapping[str, Write] = {
    "text-classification.roberta": reads_text("RobertaForSequenceClassification", _roberta, **_ENCODER, **_MOODS),
    "text-classification.albert": reads_text("AlbertForSequenceClassification", _bert, **_ALBERT, **_MOODS),
    "text-classification.electra": reads_text(
        "ElectraForSequenceClassification", _bert, embedding_size=16, **_ENCODER, **_MOODS
    ),
    "text-classification.deberta-v2": reads_text(
        "DebertaV2ForSequenceClassification", _bert, **_DEBERTA, **_MOODS, pooler_hidden_size=32
    ),
    "text-classification.modernbert": reads_text("ModernBertForSequenceClassification", _roberta, **_MODERN, **_MOODS),
    "text-classification.xlnet": reads_text("XLNetForSequenceClassification", _bert, **_XLNET, **_MOODS),
    "text-classification.t5": reads_text("T5ForSequenceClassification", _roberta, **_T5, **_MOODS),
    "text-classification.funnel": reads_text("FunnelForSequenceClassification", _bert, **_FUNNEL, **_MOODS),
    "text-classification.mobilebert": reads_text("MobileBertForSequenceClassification", _bert, **_MOBILE, **_MOODS),
    "text-classification.convbert": reads_text("ConvBertForSequenceClassification", _bert, **_CONVBERT, **_MOODS),
    "text-classification.qwen3": reads_text("Qwen3ForSequenceClassification", _roberta, **_DECODER, **_MOODS),
    "text-classification.longformer": reads_text(
        "LongformerForSequenceClassification", _roberta, **_LONGFORMER, **_MOODS
    ),
    "fill-mask.distilbert": reads_text("DistilBertForMaskedLM", _bare, **_DISTIL),
    "fill-mask.albert": reads_text("AlbertForMaskedLM", _bert, **_ALBERT),
    "fill-mask.camembert": _masked("CamembertForMaskedLM", **_ENCODER),
    "fill-mask.modernbert": _masked("ModernBertForMaskedLM", **_MODERN),
    "token-classification.roberta": reads_text(
        "RobertaForTokenClassification", _roberta, tune=_names_things, **_ENCODER, **_ENTITIES
    ),
    "token-classification.xlm-roberta": reads_text(
        "XLMRobertaForTokenClassification", _roberta, tune=_names_things, **_ENCODER, **_ENTITIES
    ),
    "token-classification.deberta-v2": reads_text(
        "DebertaV2ForTokenClassification", _bert, tune=_names_things, **_DEBERTA, **_ENTITIES
    ),
    "token-classification.electra": reads_text(
        "ElectraForTokenClassification", _bert, tune=_names_things, embedding_size=16, **_ENCODER, **_ENTITIES
    ),
    "feature-extraction.mpnet": reads_text("MPNetModel", _bare, **_ENCODER),
    "feature-extraction.fnet": reads_text("FNetModel", _bare, **_ENCODER),
    "feature-extraction.nystromformer": reads_text(
        "NystromformerModel", _bert, **_ENCODER, num_landmarks=4, segment_means_seq_len=4, conv_kernel_size=3
    ),
    "feature-extraction.gpt2": reads_text("GPT2Model", _roberta, n_embd=32, n_layer=2, n_head=4, n_positions=64),
    "zero-shot-classification.roberta": reads_text(
        "RobertaForSequenceClassification", _roberta, **_ENCODER, **_ENTAILMENT
    ),
    "zero-shot-classification.deberta-v2": reads_text(
        "DebertaV2ForSequenceClassification", _bert, **_DEBERTA, **_ENTAILMENT, pooler_hidden_size=32
    ),
    "text-ranking.xlm-roberta": _ranks("XLMRobertaForSequenceClassification", **_ENCODER),
    "text-ranking.modernbert": _ranks("ModernBertForSequenceClassification", **_MODERN),
    "sentence-similarity.mpnet": _embeds("MPNetModel", "mean", normalize=True, **_ENCODER),
    "sentence-similarity.xlm-roberta": _embeds("XLMRobertaModel", "cls", normalize=True, **_ENCODER),
    "sentence-similarity.distilbert": _embeds("DistilBertModel", "mean", normalize=False, **_DISTIL),
    "sentence-similarity.qwen3": _embeds("Qwen3Model", "lasttoken", normalize=True, **_DECODER),
}
