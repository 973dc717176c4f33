-- The first of a thousand numbers of deliveries that nobody else will use.
select nextval('router.deliveries_id_seq') as first
