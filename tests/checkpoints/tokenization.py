"""Small tokenizers made from a fixed text: word pieces, byte-level BPE, CLIP's BPE, unigrams, characters."""

# transformers takes more than its annotations say.
# mypy: disable-error-code="no-untyped-call, arg-type"

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator, Sequence

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    BertTokenizer,
    CLIPTokenizer,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    Qwen2Tokenizer,
    RobertaTokenizer,
    WhisperTokenizer,
)

CORPUS = (
    "the shell on the beach sang a low note when the wind came in from the sea",
    "we walked along the harbour in Lisbon and Maria bought two red apples and a blue kite",
    "a large green circle stands above a small yellow square and a purple star",
    "the service was quick and friendly but the soup was cold and far too salty",
    "is this review about sport, politics, music or science? Yes. No. Yes. No. Yes. No.",
    "what is the total of the invoice? the invoice number is 4711 and the date is 12 May 2024",
    "how many movies did the actor make? brad pitt made 87, george clooney made 69",
    "this is a photo of a cat. this is a sound of a dog. this example is about travel.",
    "user: describe the picture. assistant: there are two cats on a sofa.",
    "A B C D E F G H I J K L M N O P Q R S T U V W X Y Z a b c d e f g h i j k l m n o p q r s t u v w x y z",
    "0 1 2 3 4 5 6 7 8 9 . , ; : ! ? ' \" - ( ) [ ] { } / _ + = * < > # @ & % $",
)
"""What every tokenizer here is made from: small, fixed, and holding every character the samples use."""

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'text' %}{{ part['text'] }}"
    "{% elif part['type'] == 'image' %}<image>\n"
    "{% elif part['type'] == 'audio' %}<|audio_bos|><|AUDIO|><|audio_eos|>\n"
    "{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""ChatML with placeholders for images and audio."""


def _corpus() -> Iterator[str]:
    """The text, also with a capital at each start, and with the option labels repeated until they are one token."""
    for line in CORPUS:
        yield line
        yield line.capitalize()
    for label in ("Yes", "No"):
        yield from [label] * 20


def _words() -> list[str]:
    """The words of the text in lower case, each once, sorted."""
    return sorted({word for line in CORPUS for word in re.findall(r"[a-z0-9]+", line.lower())})


def _symbols() -> list[str]:
    """The characters of the text in lower case, sorted."""
    return sorted({character for line in CORPUS for character in line.lower()} - {" "})


def word_pieces() -> list[str]:
    """BERT's vocabulary: special tokens, characters, words and word beginnings, in the order of their ids.

    Written down rather than trained: the trainer of word pieces gives another vocabulary at each run.
    """
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *_symbols(), *(f"##{symbol}" for symbol in _symbols())]
    pieces += [piece for word in _words() for piece in (word, word[:3], f"##{word[-2:]}")]
    return list(dict.fromkeys(pieces))


@functools.cache
def _byte_level(special_tokens: tuple[str, ...], vocab_size: int) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Vocabulary and merges of a byte-level BPE whose first ids are `special_tokens`."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(special_tokens),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_corpus(), trainer)
    model = json.loads(tokenizer.to_str())["model"]
    return model["vocab"], [tuple(merge) for merge in model["merges"]]


def bert(max_length: int = 64, token_types: bool = True) -> PreTrainedTokenizerBase:
    """[CLS] a [SEP] b [SEP] over word pieces, lower case."""
    vocab = {piece: index for index, piece in enumerate(word_pieces())}
    names = ["input_ids", "token_type_ids", "attention_mask"] if token_types else ["input_ids", "attention_mask"]
    return BertTokenizer(vocab=vocab, model_max_length=max_length, model_input_names=names)


def roberta(max_length: int = 64) -> PreTrainedTokenizerBase:
    """<s> a </s> over byte-level BPE; also BART's."""
    vocab, merges = _byte_level(("<s>", "<pad>", "</s>", "<unk>", "<mask>"), 400)
    return RobertaTokenizer(vocab=dict(vocab), merges=list(merges), model_max_length=max_length)


def chat(max_length: int = 512, extra_tokens: Sequence[str] = ()) -> PreTrainedTokenizerBase:
    """Byte-level BPE without a beginning token, with a ChatML template; `extra_tokens` become special tokens."""
    special = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
    vocab, merges = _byte_level(special, 420)
    tokenizer = Qwen2Tokenizer(vocab=dict(vocab), merges=list(merges), model_max_length=max_length)
    tokenizer.add_special_tokens({"additional_special_tokens": [*special[1:], *extra_tokens]})
    tokenizer.pad_token = "<|endoftext|>"
    tokenizer.padding_side = "left"
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def gpt2(max_length: int = 128) -> PreTrainedTokenizerBase:
    """Byte-level BPE with one special token, no padding token and no chat template, as GPT-2 ships."""
    vocab, merges = _byte_level(("<|endoftext|>",), 400)
    tokenizer = Tokenizer(models.BPE(vocab=dict(vocab), merges=list(merges)))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    end = "<|endoftext|>"
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=end, eos_token=end, unk_token=end, model_max_length=max_length
    )


def clip(max_length: int) -> PreTrainedTokenizerBase:
    """CLIP's lower-case BPE with an end-of-word mark; the last id is the end of the text, as its pooling expects.

    Each word of the text is merged from its left end, letter by letter.
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*alphabet, *(f"{character}</w>" for character in alphabet)]
    merges = list(dict.fromkeys(merge for word in _words() for merge in _merges_from_the_left(word)))
    tokens += [left + right for left, right in merges]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    vocab = {token: index for index, token in enumerate(dict.fromkeys(tokens))}
    return CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=max_length)


def _merges_from_the_left(word: str) -> list[tuple[str, str]]:
    """soup -> (s, o), (so, u), (sou, p</w>)."""
    letters = [*word[:-1], f"{word[-1]}</w>"]
    return [("".join(letters[:index]), letters[index]) for index in range(1, len(letters))]


def unigram(max_length: int) -> PreTrainedTokenizerBase:
    """SentencePiece-like unigrams that end in </s> and pad with it, as SigLIP's do.

    The log probabilities are written down rather than trained: a whole word beats its characters.
    """
    pieces = [("<unk>", 0.0), ("</s>", 0.0), ("▁", -6.0)]
    pieces += [(symbol, -8.0) for symbol in _symbols()]
    pieces += [(f"▁{word}", -7.0 - 0.01 * index) for index, word in enumerate(_words())]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=0))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="</s>",
        pad_token="</s>",
        unk_token="<unk>",
        model_max_length=max_length,
        model_input_names=["input_ids"],
    )


WHISPER_SPECIAL_TOKENS = (
    "<|endoftext|>",
    "<|startoftranscript|>",
    "<|en|>",
    "<|de|>",
    "<|translate|>",
    "<|transcribe|>",
    "<|startoflm|>",
    "<|startofprev|>",
    "<|nospeech|>",
    "<|notimestamps|>",
)


def whisper(timestamps: int = 201) -> PreTrainedTokenizerBase:
    """Whisper's: byte-level BPE, then its special tokens, then one token for each fiftieth of a second from 0.00."""
    vocab, merges = _byte_level((), 400)
    vocab = dict(vocab)
    for token in WHISPER_SPECIAL_TOKENS:
        vocab[token] = len(vocab)
    stamps = [f"<|{index * 0.02:.2f}|>" for index in range(timestamps)]
    tokenizer = WhisperTokenizer(
        vocab=vocab, merges=list(merges), language="en", task="transcribe", pad_token="<|endoftext|>"
    )
    tokenizer.add_special_tokens({"additional_special_tokens": list(WHISPER_SPECIAL_TOKENS[1:])})
    tokenizer.add_tokens(stamps)
    return tokenizer


def characters() -> dict[str, int]:
    """A vocabulary of letters for CTC and VITS: padding is 0, the word boundary `|` 4."""
    letters = "abcdefghijklmnopqrstuvwxyz'"
    return {token: index for index, token in enumerate(["<pad>", "<s>", "</s>", "<unk>", "|", *letters])}
