from __future__ import annotations

import hmac
from pathlib import Path

import pytest

from conch.errors import InvalidArgumentError
from conch.wire.api_keys import ApiKeys, presented_key


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "keys"
    path.write_text("# ours\none\n\n  two  \n")
    return path


def test_every_line_but_comments_is_a_key(file: Path) -> None:
    keys = ApiKeys(file)
    assert keys.admit(b"one")
    assert keys.admit(b"two")
    for other in (b"", b"# ours", b"on", b"one ", b"three", b"ONE"):
        assert not keys.admit(other)


def test_keys_are_read_again_when_the_file_changes(file: Path) -> None:
    now = [0.0]
    keys = ApiKeys(file, lambda: now[0])
    file.write_text("three\n")
    assert keys.admit(b"one"), "the file is not looked at with every request"
    now[0] = 1.0
    assert not keys.admit(b"one")
    assert keys.admit(b"three")


@pytest.mark.parametrize("presented", [b"one", b"two", b"", b"no key at all"])
def test_every_presented_key_is_compared_with_all_keys(
    file: Path, presented: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths: list[tuple[int, int]] = []

    def compare(known: bytes, digest: bytes) -> bool:
        lengths.append((len(known), len(digest)))
        return known == digest

    monkeypatch.setattr(hmac, "compare_digest", compare)
    ApiKeys(file).admit(presented)
    assert lengths == [(32, 32), (32, 32)], "the time taken must not depend on the key"


@pytest.mark.parametrize("change", ["remove", "empty"])
def test_keys_stay_while_the_file_has_none(file: Path, change: str, caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    keys = ApiKeys(file, lambda: now[0])
    if change == "remove":
        file.unlink()
    else:
        file.write_text("# nothing\n")
    now[0] = 1.0
    assert keys.admit(b"one")
    assert "keeping the API keys as they are" in caplog.text
    file.write_text("four\n")
    now[0] = 2.0
    assert keys.admit(b"four")
    assert not keys.admit(b"one")


def test_file_must_exist_and_hold_a_key(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match=r"cannot read API keys from .*none"):
        ApiKeys(tmp_path / "none")
    (tmp_path / "empty").write_text("\n# only words\n")
    with pytest.raises(InvalidArgumentError, match="it holds no key; expected one a line"):
        ApiKeys(tmp_path / "empty")


@pytest.mark.parametrize(
    ("authorization", "x_api_key", "key"),
    [
        (b"Bearer a", b"", b"a"),
        (b"bearer  a ", b"b", b"a"),
        (b"Basic a", b"b", b"b"),
        (b"Basic a", b"", b""),
        (b"Bearer", b"", b""),
        (b"Bearer ", b" b ", b"b"),
        (b"", b"", b""),
    ],
)
def test_key_comes_in_either_header(authorization: bytes, x_api_key: bytes, key: bytes) -> None:
    assert presented_key(authorization, x_api_key) == key
