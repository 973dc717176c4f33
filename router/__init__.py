"""psi-router: WhatsApp webhooks in, durable rows and notifications out."""

__version__ = "0.1.0"
