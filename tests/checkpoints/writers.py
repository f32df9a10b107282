"""Models of an encoder and a decoder that write a text of another."""

# transformers takes more than its annotations say.
# mypy: disable-error-code="no-untyped-call, attr-defined"

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from transformers import (
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    M2M100Tokenizer,
    MarianTokenizer,
    MBartTokenizer,
    NllbTokenizer,
    PegasusTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    T5Tokenizer,
)
from transformers.models.mbart.tokenization_mbart import FAIRSEQ_LANGUAGE_CODES

from conch.deploy.languages import languages_of

from . import tokenization
from .recipes import Write, model_of
from .text import readable
from .weights import randomise

NEW_TOKENS = 12
"""How long the texts are at most: the generation_config.json of the checkpoints says so."""

_BART: dict[str, Any] = {
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "max_position_embeddings": 96,
}
_T5: dict[str, Any] = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4}


def writes_anew(model: str, tokenizer: Callable[[], PreTrainedTokenizerBase], **entries: Any) -> Write:
    """A model that writes at most `NEW_TOKENS` tokens, of a tokenizer's vocabulary but its special tokens."""

    def write(directory: Path) -> None:
        tokens = tokenizer()
        special = {"pad_token_id": tokens.pad_token_id, "eos_token_id": tokens.eos_token_id}
        start = {"decoder_start_token_id": tokens.pad_token_id}
        made = model_of(model, **{"vocab_size": len(tokens), **special, **start, **entries})
        save(directory, made, tokens)

    return write


def save(directory: Path, model: PreTrainedModel, tokens: PreTrainedTokenizerBase) -> None:
    """Weights that write readable text, and greedy decoding that repeats nothing as the default."""
    randomise(model, embedding=0.2)
    # The token that a translation begins with is one of a language, which must not be suppressed.
    kept = {tokens.eos_token_id, tokens.bos_token_id, *languages_of(tokens, {}).codes.values()}
    unwanted = [number for number in range(len(tokens)) if number not in kept and not readable(tokens, number)]
    model.generation_config.suppress_tokens = unwanted
    model.generation_config.no_repeat_ngram_size = 2
    model.generation_config.do_sample = False
    model.generation_config.max_length = None
    if not getattr(model.config, "task_specific_params", None):  # which say it otherwise
        model.generation_config.max_new_tokens = NEW_TOKENS
    model.save_pretrained(directory)
    tokens.save_pretrained(directory)


def unigrams(*special: str) -> list[tuple[str, float]]:
    """Special tokens, characters and words, each with the logarithm of its probability."""
    symbols = sorted({character for line in tokenization.CORPUS for character in line} - {" "})
    pieces = [(token, 0.0) for token in special] + [("▁", -6.0)]
    pieces += [(symbol, -8.0) for symbol in symbols]
    words = sorted({word for line in tokenization.CORPUS for word in line.split() if len(word) > 1})
    return pieces + [(f"▁{word}", -7.0 - 0.01 * index) for index, word in enumerate(words)]


def t5() -> PreTrainedTokenizerBase:
    return T5Tokenizer(vocab=unigrams("<pad>", "</s>", "<unk>"), extra_ids=0, model_max_length=128)


def pegasus() -> PreTrainedTokenizerBase:
    vocab = unigrams("<pad>", "</s>", "<mask_1>", "<mask_2>", "<unk_2>", "<unk>")
    return PegasusTokenizer(vocab=vocab, offset=3, model_max_length=96)


def mbart() -> PreTrainedTokenizerBase:
    pieces = unigrams("<s>", "<pad>", "</s>", "<unk>")
    vocab = [*pieces, *((code, 0.0) for code in FAIRSEQ_LANGUAGE_CODES), ("<mask>", 0.0)]
    return MBartTokenizer(vocab=vocab, src_lang="en_XX", model_max_length=96)


def nllb() -> PreTrainedTokenizerBase:
    """Byte-level pieces would do too: the languages are what matters."""
    symbols = sorted({character for line in tokenization.CORPUS for character in line} - {" "})
    vocab = {token: index for index, token in enumerate(["<s>", "<pad>", "</s>", "<unk>", "▁", *symbols])}
    merges = [("▁", symbol) for symbol in symbols if symbol.isalpha()]
    vocab |= {left + right: len(vocab) + index for index, (left, right) in enumerate(merges)}
    codes = ["eng_Latn", "deu_Latn", "fra_Latn", "jpn_Jpan"]
    return NllbTokenizer(vocab=vocab, merges=merges, extra_special_tokens=codes, model_max_length=96)


def sentence_pieces(directory: Path, model_type: str = "unigram") -> Path:
    """A small model of sentencepiece made from the text of all tokenizers here."""
    import sentencepiece

    (directory / "corpus.txt").write_text("\n".join(tokenization.CORPUS), encoding="utf-8")
    sentencepiece.SentencePieceTrainer.train(
        input=str(directory / "corpus.txt"),
        model_prefix=str(directory / "pieces"),
        vocab_size=150,
        model_type=model_type,
        hard_vocab_limit=False,
        num_threads=1,
        minloglevel=2,
    )
    return directory / "pieces.model"


def _pieces_of(model: Path) -> list[str]:
    import sentencepiece

    pieces = sentencepiece.SentencePieceProcessor(model_file=str(model))
    return [pieces.id_to_piece(number) for number in range(pieces.get_piece_size())]


def translation_marian(directory: Path) -> None:
    """One vocabulary for both languages, and two to translate to."""
    with tempfile.TemporaryDirectory() as scratch:
        model = sentence_pieces(Path(scratch))
        tokens = [">>fra<<", ">>ita<<", *(piece for piece in _pieces_of(model) if piece != "<s>"), "<pad>"]
        vocab = Path(scratch, "vocab.json")
        vocab.write_text(json.dumps({token: number for number, token in enumerate(tokens)}), encoding="utf-8")
        tokenizer = MarianTokenizer(
            source_spm=str(model),
            target_spm=str(model),
            vocab=str(vocab),
            source_lang="en",
            target_lang="fr",
            model_max_length=96,
        )
        special = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id}
        made = model_of(
            "MarianMTModel",
            vocab_size=len(tokenizer),
            decoder_start_token_id=tokenizer.pad_token_id,
            forced_eos_token_id=tokenizer.eos_token_id,
            **special,
            **_BART,
        )
        save(directory, made, tokenizer)


def translation_m2m100(directory: Path) -> None:
    """Pieces of sentencepiece, a vocabulary beside them, and after it the languages."""
    with tempfile.TemporaryDirectory() as scratch:
        model = sentence_pieces(Path(scratch))
        special = ["<s>", "<pad>", "</s>", "<unk>"]
        tokens = [*special, *(piece for piece in _pieces_of(model) if piece not in special)]
        vocab = Path(scratch, "vocab.json")
        vocab.write_text(json.dumps({token: number for number, token in enumerate(tokens)}), encoding="utf-8")
        tokenizer = M2M100Tokenizer(vocab_file=str(vocab), spm_file=str(model), src_lang="en", model_max_length=96)
        size = max(tokenizer.lang_code_to_id.values()) + 1
        made = model_of("M2M100ForConditionalGeneration", vocab_size=size, decoder_start_token_id=2, **_BART)
        save(directory, made, tokenizer)


_T5_TASKS: dict[str, Any] = {
    "summarization": {"prefix": "summarize: ", "max_length": 16, "num_beams": 2, "early_stopping": True},
    "translation_en_to_de": {"prefix": "translate English to German: ", "max_length": 16, "num_beams": 2},
    "translation_en_to_fr": {"prefix": "translate English to French: ", "max_length": 16, "num_beams": 2},
}

RECIPES: Mapping[str, Write] = {
    "text2text-generation.t5": writes_anew("T5ForConditionalGeneration", t5, **_T5),
    "text2text-generation.umt5": writes_anew("UMT5ForConditionalGeneration", t5, **_T5),
    "text2text-generation.bart": writes_anew(
        "BartForConditionalGeneration",
        tokenization.roberta,
        **_BART,
        decoder_start_token_id=2,
        forced_bos_token_id=0,
        forced_eos_token_id=2,
    ),
    "summarization.pegasus": writes_anew("PegasusForConditionalGeneration", pegasus, **_BART, forced_eos_token_id=1),
    "summarization.t5": writes_anew(
        "T5ForConditionalGeneration", t5, **_T5, task_specific_params={"summarization": _T5_TASKS["summarization"]}
    ),
    "translation.t5": writes_anew("T5ForConditionalGeneration", t5, **_T5, task_specific_params=_T5_TASKS),
    "translation.mbart": writes_anew(
        "MBartForConditionalGeneration", mbart, **_BART, decoder_start_token_id=2, forced_eos_token_id=2
    ),
    "translation.nllb": writes_anew("M2M100ForConditionalGeneration", nllb, **_BART, decoder_start_token_id=2),
    "translation.marian": translation_marian,
    "translation.m2m100": translation_m2m100,
}


def reference(task: str, directory: Path, text: str, src_lang: str = "", tgt_lang: str = "") -> list[dict[str, str]]:
    """What `generate` and `batch_decode` make of a text, told as the library's pipelines told it."""
    tokens, model = AutoTokenizer.from_pretrained(directory), AutoModelForSeq2SeqLM.from_pretrained(directory)
    trained = getattr(model.config, "task_specific_params", None) or {}
    options = dict(trained.get(f"translation_{src_lang}_to_{tgt_lang}") or trained.get(task) or {})
    text = options.pop("prefix", "") + text
    if hasattr(tokens, "src_lang") and tgt_lang:
        tokens.src_lang = src_lang
        options["forced_bos_token_id"] = tokens.convert_tokens_to_ids(
            getattr(tokens, "lang_code_to_token", {}).get(tgt_lang, tgt_lang)
        )
    elif tgt_lang and not trained:
        text = f">>{tgt_lang}<< {text}"
    sequences = model.generate(**tokens(text, return_tensors="pt"), **options)
    name = {"summarization": "summary_text", "translation": "translation_text"}.get(task, "generated_text")
    return [{name: each} for each in tokens.batch_decode(sequences, skip_special_tokens=True)]
