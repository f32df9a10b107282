"""Texts of mixed length for load: words that every tokenizer knows, in sentences that mean nothing."""

from __future__ import annotations

import math
from random import Random

_VOCABULARY = """
the of and to in a is that for it as was with be by on not he this are or his from at which but have an they you were
her she there one all we been has would when who will more no if out so said what up its about into than them can only
other new some could time these two may then do first any my now such like our over man me even most made after also
did many before must through back years where much your way well down should because each just those people how too
little state good very make world still own see men work long get here between both life being under never day same
another know while last might us great old year off come since against go came right used take three small large house
water light river morning evening street garden winter summer market kitchen window letter paper music colour picture
friend mother father child teacher doctor village city mountain road train ship harbour island forest field bread
apple coffee table chair door wall floor hand head face voice word story book page line number price money week month
hour minute question answer problem reason result change power system service company product customer report order
delivery quality green blue white black yellow quiet heavy early late strong simple clear open warm cold happy bright
narrow ordinary write read speak listen walk travel build carry bring follow remember understand believe begin finish
arrive return
"""
_WORDS = _VOCABULARY.split()

LABELS = (
    "a photo of a cat",
    "a photo of a dog",
    "a city street at night",
    "a mountain lake",
    "a plate of food",
    "a group of people",
    "a red car",
    "a sailing boat",
    "a document with text",
    "a blue circle and a yellow square",
)
TOPICS = ("travel", "cooking", "sports", "politics", "technology", "health", "music", "weather", "business", "science")
QUESTIONS = (
    "What lay in the harbour?",
    "Where was the letter written?",
    "Who came back that evening?",
    "How much does the delivery cost?",
)

#: Lengths in words: log-normal with this median, cut to these limits.
MEDIAN_WORDS, SHORTEST, LONGEST = 15, 3, 128
_SIGMA = 0.75


def word_count(random: Random) -> int:
    """How long a text is."""
    return min(LONGEST, max(SHORTEST, round(random.lognormvariate(math.log(MEDIAN_WORDS), _SIGMA))))


def text(random: Random, words: int = 0) -> str:
    """A text of that many words, or of a random length."""
    chosen = random.choices(_WORDS, k=words or word_count(random))
    for start in range(0, len(chosen), 12):  # a sentence is at most a dozen words
        chosen[start] = chosen[start].capitalize()
        end = min(start + 12, len(chosen)) - 1
        chosen[end] += "."
    return " ".join(chosen)
