"""Made-up texts that tokenizers stumble over: many scripts, combining and control characters, spaces, long words."""

from __future__ import annotations

import random
from collections.abc import Sequence

#: First and last character of blocks of Unicode.
_BLOCKS = (
    (0x00, 0x20), (0x21, 0x7E), (0x7F, 0xA0), (0xA1, 0xFF), (0x100, 0x24F), (0x250, 0x2FF), (0x300, 0x36F),
    (0x370, 0x3FF), (0x400, 0x52F), (0x530, 0x5FF), (0x600, 0x6FF), (0x700, 0x7BF), (0x900, 0x97F), (0x980, 0x9FF),
    (0xB80, 0xBFF), (0xD00, 0xD7F), (0xE00, 0xEFF), (0xF00, 0xFFF), (0x1000, 0x109F), (0x10A0, 0x10FF),
    (0x1100, 0x11FF), (0x1200, 0x137F), (0x1780, 0x17FF), (0x1800, 0x18AF), (0x1E00, 0x1FFF), (0x2000, 0x206F),
    (0x2070, 0x209F), (0x2100, 0x214F),
    (0x2190, 0x2BFF), (0x3000, 0x30FF), (0x3100, 0x33FF), (0x4E00, 0x9FFF), (0xAC00, 0xD7A3), (0xE000, 0xE07F),
    (0xF900, 0xFAFF), (0xFB00, 0xFDFF), (0xFE00, 0xFE2F), (0xFE70, 0xFFFF), (0x1D400, 0x1D7FF), (0x1F1E6, 0x1F1FF),
    (0x1F300, 0x1FAFF), (0x20000, 0x2A6DF), (0xE0000, 0xE007F),
)  # fmt: skip
_SPACES = " \t\n\r\v\f\x1c\x1f\x85\xa0\u1680\u2003\u2009\u200b\u2028\u2029\u202f\u205f\u3000\ufeff"
#: What SentencePiece writes for a space.
MARK = "\u2581"
_FIXED = (
    "",
    " ",
    "The wind came in from the sea; don't walk, 4711 times, along the harbour of Lisbon!",
    "Größe naïve café Ünïcödé e\u0301 A\u030a ﬁ ﬃ ① ½ ㎏ Ⅷ ｆｕｌｌ　ｗｉｄｔｈ ｶﾞ ﷺ",
    "Ветер пришёл с моря. Ο άνεμος ήρθε από τη θάλασσα. הרוח באה מן הים. جاءت الريح من البحر. हवा समुद्र से आई।",
    "風は海から吹いてきた。风从海上来。바람이 바다에서 불어왔다. ลมพัดมาจากทะเล ខ្យល់បានមកពីសមុទ្រ",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f44d\U0001f3fd \U0001f1f5\U0001f1f9 \u2764\ufe0f",
    "a" * 3000,
    "la" * 700 + "!" * 50,
    "風" * 500,
    "two red apples and a kite " * 300,
    f"{MARK} {MARK}{MARK}a{MARK}b  c   d",
)


def odd_texts(seed: int, pieces: Sequence[str], added: Sequence[str], count: int = 400) -> list[str]:
    """Texts of what `pieces` and `added` tokens of a vocabulary look like, and of what they do not; always the same."""
    chance = random.Random(seed)

    def characters() -> str:
        block = chance.choice(_BLOCKS)
        return "".join(map(chr, (chance.randint(*block) for _ in range(chance.randint(1, 8)))))

    def words() -> str:
        return "".join(chance.choice(pieces) for _ in range(chance.randint(1, 4))).replace(MARK, " ")

    def repeated() -> str:
        return (characters()[:2] if chance.random() < 0.5 else chance.choice(pieces)) * chance.randint(2, 12)

    def spaces() -> str:
        return "".join(chance.choice(_SPACES) for _ in range(chance.randint(1, 5)))

    def marked() -> str:
        return words() + chr(chance.randint(0x300, 0x36F)) + chance.choice(("", "\u200d", "\ufe0f", MARK))

    def token() -> str:
        text = chance.choice(added) if added else "<token>"
        return chance.choice((text, f" {text} ", text.upper(), text[:-1], f"{text}{text}"))

    makers = (characters, words, words, repeated, spaces, marked, token, lambda: " ")
    made = ("".join(chance.choice(makers)() for _ in range(chance.randint(1, 14))) for _ in range(count))
    return [*_FIXED, *(text.encode(errors="ignore").decode() for text in made)]
