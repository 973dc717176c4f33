"""The WhatsApp Cloud API on the wire: pure functions from bytes to frozen data."""
