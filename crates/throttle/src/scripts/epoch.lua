-- The epoch tells a Redis that was wiped from one that was idle. It heads every script.
--
-- Whoever finds no epoch makes one. A worker that remembers another is the proof that there was something to lose;
-- a cluster that starts for the first time has no such worker and waits for nothing. After a wipe the cell settles for
-- one slot_ttl: slots are only renewed, so that every holder can come back first, and rates are kept apart, by each
-- worker's share. A worker that comes back from an outage keeps the cell apart for as long: others may still be away, and
-- go on by their shares, which together with the whole rate for those who are back would be too much.
local slot_ttl = tonumber(ARGV[3])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

local function int(number)
  return string.format('%.0f', number)
end

-- The worker that has the slot of this name, <worker>:<number>.
local function holder(slot)
  return string.match(slot, '^(.*):')
end

-- Where the worker's name stands that has none of the path's slots and wants one.
local function wish(slots)
  return slots .. '|wish'
end

-- Answers the epoch, until when the cell settles, until when rates are kept apart (0 when not), and whether all that use a path
-- have had the time to say so: not while either is so, nor while Redis is new, which may be one that was wiped.
local function epoch(key, remembered, proposed)
  local id, born, wiped, apart = unpack(redis.call('HMGET', key, 'id', 'born', 'wiped', 'apart'))
  if not id then
    id, born, wiped = proposed, int(now), remembered ~= '' and '1' or '0'
    redis.call('HSET', key, 'id', id, 'born', born, 'wiped', wiped)
    redis.call('PEXPIRE', key, 86400000)
  end
  local settled = tonumber(born) + slot_ttl
  apart = tonumber(apart) or 0
  -- A clock that went back must not keep the cell settling or apart.
  if apart <= now or apart > now + slot_ttl then
    apart = 0
  end
  if now >= settled or now < tonumber(born) then
    return id, 0, apart, apart == 0
  end
  if wiped == '0' and remembered ~= '' and remembered ~= id then
    wiped = '1'
    redis.call('HSET', key, 'wiped', wiped)
  end
  if wiped ~= '1' then
    return id, 0, apart, false
  end
  return id, settled, math.max(settled, apart), false
end
