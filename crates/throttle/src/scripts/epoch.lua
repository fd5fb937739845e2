-- The epoch tells a Redis that was wiped from one that was idle. It heads every script.
--
-- Whoever finds no epoch makes one. A worker that remembers another is the proof that there was something to lose;
-- a cluster that starts for the first time has no such worker and waits for nothing. After a wipe the cell settles for
-- one slot_ttl: missing buckets are empty, and slots are only renewed, so that every holder can come back first.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

local function int(number)
  return string.format('%.0f', number)
end

-- Answers the epoch, and until when the cell settles (0 when it does not).
local function epoch(key, remembered, proposed, slot_ttl)
  local id, born, wiped = unpack(redis.call('HMGET', key, 'id', 'born', 'wiped'))
  if not id then
    id, born, wiped = proposed, int(now), remembered ~= '' and '1' or '0'
    redis.call('HSET', key, 'id', id, 'born', born, 'wiped', wiped)
    redis.call('PEXPIRE', key, 86400000)
  end
  local settled = tonumber(born) + slot_ttl
  -- A clock that went back must not keep the cell settling.
  if now >= settled or now < tonumber(born) then
    return id, 0
  end
  if wiped == '0' and remembered ~= '' and remembered ~= id then
    wiped = '1'
    redis.call('HSET', key, 'wiped', wiped)
  end
  return id, wiped == '1' and settled or 0
end
