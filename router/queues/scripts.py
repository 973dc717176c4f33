"""What is asked of Redis, in its own language: each script is one step, whole or not at all.

KEYS: the stream, the bytes of all its items together, who lives. ARGV begins with the group.
"""

from typing import Final

_NAMES: Final = """
local stream, bytes, alive, group, me = KEYS[1], KEYS[2], KEYS[3], ARGV[1], ARGV[2]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
"""

# A server that is full refuses what takes memory, ZADD and DECRBY too; but not to a script
# that has written already. So that room can be made, each but KEEP begins with a write.
_ALIVE: Final = (
    _NAMES
    + """
redis.call('XACK', stream, group, '0-0')
redis.call('ZADD', alive, now, me)
"""
)

# Add, or be refused by a server that is full.
KEEP: Final = (
    _NAMES
    + """
for at = 3, #ARGV, 3 do
  redis.call('XADD', stream, '*', 'l', ARGV[at], 's', ARGV[at + 1], 'b', ARGV[at + 2])
  redis.call('INCRBY', bytes, ARGV[at + 1])
end
"""
)

# Settle and read on. One at a time is read, since a body may have 4 MB.
WRITE: Final = (
    _ALIVE
    + """
local at = 5
local function argument()
  at = at + 1
  return ARGV[at - 1]
end
for _ = 1, tonumber(ARGV[3]) do
  local id, size = argument(), argument()
  redis.call('XACK', stream, group, id)
  if redis.call('XDEL', stream, id) == 1 then redis.call('DECRBY', bytes, size) end
end
for _ = 1, tonumber(ARGV[4]) do
  local id, tries = argument(), argument()
  redis.call('XCLAIM', stream, group, me, 0, id, 'RETRYCOUNT', tries, 'JUSTID')
end
local items, room, found = tonumber(argument()), tonumber(argument()), {}
local more = 1
while items > 0 and room > 0 do
  local read = redis.call('XREADGROUP', 'GROUP', group, me, 'COUNT', 1,
                          'STREAMS', stream, '>')
  if not read then more = 0 break end
  local entry = read[1][2][1]
  items, room = items - 1, room - #(entry[2][6] or '')
  found[#found + 1] = entry
end
return {found, more, redis.call('XLEN', stream), redis.call('GET', bytes) or '0'}
"""
)

# Every other consumer for whom something is pending, and for how long it has been silent, in
# milliseconds. One that has been silent for an hour, with nothing pending, is forgotten: with
# a consumer goes what is pending for it, so not before.
LOOK: Final = (
    _ALIVE
    + """
local found = {}
for _, consumer in ipairs(redis.call('XINFO', 'CONSUMERS', stream, group)) do
  local name, pending = consumer[2], consumer[4]
  local silent = now - (redis.call('ZSCORE', alive, name) or 0)
  if name ~= me and pending > 0 then
    found[#found + 1] = {name, silent}
  elseif name ~= me and silent > 3600000 then
    redis.call('XGROUP', 'DELCONSUMER', stream, group, name)
    redis.call('ZREM', alive, name)
  end
end
return found
"""
)

# Take over what is pending for ARGV[3], the oldest first: id, fields, how often it was lent.
# What was deleted meanwhile, by whomever, is pending no more.
TAKE: Final = (
    _ALIVE
    + """
local room, found = tonumber(ARGV[5]), {}
for _, one in ipairs(redis.call('XPENDING', stream, group, '-', '+', ARGV[4], ARGV[3])) do
  if room <= 0 then break end
  local claimed = redis.call('XCLAIM', stream, group, me, 0, one[1])[1]
  if claimed then
    room = room - #(claimed[2][6] or '')
    found[#found + 1] = {one[1], claimed[2], one[4]}
  else
    redis.call('XACK', stream, group, one[1])
  end
end
return found
"""
)

# Hand what is pending for us to the consumer ARGV[3], and be forgotten.
LEAVE: Final = (
    _ALIVE
    + """
for _, one in ipairs(redis.call('XPENDING', stream, group, '-', '+', ARGV[4], me)) do
  redis.call('XCLAIM', stream, group, ARGV[3], 0, one[1], 'JUSTID')
end
if #redis.call('XPENDING', stream, group, '-', '+', 1, me) == 0 then
  redis.call('XGROUP', 'DELCONSUMER', stream, group, me)
  redis.call('ZREM', alive, me)
end
"""
)

ALL: Final = (KEEP, WRITE, LOOK, TAKE, LEAVE)
