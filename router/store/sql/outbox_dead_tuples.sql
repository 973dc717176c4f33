-- What vacuum has not been able to take away: grows while a forgotten transaction is open.
select n_dead_tup as dead from pg_stat_user_tables
where schemaname = 'router' and relname = 'outbox_open'
