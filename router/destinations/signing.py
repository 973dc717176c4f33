"""Standard Webhooks signatures (standardwebhooks.com, specification 1.0): pure.

The signed content is `id.timestamp.body` over the very bytes that are sent. While a secret
is being changed there are several, and the header carries one signature for each.
"""

import base64
import binascii
import hmac
from collections.abc import Iterable, Sequence

PREFIX = "whsec_"


def keys(secrets: Iterable[str]) -> tuple[bytes, ...]:
    """Return the keys in *secrets* (`whsec_` and base64); ValueError for an empty one."""
    found = tuple(
        base64.b64decode(secret.removeprefix(PREFIX), validate=True)
        for secret in secrets
    )
    if not all(found):
        raise ValueError("a signing secret is empty")
    return found


def headers(
    key: str, timestamp: int, body: bytes, signing_keys: Sequence[bytes]
) -> dict[str, str]:
    """Return the `webhook-*` headers; without a signing key the signature is left out.

    *key* is the webhook-id, *timestamp* the Unix time of this attempt.
    """
    found = {"webhook-id": key, "webhook-timestamp": str(timestamp)}
    if signing_keys:
        content = b"%b.%d.%b" % (key.encode(), timestamp, body)
        found["webhook-signature"] = " ".join(
            _signature(signing_key, content) for signing_key in signing_keys
        )
    return found


def _signature(signing_key: bytes, content: bytes) -> str:
    digest = hmac.digest(signing_key, content, "sha256")  # one call, all of it in C
    return f"v1,{binascii.b2a_base64(digest, newline=False).decode()}"
