-- Bodies from a number on in which some bytes occur, of a page of so many rows and bytes; after
-- them, without a body, the last row of the page. Sizes are read without unpacking.
-- $1 number, $2 rows, $3 bytes, $4 what is looked for
with page as materialized (
  select * from (
    select id, received_at, door, body,
      sum(octet_length(body)) over (order by id) - octet_length(body) as before
    from (select id, received_at, door, body from router.deliveries
          where id >= $1 order by id limit $2) d
  ) s
  where before < $3
)
select id, received_at, door, body from page where position($4::bytea in body) > 0
union all
(select id, received_at, null, null from page order by id desc limit 1)
order by id, door nulls last
