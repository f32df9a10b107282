"""Checkpoints of models that read text only."""

# transformers takes more than its annotations say.
# mypy: disable-error-code="no-untyped-call, call-arg, arg-type, attr-defined, union-attr, operator"

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import (
    BartConfig,
    BartForSequenceClassification,
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    BertForTokenClassification,
    BertModel,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Qwen2Config,
    Qwen2ForCausalLM,
    RobertaConfig,
    RobertaForMaskedLM,
    TapasConfig,
    TapasForQuestionAnswering,
    TapasTokenizer,
)
from transformers.decision import DecisionConfig

from . import tokenization
from .weights import randomise

NEW_TOKENS = 8
"""How many tokens the generating checkpoints add by default: their generation_config.json says so."""

_SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 66,
}


def labels(*names: str) -> dict[str, Any]:
    """The configuration entries that name the classes, in the order of their ids."""
    return {
        "num_labels": len(names),
        "id2label": dict(enumerate(names)),
        "label2id": {name: index for index, name in enumerate(names)},
    }


def _bert_config(tokenizer: PreTrainedTokenizerBase, **entries: Any) -> BertConfig:
    return BertConfig(vocab_size=len(tokenizer), **_SIZES, **entries)


def _save(directory: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    randomise(model)
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)


def save_generator(directory: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Randomise a generating model and save it with greedy decoding of exactly `NEW_TOKENS` tokens as its default."""
    randomise(model, embedding=0.2)  # with more, a model whose head is its embedding table repeats its last token
    silence(model, tokenizer)
    model.generation_config.do_sample = False
    model.generation_config.max_new_tokens = NEW_TOKENS
    model.generation_config.min_new_tokens = NEW_TOKENS
    model.save_pretrained(directory)


def silence(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Take away the logits of special tokens and of what is no printable ASCII: the model answers readable text."""
    silent = [index for index in range(len(tokenizer)) if not readable(tokenizer, index)]
    with torch.no_grad():
        model.get_output_embeddings().weight[silent] = 0.0


def readable(tokenizer: PreTrainedTokenizerBase, index: int) -> bool:
    """Whether a token is text of printable ASCII."""
    text = tokenizer.decode([index], skip_special_tokens=True)
    return bool(text.strip()) and text.isascii() and text.isprintable()


def text_classification_bert(directory: Path) -> None:
    tokenizer = tokenization.bert()
    config = _bert_config(tokenizer, **labels("negative", "neutral", "positive"))
    _save(directory, BertForSequenceClassification(config), tokenizer)


def text_classification_distilbert(directory: Path) -> None:
    """Two labels, and a tokenizer that makes no token types."""
    tokenizer = tokenization.bert(token_types=False)
    config = DistilBertConfig(
        vocab_size=len(tokenizer),
        dim=32,
        n_layers=2,
        n_heads=4,
        hidden_dim=64,
        max_position_embeddings=64,
        **labels("NEGATIVE", "POSITIVE"),
    )
    _save(directory, DistilBertForSequenceClassification(config), tokenizer)


def text_classification_multi_label(directory: Path) -> None:
    """Independent labels: each score is a sigmoid."""
    tokenizer = tokenization.roberta()
    config = BertConfig(
        vocab_size=len(tokenizer),
        **_SIZES,
        pad_token_id=tokenizer.pad_token_id,
        problem_type="multi_label_classification",
        **labels("joy", "anger", "surprise", "sadness"),
    )
    _save(directory, BertForSequenceClassification(config), tokenizer)


def text_classification_regression(directory: Path) -> None:
    """One label without a squashing function."""
    tokenizer = tokenization.bert()
    config = _bert_config(tokenizer, problem_type="regression", **labels("quality"))
    _save(directory, BertForSequenceClassification(config), tokenizer)


def token_classification_bert(directory: Path) -> None:
    tokenizer = tokenization.bert()
    config = _bert_config(tokenizer, **labels("O", "B-PER", "I-PER", "B-LOC", "I-LOC"))
    _save(directory, BertForTokenClassification(config), tokenizer)


def fill_mask_bert(directory: Path) -> None:
    tokenizer = tokenization.bert()
    _save(directory, BertForMaskedLM(_bert_config(tokenizer)), tokenizer)


def fill_mask_roberta(directory: Path) -> None:
    """Another mask token, positions counted from the padding id, byte-level BPE."""
    tokenizer = tokenization.roberta()
    config = RobertaConfig(
        vocab_size=len(tokenizer), **_SIZES, type_vocab_size=1, pad_token_id=1, bos_token_id=0, eos_token_id=2
    )
    model = RobertaForMaskedLM(config)
    randomise(model)
    silence(model, tokenizer)
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)


def feature_extraction_bert(directory: Path) -> None:
    tokenizer = tokenization.bert()
    _save(directory, BertModel(_bert_config(tokenizer)), tokenizer)


def zero_shot_classification_bart(directory: Path) -> None:
    """An entailment model of encoder and decoder, as the task's best known checkpoint."""
    tokenizer = tokenization.roberta()
    config = BartConfig(
        vocab_size=len(tokenizer),
        d_model=32,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=64,
        decoder_ffn_dim=64,
        max_position_embeddings=64,
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=2,
        decoder_start_token_id=2,
        forced_eos_token_id=2,
        **labels("contradiction", "neutral", "entailment"),
    )
    _save(directory, BartForSequenceClassification(config), tokenizer)


def zero_shot_classification_bert(directory: Path) -> None:
    """The same task by an encoder alone, with the labels in another order."""
    tokenizer = tokenization.bert()
    config = _bert_config(tokenizer, **labels("entailment", "neutral", "contradiction"))
    _save(directory, BertForSequenceClassification(config), tokenizer)


def _decoder_entries(tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "bos_token_id": None,
        "eos_token_id": tokenizer.convert_tokens_to_ids("<|im_end|>"),
        "pad_token_id": tokenizer.pad_token_id,
    }


def llama_config(tokenizer: PreTrainedTokenizerBase) -> LlamaConfig:
    """A decoder of grouped-query attention, for text generation and as the language half of multimodal models."""
    return LlamaConfig(**_decoder_entries(tokenizer))


def text_generation_llama(directory: Path) -> None:
    """With a chat template: takes prompts and conversations."""
    tokenizer = tokenization.chat()
    model = LlamaForCausalLM(llama_config(tokenizer))
    save_generator(directory, model, tokenizer)
    tokenizer.save_pretrained(directory)


def text_generation_gpt2(directory: Path) -> None:
    """Without a chat template or a padding token: takes prompts only."""
    tokenizer = tokenization.gpt2()
    config = GPT2Config(
        vocab_size=len(tokenizer), n_embd=32, n_layer=2, n_head=4, n_positions=128, bos_token_id=0, eos_token_id=0
    )
    model = GPT2LMHeadModel(config)
    save_generator(directory, model, tokenizer)
    tokenizer.save_pretrained(directory)


def decision_llama(directory: Path) -> None:
    """A chat model: options are scored by the logits of the tokens Yes, No, A, B, C, ..."""
    tokenizer = tokenization.chat()
    _save(directory, LlamaForCausalLM(llama_config(tokenizer)), tokenizer)
    DecisionConfig(temperature={"choice": 2.0}).save_pretrained(directory)


def text_generation_qwen2(directory: Path) -> None:
    """With a chat template, and one table for input and output embeddings."""
    tokenizer = tokenization.chat()
    model = Qwen2ForCausalLM(Qwen2Config(**_decoder_entries(tokenizer), tie_word_embeddings=True))
    save_generator(directory, model, tokenizer)
    tokenizer.save_pretrained(directory)


def table_question_answering_tapas(directory: Path) -> None:
    """With an aggregation head. Its tokenizer is the one here that is not from `tokenizers`: it reads a vocab.txt."""
    directory.mkdir(parents=True, exist_ok=True)
    vocabulary = directory / "vocab.txt"
    pieces = ["[EMPTY]" if piece == "[unused0]" else piece for piece in tokenization.word_pieces()]
    vocabulary.write_text("\n".join([*pieces, "[EMPTY]"]) + "\n", encoding="utf-8")
    tokenizer = TapasTokenizer(vocab_file=str(vocabulary), model_max_length=128)
    config = TapasConfig(
        vocab_size=len(tokenizer),
        **{**_SIZES, "max_position_embeddings": 128},
        type_vocab_sizes=[3, 16, 16, 2, 16, 16, 10],
        num_aggregation_labels=4,
        aggregation_labels={0: "NONE", 1: "SUM", 2: "AVERAGE", 3: "COUNT"},
        no_aggregation_label_index=0,
        select_one_column=True,
    )
    _save(directory, TapasForQuestionAnswering(config), tokenizer)


def sentence_similarity_bert(directory: Path) -> None:
    """A sentence-transformers embedding model: transformer, mean pooling, normalisation."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer

    source = directory / "transformer"
    feature_extraction_bert(source)
    transformer = Transformer(str(source))
    pooling = Pooling(transformer.get_embedding_dimension(), pooling_mode="mean")
    SentenceTransformer(modules=[transformer, pooling, Normalize()], device="cpu").save(str(directory))
    for file in source.iterdir():
        file.unlink()
    source.rmdir()


def text_ranking_bert(directory: Path) -> None:
    """A sentence-transformers cross-encoder: one relevance score for a pair of texts."""
    from sentence_transformers import CrossEncoder

    source = directory / "transformer"
    tokenizer = tokenization.bert()
    _save(source, BertForSequenceClassification(_bert_config(tokenizer, **labels("relevance"))), tokenizer)
    CrossEncoder(str(source), device="cpu").save_pretrained(str(directory))
    for file in source.iterdir():
        file.unlink()
    source.rmdir()
