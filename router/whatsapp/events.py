"""PLACEHOLDER reader: messages and statuses only, until the full one lands."""
import hashlib
from router.model import *
from router.errors import Malformed
from router.whatsapp.reading import read_json
from datetime import datetime, UTC

def read(body, door):
    try: v=read_json(body)
    except Malformed: return (Event(kind='rejected.malformed',key='sha256:'+hashlib.sha256(body).hexdigest(),item=None),)
    out=[]
    for e in v.get('entry',[]):
        for c in e.get('changes',[]):
            val=c['value']; ph=val['metadata']['phone_number_id']
            cs=val.get('contacts') or [{}]
            for m in val.get('messages',[]):
                t=m.get('type','text')
                out.append(Event(kind='message.'+t,key=m['id'],id=m['id'],item=m,sender=m.get('from'),timestamp=datetime.fromtimestamp(int(m['timestamp']),UTC),scope=e['id'],phone_number_id=ph,person=Person(wa_id=m.get('from'),bsuid=m.get('from_user_id'),name=(cs[0].get('profile') or {}).get('name')),content=Content(text=(m.get('text') or {}).get('body') or f'[{t}]',tipo='text',said=(m.get('text') or {}).get('body') or '')))
            for s in val.get('statuses',[]):
                out.append(Event(kind='status.'+s['status'],key=f"{ph}|{s['id']}|{s['status']}|{s['timestamp']}",id=s['id'],item=s,timestamp=datetime.fromtimestamp(int(s['timestamp']),UTC),scope=e['id'],phone_number_id=ph,status=Status(message_id=s['id'],type='message',status=s['status'])))
    return tuple(out)
