-- Bodies in which some bytes occur. $1-$2 numbers, $3-$4 times, $5 bytes, $6 how many at most
select id, received_at, door, body from router.deliveries
where id >= $1 and id < $2 and received_at between $3 and $4
  and position($5::bytea in body) > 0
order by id
limit $6
