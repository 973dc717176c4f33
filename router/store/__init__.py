"""PostgreSQL. The only package that imports asyncpg."""
