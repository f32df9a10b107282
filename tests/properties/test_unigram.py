"""A Unigram vocabulary in files of its own gives the tokens, places and texts that the tokenizers library gives."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conch.deploy.split.light import light_module
from conch.deploy.split.unigram import unigram_files

tokenizers = pytest.importorskip("tokenizers")
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors  # noqa: E402

#: Few letters and few scores, so that many ways to cut a text are equally likely.
LETTERS = "abI \u0130\u2581e\u0301ﬁ\u00a0\t\x1c東🐚"
COMPARED = ("ids", "type_ids", "attention_mask", "special_tokens_mask", "offsets", "word_ids", "sequence_ids")

Sequence = normalizers.Sequence
NORMALIZERS = (
    None,
    normalizers.NFKC(),
    Sequence([normalizers.Nmt(), normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")]),
    Sequence([normalizers.Strip(), normalizers.NFD(), normalizers.StripAccents(), normalizers.Lowercase()]),
    Sequence([normalizers.Replace(" ", "\u2581"), normalizers.Prepend("\u2581")]),
)


def metaspace(scheme: str, *, split: bool = True) -> Any:
    return pre_tokenizers.Metaspace(prepend_scheme=scheme, split=split)


PRE_TOKENIZERS = (
    None,
    *map(metaspace, ("always", "first", "never")),
    metaspace("always", split=False),
    *(pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), metaspace(each)]) for each in ("always", "first")),
    pre_tokenizers.Sequence([pre_tokenizers.Whitespace(), metaspace("always")]),
)


@st.composite
def tokenizer(draw: st.DrawFn) -> Any:
    """A tokenizer of the library, of any of these components."""
    text = st.text("abi\u2581e\u0301f東", min_size=1, max_size=6)
    score = st.sampled_from((-1.0, -2.0, -2.5, -0.1, 0.3))
    pieces = draw(st.lists(st.tuples(text, score), max_size=25, unique_by=lambda each: each[0]))
    special = [("<s>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    byte_fallback = draw(st.booleans())
    byte_pieces = [(f"<0x{byte:02X}>", -9.0) for byte in range(draw(st.sampled_from((0, 256, 200))))]
    made = tokenizers.Tokenizer(models.Unigram([*special, *pieces, *byte_pieces], 2, byte_fallback))
    for name, choices in (("normalizer", NORMALIZERS), ("pre_tokenizer", PRE_TOKENIZERS)):
        if (choice := draw(st.sampled_from(choices))) is not None:
            setattr(made, name, choice)
    made.decoder = draw(st.sampled_from((decoders.Metaspace(), decoders.Fuse())))
    made.post_processor = processors.TemplateProcessing(
        single=draw(st.sampled_from(("<s> $A </s>", "$A", "<s>:3 $A:1 </s>:2"))),
        pair="<s> $A </s> </s>:1 $B:1 </s>:1",
        special_tokens=[("<s>", 0), ("</s>", 1)],
    )
    flags = st.fixed_dictionaries({name: st.booleans() for name in ("lstrip", "rstrip", "normalized", "single_word")})
    made.add_special_tokens([AddedToken("<s>"), AddedToken("</s>"), AddedToken("<mask>", **draw(flags))])
    made.add_tokens([AddedToken("ab\u00a0", **draw(flags)), AddedToken("I", **draw(flags))][: draw(st.integers(0, 2))])
    return made


def cut(stride: int, *strategies: str) -> st.SearchStrategy[dict[str, Any]]:
    """How texts are cut, perhaps shorter than their special tokens; without parts that are no longer than the overlap,
    where the library would panic.
    """
    choices = {"max_length": st.integers(9 if stride else 1, 12), "strategy": st.sampled_from(strategies)}
    return st.fixed_dictionaries(
        {**choices, "stride": st.just(stride), "direction": st.sampled_from(("left", "right"))}
    )


cuts = st.none() | cut(0, "longest_first", "only_first", "only_second") | cut(1, "longest_first")
chunks = st.text(LETTERS, max_size=12) | st.sampled_from(("<mask>", "<s>", "<unk>", "ab\u00a0", "<0x41>", "aaaa"))
texts = st.lists(chunks, max_size=4).map("".join)
asked = st.lists(texts | st.tuples(texts, texts), min_size=1, max_size=6)
words = st.lists(texts, max_size=4)


def light_of(library: Any) -> Any:
    """The same without the library's model; deploying proves it first."""
    files = unigram_files(library, json.loads(library.to_str()))
    with tempfile.TemporaryDirectory() as directory:
        for name, content in files.items():
            Path(directory, name).write_bytes(content)
        return light_module("light_unigram").UnigramTokenizer(Path(directory))


def outcome(encode: Any, *arguments: Any, **options: Any) -> Any:
    """The encodings as values, or the word that says that the text is too short."""
    try:
        made = encode(*arguments, **options)
    except Exception as error:
        assert "Truncation error" in str(error)
        return str(error)
    return [[[getattr(each, name) for name in COMPARED] for each in (one, *one.overflowing)] for one in made]


@pytest.fixture(scope="module", autouse=True)
def without_proof() -> Any:
    """Deploying compares some hundred texts: not for each of these tokenizers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("conch.deploy.split.unigram._prove", lambda *arguments: None)
        yield


@settings(deadline=None, max_examples=40)
@given(tokenizer(), asked, words, cuts, st.booleans())
def test_tokens_and_texts_are_those_of_the_library(
    library: Any, asked: Any, words: Any, cut: Any, special: bool
) -> None:
    light = light_of(library)
    for each in (library, light) if cut is not None else ():
        each.enable_truncation(**cut)
    for text in asked:
        whole = outcome(library.encode_batch, [text], add_special_tokens=special)
        assert outcome(light.encode_batch, [text], add_special_tokens=special) == whole
        if isinstance(whole, list):
            (quick,) = light.encode_batch_fast([text], add_special_tokens=special)
            assert [quick.ids, quick.type_ids] == whole[0][0][:2]
    split = {"add_special_tokens": special, "is_pretokenized": True}
    assert outcome(light.encode_batch, [words], **split) == outcome(library.encode_batch, [words], **split)
    ids = [2, 1, 5, 0, 3, 4, 6, *range(7, 40, 5), 260, 9999]
    for skip in (True, False):
        assert light.decode(ids, skip) == library.decode(ids, skip_special_tokens=skip)
    assert [light.id_to_token(each) for each in ids] == [library.id_to_token(each) for each in ids]
    for token in ("<s>", "<mask>", "a", "ab\u00a0", "none such"):
        assert light.token_to_id(token) == library.token_to_id(token)
