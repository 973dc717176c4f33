-- A reply is about to leave: from here on it is sent once or of unknown outcome, whatever
-- becomes of us. Waited for on the disk. Returns nothing to who has lost the row.
-- $1 id, $2 token
update router.outbox_open set begun = true
where id = $1 and lease = $2 and state <> 'unknown' and lease_until > now()
returning id
