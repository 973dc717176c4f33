// express + pg: node receiver.js plan|settled|cte, which say how a body's messages are stored.
import { createHmac, timingSafeEqual } from 'node:crypto';
import express from 'express';
import pg from 'pg';

const { PORT, DATABASE_URL, WHATSAPP_APP_SECRET } = process.env;
const FILES = new Set(['image', 'audio', 'video', 'document', 'sticker', 'location']);

const { processAll } = await import(`./${process.argv[2]}.js`);
const pool = new pg.Pool({ connectionString: DATABASE_URL, max: 10 });

function signed(body, header) {
  const right = 'sha256=' + createHmac('sha256', WHATSAPP_APP_SECRET).update(body).digest('hex');
  return header?.length === right.length && timingSafeEqual(Buffer.from(header), Buffer.from(right));
}

function textOf(kind, content = {}) {
  return content.body || content.caption || content[content.type]?.title || `[${kind}]`;
}

function* messagesOf(body) {
  for (const { changes } of body.entry) {
    for (const { value } of changes) {
      const names = new Map();
      for (const { wa_id, user_id, profile } of value.contacts ?? []) {
        names.set(wa_id, profile?.name).set(user_id, profile?.name);
      }
      for (const item of value.messages ?? []) {
        const telefono = item.from ?? item.from_user_id;
        yield {
          telefono,
          name: names.get(telefono) ?? null,
          wamid: item.id,
          text: textOf(item.type, item[item.type]),
          tipo: FILES.has(item.type) ? item.type : 'text',
          seconds: Number(item.timestamp),
          item,
        };
      }
    }
  }
}

const app = express();
app.use(express.json({ limit: '4mb', verify: (request, _, body) => { request.rawBody = body; } }));
app.post('/webhook', async (request, response) => {
  if (!request.rawBody || !signed(request.rawBody, request.get('x-hub-signature-256'))) {
    return response.sendStatus(401);
  }
  try {
    const messages = [...messagesOf(request.body)];
    const failed = await processAll(pool, messages);
    const answer = { success: failed === 0, processed: messages.length - failed, failed };
    return response.status(failed ? 500 : 200).json(answer);
  } catch (error) {
    console.error(error.message);
    return response.status(500).json({ error: 'failed' });
  }
});
app.listen(Number(PORT), '127.0.0.1');
