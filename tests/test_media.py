"""What a file to fetch is called, and what follows an attempt: pure functions."""

import base64
import hashlib
import itertools
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from router.destinations.graph_policy import Later
from router.destinations.media import is_metas
from router.destinations.media_file import MediaFile, sha256_of, type_of
from router.destinations.media_policy import (
    SCHEDULE_S,
    MediaAttempt,
    MediaDecision,
    Outcome,
    decide_media,
)
from router.destinations.policy import Dead, Done, Retry, blames_destination
from router.model import Content, Media
from tests.events import message

AT = datetime(2026, 11, 24, tzinfo=UTC)
DIGEST = hashlib.sha256(b"x")
DAY_S = 86_400


def media(**more: Any) -> MediaFile | None:
    described = Media(
        **{"type": "image", "id": "123", "mime_type": "image/jpeg", **more}
    )
    content = Content(text="[Imagen]", tipo="image", media=described)
    item = {"type": "image", "image": {"sha256": "garbage"}}
    return MediaFile.of(message(content=content, item=item), "wamid.A", AT)


def a_file(**more: Any) -> MediaFile:
    file = media(**more)
    assert file
    return file


def test_a_key_is_of_its_month_and_nobody_guesses_it() -> None:
    keys = {a_file().key for _ in range(100)}
    assert len(keys) == 100
    assert all(key.startswith("2026/11/") and len(key) == 8 + 32 for key in keys)


@given(st.text())
def test_whatever_type_is_told_a_name_is_a_name(mime_type: str) -> None:
    name = a_file().name(mime_type)
    assert name.count("/") == 2
    assert name.rpartition(".")[2].isalnum()


@pytest.mark.parametrize(
    ("mime_type", "extension"),
    [
        ("audio/ogg; codecs=opus", "ogg"),
        ("IMAGE/JPEG", "jpg"),
        ("text/html", "bin"),
        ("image/svg+xml", "bin"),
        ("", "bin"),
    ],
)
def test_what_could_be_a_page_is_bytes(mime_type: str, extension: str) -> None:
    name = a_file().name(mime_type)
    assert name.rpartition(".")[2] == extension
    assert type_of(name) not in {"text/html", "image/svg+xml"}


@pytest.mark.parametrize("odd", [None, "", "../me", "a/b", "1?x=2", "ñ", "1" * 129])
def test_an_id_that_is_none_is_not_asked_for(odd: str | None) -> None:
    assert media(id=odd) is None


def test_a_payload_comes_back_as_it_was() -> None:
    file = a_file(mime_type="audio/\ud800")  # what no JSON can hold
    assert MediaFile.from_bytes(file.to_bytes()) == file


@pytest.mark.parametrize("payload", [b"", b"[]", b"{}", b'{"id":"1"}', b"null"])
def test_another_payload_is_an_error(payload: bytes) -> None:
    with pytest.raises(ValueError, match=r".*"):
        MediaFile.from_bytes(payload)


def test_a_payload_with_a_path_for_a_key_is_an_error() -> None:
    payload = a_file().to_bytes().replace(b"2026/11/", b"../../11")
    with pytest.raises(ValueError, match="no payload"):
        MediaFile.from_bytes(payload)


@pytest.mark.parametrize(
    ("said", "digest"),
    [
        (DIGEST.hexdigest().upper(), DIGEST.hexdigest()),
        (base64.b64encode(DIGEST.digest()).decode(), DIGEST.hexdigest()),
        ("garbage", None),
        ("AAAA", None),
        (None, None),
        (7, None),
    ],
)
def test_a_digest_is_read_in_hex_and_in_base64(
    said: object, digest: str | None
) -> None:
    assert sha256_of(said) == digest


# --- What follows an attempt


def decided(outcome: Outcome, made: int = 1, **more: Any) -> MediaDecision:
    attempt = MediaAttempt(outcome=outcome, away=outcome is Outcome.AWAY, **more)
    return decide_media(attempt, made, SCHEDULE_S, lambda: 0.5)


def test_what_is_stored_is_done_and_a_stop_is_no_attempt() -> None:
    assert decided(Outcome.STORED) == Done()
    assert decided(Outcome.STOPPED) == Later(0.0, "stopping")


def test_what_no_attempt_would_mend_is_dead_with_its_reason() -> None:
    assert decided(Outcome.NEVER, error="too large: x") == Dead("too large: x")


@pytest.mark.parametrize("outcome", [Outcome.AWAY, Outcome.REFUSED])
def test_what_fails_is_tried_for_as_long_as_the_id_lives(outcome: Outcome) -> None:
    waited = 0.0
    made, decision = 1, decided(outcome, error="HTTP 404")
    while isinstance(decision, Retry):
        waited += decision.delay_s
        made += 1
        decision = decided(outcome, made, error="HTTP 404")
    assert decision == Dead(f"given up: HTTP 404 after {made} attempts")
    assert 6.5 * DAY_S < waited < 7 * DAY_S


def test_an_hour_holds_few_attempts_in_vain() -> None:
    # Who asks five times in an hour for what is not there may be shut out.
    at = list(itertools.accumulate(pause * 0.95 for pause in (0, *SCHEDULE_S)))
    assert all(sum(t <= s < t + 3600 for s in at) <= 4 for t in at)


def test_a_retry_after_is_heeded() -> None:
    later = decided(Outcome.AWAY, retry_after_s=500.0, status=429)
    assert isinstance(later, Retry)
    assert later.delay_s == 500.0


def test_a_file_that_is_not_there_says_nothing_of_meta() -> None:
    for outcome in Outcome:
        attempt = MediaAttempt(outcome=outcome, away=outcome is Outcome.AWAY)
        assert blames_destination(attempt) == (outcome is Outcome.AWAY)


@pytest.mark.parametrize(
    ("url", "metas"),
    [
        ("https://lookaside.fbsbx.com/whatsapp_business/attachments/?mid=1", True),
        ("https://graph.facebook.com/v26.0/1", True),
        ("https://mmg.whatsapp.net/x", True),
        ("http://lookaside.fbsbx.com/x", False),
        ("https://lookaside-fbsbx.com/x", False),
        ("https://evilfbsbx.com/x", False),
        ("https://lookaside.fbsbx.com.evil.example/x", False),
        ("https://evil.example/lookaside.fbsbx.com", False),
        ("https://lookaside.fbsbx.com@evil.example/", False),
        ("https://127.0.0.1/x", False),
    ],
)
def test_the_token_goes_to_metas_hosts_alone(url: str, *, metas: bool) -> None:
    assert is_metas(URL(url)) == metas
