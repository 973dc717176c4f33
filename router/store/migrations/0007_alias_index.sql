-- no-transaction
-- Somebody by any alias, whatever business it belongs to. An expression, so that no query
-- could take the primary key instead (docs/decisions/0006-plans.md).
create index concurrently if not exists idx_identities_alias
  on router.identities ((kind || ' ' || value));
