// The plan's second phase: one joined query instead of three, and the messages of a body at
// the same time, one's failure not the others'.
import { NEW_CONTACT, NEW_CONVERSATION, MESSAGE, NAME, LAST } from './statements.js';

const JOINED = `
select c.id as contact, v.id as conversation, m.last
from contactos c
left join conversaciones v on v.contacto_id = c.id and v.estado <> 'cerrada'
left join lateral (
  select json_agg(row_to_json(x)) as last from (
    select * from mensajes where conversacion_id = v.id order by timestamp desc limit 10) x
) m on true
where c.telefono = $1 limit 1`;

async function one(pool, text, values) {
  return (await pool.query(text, values)).rows[0];
}

async function store(pool, m) {
  const known = await one(pool, JOINED, [m.telefono]);
  const contact = known?.contact ?? (await one(pool, NEW_CONTACT, [m.telefono, m.name])).id;
  const conversation = known?.conversation
    ?? (await one(pool, NEW_CONVERSATION, [contact, m.telefono])).id;
  await pool.query(MESSAGE, [conversation, m.text, m.tipo, m.name, m.seconds, m.wamid]);
  await pool.query(NAME, [contact, m.name]);
  await pool.query(LAST, [conversation, m.text, m.seconds]);
}

export async function processAll(pool, messages) {
  const outcomes = await Promise.allSettled(messages.map((m) => store(pool, m)));
  return outcomes.filter(({ status }) => status === 'rejected').length;
}
