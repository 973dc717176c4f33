select coalesce(max(id), 0) as last from router.outbox
