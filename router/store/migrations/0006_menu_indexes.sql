-- no-transaction
-- The open ticket of a conversation, before another one is opened.
create index concurrently if not exists idx_tickets_conversacion_id
  on tickets (conversacion_id);
