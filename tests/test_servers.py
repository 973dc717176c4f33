"""What the fixtures of conftest.py promise to the other tests."""

import asyncpg

from tests.faultproxy import FaultProxy
from tests.servers import Redis


async def test_a_database_is_migrated(database: str) -> None:
    connection = await asyncpg.connect(database)
    assert await connection.fetchval("select count(*) from mensajes") == 0
    await connection.execute("insert into contactos (telefono) values ('1')")
    await connection.close()


async def test_and_the_next_test_s_is_another(database: str) -> None:
    connection = await asyncpg.connect(database)
    assert await connection.fetchval("select count(*) from contactos") == 0
    await connection.close()


async def test_an_empty_database_has_no_tables(empty_database: str) -> None:
    connection = await asyncpg.connect(empty_database)
    assert await connection.fetchval("select to_regclass('mensajes')") is None
    await connection.close()


async def test_a_faulty_database_is_reached_through_its_proxy(
    faulty_database: tuple[str, FaultProxy],
) -> None:
    dsn, proxy = faulty_database
    assert f":{proxy.port}/" in dsn
    connection = await asyncpg.connect(dsn)
    assert await connection.fetchval("select count(*) from mensajes") == 0
    await connection.close()


async def test_redis_is_empty_and_remembers_what_it_answered(
    redis_url: str, redis_server: Redis
) -> None:
    assert redis_url == redis_server.url
    assert await redis_server.execute("DBSIZE") == ":0"
    assert await redis_server.execute("SET kept yes") == "+OK"
    redis_server.kill()
    await redis_server.start()
    assert await redis_server.execute("STRLEN kept") == ":3"
