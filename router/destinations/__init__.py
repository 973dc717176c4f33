"""The only way out: the HTTP client, what guards it, and what its answers mean."""
