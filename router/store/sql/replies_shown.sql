-- That nobody knows what became of some replies is in the dead letters now: say it in their
-- rows of mensajes too, and not again. One that a status settled meanwhile keeps what it has.
-- $1 outbox rows, $2 rows of mensajes, $3 what to say in place of $4
with
shown as (
  update router.outbox_open set next_attempt_at = 'infinity'
  where id = any($1::bigint[]) and state = 'unknown'
)
update mensajes set error_mensaje = $3
where id = any($2::uuid[]) and whatsapp_message_id is null and error_mensaje = $4
