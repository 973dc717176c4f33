"""Meta's signature: HMAC-SHA256 of the app secret over the bytes of the body."""

import hashlib
import hmac
import re
from collections.abc import Sequence

from router.errors import Refused

_SHAPE = re.compile(r"sha256=([0-9a-fA-F]{64})")


def sign(body: bytes, secret: bytes) -> str:
    """Return the value of X-Hub-Signature-256 for *body*."""
    return "sha256=" + hmac.digest(secret, body, hashlib.sha256).hex()


def signature_of(headers: Sequence[str]) -> bytes:
    """Return the 32 bytes that X-Hub-Signature-256 claims; *headers* are all that came.

    Raises Refused(401) unless there is exactly one, of Meta's form.
    """
    if len(headers) != 1 or not (shape := _SHAPE.fullmatch(headers[0])):
        raise Refused("not signed", status=401)
    return bytes.fromhex(shape[1])


def verify(body: bytes, headers: Sequence[str], secrets: Sequence[bytes]) -> int:
    """Return which of *secrets* signs *body*; *headers* are all values that came.

    Raises Refused(401) unless there is exactly one header and it is right. Bytes are
    compared, in constant time, and every secret is tried: a header of another alphabet is
    a wrong one, not a TypeError, and the time tells nothing of a rotation. The secret ''
    signs nothing: everybody has it.
    """
    given = signature_of(headers)
    matches = [
        hmac.compare_digest(hmac.digest(secret, body, hashlib.sha256), given)
        and secret != b""
        for secret in secrets
    ]
    if True not in matches:
        raise Refused("the signature does not match", status=401)
    return matches.index(True)
