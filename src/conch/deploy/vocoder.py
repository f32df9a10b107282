"""The network that plays the spectrograms of a model: a checkpoint of its own, with which the model is deployed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from conch.deploy.checkpoint import VOCODER, Checkpoint
from conch.deploy.source import fetch
from conch.errors import ConchError, InvalidArgumentError

#: Architectures that make spectrograms -> the vocoder that their pipeline plays them with.
DEFAULTS: Mapping[str, str] = {"SpeechT5ForTextToSpeech": "microsoft/speecht5_hifigan"}
_ARCHITECTURE = "SpeechT5HifiGan"


def makes_spectrograms(checkpoint: Checkpoint) -> bool:
    """Whether its answers are no sounds without a vocoder."""
    return bool(DEFAULTS.keys() & set(checkpoint.architectures))


def with_vocoder(checkpoint: Checkpoint, wanted: str = "", *, allow_pickle: bool = False) -> Checkpoint:
    """The checkpoint with the vocoder that it needs: the wanted one, its own, or the one its pipeline takes.

    Args:
        wanted: hub id or directory; "" for no wish.

    Raises:
        InvalidArgumentError: it needs none and one is wanted, or the vocoder does not fit.
        ConchError: there is no such vocoder, or it cannot be fetched.
    """
    if not makes_spectrograms(checkpoint):
        if wanted:
            raise InvalidArgumentError(
                f"--vocoder {wanted}: '{checkpoint.source}' makes no spectrograms ({', '.join(DEFAULTS)} does): leave "
                "it out"
            )
        return checkpoint
    own = checkpoint.path / VOCODER
    if own.is_dir() and not wanted:
        _check(checkpoint, Checkpoint(own, f"{checkpoint.source}/{VOCODER}"))
        return checkpoint
    source = wanted or next(DEFAULTS[each] for each in checkpoint.architectures if each in DEFAULTS)
    try:
        vocoder = fetch(source, allow_pickle=allow_pickle)
    except ConchError as error:
        raise type(error)(
            f"'{checkpoint.source}' makes spectrograms, which a vocoder plays: {error.message}. Say with --vocoder "
            f"where one lies (a directory or a hub id), or put it into '{VOCODER}' of the checkpoint"
        ) from error
    _check(checkpoint, vocoder)
    return msgspec.structs.replace(checkpoint, vocoder=vocoder)


def _check(checkpoint: Checkpoint, vocoder: Checkpoint) -> None:
    if _ARCHITECTURE not in vocoder.architectures:
        named = " and ".join(vocoder.architectures) or "nothing"
        raise InvalidArgumentError(f"the vocoder '{vocoder.source}' is {named}; expected {_ARCHITECTURE}")
    made, played = checkpoint.config.get("num_mel_bins", 80), vocoder.config.get("model_in_dim", 80)
    if made != played:
        raise InvalidArgumentError(
            f"the vocoder '{vocoder.source}' plays spectrograms of {played} bands, '{checkpoint.source}' makes {made}"
        )


def vocoder_setting(checkpoint: Checkpoint) -> tuple[tuple[str, str, str], ...]:
    """Where a deployed model finds its vocoder; nothing for one that needs none."""
    if not makes_spectrograms(checkpoint) or checkpoint.vocoder_directory is None:
        return ()
    place = VOCODER if checkpoint.vocoder else (Path("checkpoint") / VOCODER).as_posix()
    return (("vocoder", place, "where the network lies that plays the spectrograms"),)
