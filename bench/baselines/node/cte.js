// A competent rewrite: one prepared statement, and so one commit, a message.
import { readFileSync } from 'node:fs';

const text = readFileSync(new URL('../message.sql', import.meta.url), 'utf8');

function store(pool, m) {
  const item = JSON.stringify(m.item);
  const values = [m.telefono, m.name, m.wamid, m.text, m.tipo, m.seconds, item];
  return pool.query({ name: 'message', text, values });
}

export async function processAll(pool, messages) {
  for (const message of messages) await store(pool, message);
  return 0;
}
