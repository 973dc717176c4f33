// The plan's design: contact, conversation and last messages asked for one after the other,
// then the message, the contact's name and the conversation's state; each its own commit.
import { NEW_CONTACT, NEW_CONVERSATION, MESSAGE, NAME, LAST } from './statements.js';

const CONTACT = 'select * from contactos where telefono = $1';
const CONVERSATION = `select * from conversaciones
  where contacto_id = $1 and estado <> 'cerrada' limit 1`;
const MESSAGES = `select * from mensajes where conversacion_id = $1
  order by timestamp desc limit 10`;

async function one(pool, text, values) {
  return (await pool.query(text, values)).rows[0];
}

async function store(pool, m) {
  const contact = (await one(pool, CONTACT, [m.telefono]))
    ?? (await one(pool, NEW_CONTACT, [m.telefono, m.name]));
  const conversation = (await one(pool, CONVERSATION, [contact.id]))
    ?? (await one(pool, NEW_CONVERSATION, [contact.id, m.telefono]));
  await pool.query(MESSAGES, [conversation.id]);
  await pool.query(MESSAGE, [conversation.id, m.text, m.tipo, m.name, m.seconds, m.wamid]);
  await pool.query(NAME, [contact.id, m.name]);
  await pool.query(LAST, [conversation.id, m.text, m.seconds]);
}

export async function processAll(pool, messages) {
  for (const message of messages) await store(pool, message);
  return 0;
}
