"""Settings that are variables of the environment: contract names, one value each."""

from typing import Any
from urllib.parse import parse_qs, urlsplit

from router.config import values
from router.config.values import ATTEMPT_TIME, Reader

GRAPH_API_URL = "https://graph.facebook.com/v26.0"
NO_SECRETS: tuple[str, ...] = ()
FEWEST_CONNECTIONS = 2  # with one, webhooks would wait for what tells the destinations
TLS_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")


def from_environment(reader: Reader) -> dict[str, Any]:
    reader.required("WHATSAPP_APP_SECRET")
    secrets = reader.secrets("WHATSAPP_APP_SECRET")
    shared = reader.text("WEBHOOK_SHARED_SECRET")
    return {
        "database_url": _database_url(reader),
        "verify_token": reader.required("WHATSAPP_VERIFY_TOKEN"),
        "app_secrets": tuple(secret.encode() for secret in secrets),
        "shared_secret": shared.encode() if shared else None,
        "host": reader.parsed(
            "HOST", "127.0.0.1", values.host, "an address or a host's name"
        ),
        "port": reader.parsed("PORT", 3002, values.port, "a port from 0 to 65535"),
        "reuse_port": reader.parsed("PSI_REUSE_PORT", False, values.flag, "0 or 1"),
        "graph_url": values.url(
            reader,
            "CLOUD_API_BASE_URL",
            reader.text("CLOUD_API_BASE_URL", GRAPH_API_URL),
        ),
        "graph_token": reader.text("CLOUD_API_TOKEN") or None,
        "signing_secrets": reader.parsed(
            "PSI_SIGNING_SECRET",
            NO_SECRETS,
            values.signing_secrets,
            "whsec_… secrets in base64, with commas between them",
        ),
        "admin_token": reader.text("PSI_ADMIN_TOKEN") or None,
        "allow_private": values.allowed(reader, "PSI_ALLOW_PRIVATE"),
        "connections": reader.parsed(
            "PSI_DATABASE_CONNECTIONS",
            8,
            values.at_least(FEWEST_CONNECTIONS),
            f"a number >= {FEWEST_CONNECTIONS}",
        ),
        "queue": reader.parsed(
            "PSI_QUEUE", "memory", values.queue, "memory, spool:DIR or redis://…"
        ),
        "queue_size": reader.parsed(
            "PSI_QUEUE_SIZE", 2000, values.count, "a number >= 1"
        ),
        "ack_timeout_s": values.seconds(reader, "PSI_ACK_TIMEOUT_S", 8.0),
        "drain_timeout_s": values.seconds(reader, "PSI_DRAIN_TIMEOUT_S", 20.0),
        "destination_timeout_s": reader.parsed(
            "PSI_DESTINATION_TIMEOUT_S", 10.0, values.attempt_time, ATTEMPT_TIME
        ),
        "stale_s": values.seconds(reader, "PSI_STALE_S", 900.0),
        "retention_days": reader.parsed(
            "PSI_RETENTION_DAYS", 30, values.count, "a number of days >= 1"
        ),
        "loop": reader.parsed(
            "PSI_LOOP",
            "uvloop",
            values.one_of("uvloop", "asyncio"),
            "uvloop or asyncio",
        ),
        "migrate": reader.parsed("PSI_MIGRATE", False, values.flag, "0 or 1"),
        "shadow": reader.parsed("PSI_SHADOW", False, values.flag, "0 or 1"),
        "shadow_of": _shadow_of(reader),
        "log_level": reader.parsed(
            "PSI_LOG_LEVEL",
            "info",
            values.one_of("debug", "info", "warning", "error"),
            "debug, info, warning or error",
        ),
        "runtime_directory": reader.text("RUNTIME_DIRECTORY").partition(":")[0],
    }


def _database_url(reader: Reader) -> str:
    raw = reader.required("DATABASE_URL")
    if raw and (problem := database_url_problem(raw)):
        reader.problems.append(problem)
    return raw


def _shadow_of(reader: Reader) -> str | None:
    raw = reader.text("PSI_SHADOW_OF")
    if raw and database_url_problem(raw):
        reader.problems.append("PSI_SHADOW_OF is no postgresql:// address")
    if raw and raw == reader.text("DATABASE_URL"):
        reader.problems.append("PSI_SHADOW_OF is the shadow's own database")
    return raw or None


def database_url_problem(raw: str) -> str | None:
    """Return what is wrong with a DATABASE_URL, without quoting it; None if nothing is."""
    if raw.startswith("embedded:"):
        return None if raw.removeprefix("embedded:") else "DATABASE_URL names no folder"
    try:
        parts = urlsplit(raw)
        fine = parts.scheme in {"postgresql", "postgres"} and parts.port != 0
    except ValueError:
        return "DATABASE_URL is no postgresql:// address"
    if not fine:
        return "DATABASE_URL is no postgresql:// address"
    if not set(parse_qs(parts.query).get("sslmode", ())) <= set(TLS_MODES):
        return f"DATABASE_URL: sslmode is none of {', '.join(TLS_MODES)}"
    return None
