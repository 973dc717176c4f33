-- Conversations that the CRM opened for a phone without a contact. $1 ids, $2 contacts
update conversaciones v set contacto_id = a.contacto_id
from unnest($1::uuid[], $2::uuid[]) as a (id, contacto_id)
where v.id = a.id and v.contacto_id is null
returning 1
