-- Bodies as they came, a page at a time. $1 after this number, $2-$3 times, $4 how many
select id, received_at, door, body from router.deliveries
where id > $1 and received_at between $2 and $3
order by id
limit $4
