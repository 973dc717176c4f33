"""Where the files of messages are kept: the settings PSI_MEDIA_* and, for S3, AWS_*."""

import importlib.util
from urllib.parse import urlsplit

from router.config import values
from router.config.parts import Storage
from router.config.values import Reader

OFF = "off"
S3 = "s3://"
DEFAULT = Storage()
MEBIBYTE = 2**20


def storage(reader: Reader) -> Storage | None:
    """Return where files go; None where nothing is to be fetched."""
    place = reader.text("PSI_MEDIA", DEFAULT.directory)
    url = reader.text("PSI_MEDIA_URL", DEFAULT.url)
    if not url.endswith(("/", "=")):
        url += "/"
    most = reader.parsed(
        "PSI_MEDIA_MAX_MB",
        DEFAULT.max_bytes // MEBIBYTE,
        values.count,
        "a number of MiB >= 1",
    )
    if place.lower() == OFF:
        return None
    if place.startswith(S3):
        return _bucket(reader, place, url, most * MEBIBYTE)
    return Storage(directory=place, url=url, max_bytes=most * MEBIBYTE)


def _bucket(reader: Reader, place: str, url: str, most: int) -> Storage:
    bucket, _, prefix = place.removeprefix(S3).partition("/")
    if not bucket:
        reader.problems.append("PSI_MEDIA names no bucket: s3://BUCKET/PREFIX")
    if importlib.util.find_spec("obstore") is None:
        reader.problems.append("PSI_MEDIA=s3://… needs the package obstore (extra s3)")
    return Storage(
        bucket=bucket,
        prefix=prefix.strip("/"),
        endpoint=_endpoint(reader),
        region=reader.text("AWS_REGION", DEFAULT.region),
        access_key=reader.required("AWS_ACCESS_KEY_ID"),
        secret_key=reader.required("AWS_SECRET_ACCESS_KEY"),
        url=url,
        max_bytes=most,
    )


def _endpoint(reader: Reader) -> str | None:
    if not (raw := reader.text("AWS_ENDPOINT_URL")):
        return None
    values.url(reader, "AWS_ENDPOINT_URL", raw)
    try:
        if urlsplit(raw).username is not None:
            reader.problems.append("AWS_ENDPOINT_URL holds a user's name")
    except ValueError:
        pass  # reported as no URL
    return raw.rstrip("/")
