-- Whether a notification was given up, and nobody confirmed it: its row is kept until a person
-- has looked. $1 destination, $2 key
select 1 from router.outbox where state = 'dead' and destination = $1 and key = $2
