-- Reactions, edits and revocations: what each is of, so that one which came before its
-- message is found when the message comes.

alter table router.notices
  add column if not exists target       text,  -- internal: the id of the message it changes
  add column if not exists target_tail  text;  -- internal: what all spellings of that id share
-- hash: an id may be longer than a btree key can be
create index if not exists notices_target on router.notices using hash (target)
  where target is not null;
create index if not exists notices_target_tail on router.notices (target_tail)
  where target_tail is not null;
