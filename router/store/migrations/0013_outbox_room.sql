-- Room on each page for what a loan rewrites: then no index hears of a claim.
alter table router.outbox_open set (fillfactor = 45);

-- A lane in its order. Over an expression, so that no other index serves: a plan that was made
-- while the table was empty took the primary key, and walked the whole backlog for each row.
drop index router.outbox_lane;
create index outbox_lane on router.outbox_open (open_lane, (id + 0)) where open_lane is not null;

-- Who tells asks the partition now: whoever may do something with the table may do it there.
do $$
declare
  may record;
begin
  for may in
    select a.privilege_type as verb,
           case a.grantee when 0 then 'public' else quote_ident(r.rolname) end as who
    from pg_class c
    cross join aclexplode(c.relacl) a
    left join pg_roles r on r.oid = a.grantee
    where c.oid = 'router.outbox'::regclass
      and a.privilege_type in ('SELECT', 'INSERT', 'UPDATE', 'DELETE')
  loop
    execute format('grant %s on router.outbox_open, router.outbox_ended to %s', may.verb, may.who);
  end loop;
end $$;
