-- One decision over a connection slot and tokens of one path: all or nothing.
--
-- KEYS  epoch, rate, slots
-- ARGV  1 remembered epoch  2 proposed epoch  3 slot_ttl (us)
--       4 slot ('' when only tokens are asked for)  5 connections
--       6 interval between tokens (ns; 0 when there is no rate)  7 capacity (tokens)  8 tokens wanted
--       9 tokens worth granting: fewer are not, so that a bucket run dry is not asked for every drop
--       10 1 when the slot takes the place of one that this worker gave back of late: it is granted while the cell
--       settles, too
--       11 1 when this worker has no slot of the path. Where all are in use, the next one to come free is then kept for
--       it, for as long as it goes on asking, and the worker that has the most is told to give one up
--       12 class of the mail that the tokens are for  13 tokens for transactional mail for each for bulk, while both wait
--       14 what this worker was told last of those that use the path, as in the reply; '' when that was just now
-- Reply verdict (0 granted, 1 rate limited, 2 connections in use, 3 the slot is granted and tokens are taken from the
--       worker's own share), tokens, wait (us; with 3, for how long that holds), epoch, how many workers use the path, this
--       one among them: negative where it does not count itself in yet, 0 where it is not told
local id, settled, apart, are_known = epoch(KEYS[1], ARGV[1], ARGV[2])
local slot, connections = ARGV[4], tonumber(ARGV[5])
local interval, capacity, wanted, worth =
  ARGV[6] / 1000, tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9])

local worker = ARGV[2]

-- Notes that this worker uses the path, and how many do. It counts itself in once each of the others has heard of as many, and from
-- then on as long as it asks before it is forgotten: so those that are in are never more than each of them has heard of.
-- <slots>|users holds them by expiry, <slots>|told of how many each has heard, at least.
local function told(own)
  local users, heard = KEYS[3] .. '|users', KEYS[3] .. '|told'
  local ttl = int(math.ceil(slot_ttl / 1000) + 1000)
  redis.call('ZREMRANGEBYSCORE', users, '-inf', int(now))
  -- Nobody is remembered for so long: this was written before the clock went back.
  redis.call('ZREMRANGEBYSCORE', users, int(now + slot_ttl + 1000000), '+inf')
  local is_new = redis.call('ZADD', users, int(now + slot_ttl), worker) == 1
  redis.call('PEXPIRE', users, ttl)
  if not are_known then
    return 0
  end
  local count, knowing = redis.call('ZCARD', users), 1
  local each = redis.call('HGETALL', heard)
  for index = 1, #each, 2 do
    local other, of = each[index], tonumber(each[index + 1])
    if not redis.call('ZSCORE', users, other) then
      redis.call('HDEL', heard, other)
    elseif other ~= worker and of >= count then
      knowing = knowing + 1
    end
  end
  redis.call('HSET', heard, worker, math.min(math.abs(own), count))
  redis.call('PEXPIRE', heard, ttl)
  local is_in = knowing == count or own > 0 and not is_new
  return is_in and count or -count
end

local function answer(verdict, tokens, wait)
  local users = ARGV[14] ~= '' and told(tonumber(ARGV[14])) or 0
  return {verdict, tokens, int(math.ceil(wait)), id, users}
end

local function no(reason, wait)
  return answer(reason, 0, math.max(wait, 1))
end

local wished
if slot ~= '' then
  redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', int(now))
  local wisher = redis.call('GET', wish(KEYS[3]))
  wished = wisher == holder(slot)
  if wished then
    redis.call('PEXPIRE', wish(KEYS[3]), 3000)
  end
  local kept = wisher and not wished and 1 or 0
  if redis.call('ZCARD', KEYS[3]) >= connections - kept then
    if not wisher and ARGV[11] == '1' then
      redis.call('SET', wish(KEYS[3]), holder(slot), 'PX', 3000)
    end
    -- Expiries beyond a whole slot_ttl were written before the clock went back.
    for _, late in ipairs(redis.call('ZRANGEBYSCORE', KEYS[3], int(now + slot_ttl + 1000000), '+inf')) do
      redis.call('ZADD', KEYS[3], int(now + slot_ttl), late)
    end
    local first = redis.call('ZRANGE', KEYS[3], 0, 0, 'WITHSCORES')
    return no(2, (first[2] or now + slot_ttl) - now)
  end
  if settled > 0 and ARGV[10] ~= '1' then
    return no(2, settled - now)
  end
end

-- Bulk yields while another worker has transactional mail and no token for it; among its own a worker sees to that itself.
-- <rate>|urgent holds such workers, each until a little after the time at which it was told to ask again: it is late by the
-- way of the answer and of the question. While bulk yields, <rate>|yielded counts what transactional mail has had since bulk
-- began to wait, and every so many tokens one is kept for bulk.
local urgent, yielded = KEYS[2] .. '|urgent', KEYS[2] .. '|yielded'
local class, turns = ARGV[12], tonumber(ARGV[13])
local longest, late = 60000000, 200000

local function others_are_urgent()
  redis.call('ZREMRANGEBYSCORE', urgent, '-inf', int(now))
  -- Nobody is remembered for so long: this was written before the clock went back.
  redis.call('ZREMRANGEBYSCORE', urgent, '(' .. int(now + longest + late), '+inf')
  return redis.call('ZCARD', urgent) > (redis.call('ZSCORE', urgent, worker) and 1 or 0)
end

local function remember_urgent(wait)
  redis.call('ZADD', urgent, int(now + math.min(wait, longest) + late), worker)
  redis.call('PEXPIRE', urgent, int((longest + late) / 1000 + 1000))
end

local granted = 0
local shared = interval > 0 and apart == 0
if shared then
  local since = tonumber(redis.call('GET', yielded))
  local yields = class == 'bulk' and others_are_urgent()
  local due = math.floor((since or 0) / turns)
  local kept = 0
  if yields then
    wanted, worth = math.max(math.min(wanted, due), 1), 1
  elseif class == 'transactional' and due > 0 then
    kept = 1
  end

  -- GCRA: the key holds when the bucket will be full again. A missing key is a full bucket.
  local full = math.ceil(capacity * interval)
  local stored = tonumber(redis.call('GET', KEYS[2]))
  local full_at = stored or now
  -- Neither a lowered rate nor a clock that went back makes a debt larger than the whole bucket.
  full_at = math.max(now, math.min(full_at, now + full))
  local room = now + full - full_at
  granted = math.min(wanted, math.floor(room / interval) - kept)
  local wait
  if granted < worth then
    wait = (worth + kept) * interval - room
  elseif yields and due == 0 then
    wait = math.max(20000, math.min(interval, 500000))
  else
    full_at = full_at + math.ceil(granted * interval)
  end
  -- What was corrected is kept also when the answer is no, or it would have to be corrected for ever.
  if full_at ~= stored then
    redis.call('SET', KEYS[2], int(full_at), 'PX', int(math.ceil((full_at - now) / 1000) + 1000))
  end
  if wait and class == 'transactional' then
    remember_urgent(wait)
  elseif wait and yields then
    -- For as long as it may take to ask again.
    redis.call('SET', yielded, int(since or 0), 'PX', int(math.ceil(wait / 1000) + 1000))
  elseif class == 'transactional' then
    redis.call('ZREM', urgent, worker)
    if since then
      redis.call('INCRBY', yielded, int(granted))
    end
  elseif yields then
    redis.call('DECRBY', yielded, int(granted * turns))
  elseif since then
    redis.call('DEL', yielded)
  end
  if wait then
    return no(1, wait)
  end
end

if slot ~= '' then
  redis.call('ZADD', KEYS[3], int(now + slot_ttl), slot)
  redis.call('PEXPIRE', KEYS[3], int(math.ceil(slot_ttl / 1000) + 1000))
  if wished then
    redis.call('DEL', wish(KEYS[3]))
  end
end
if interval > 0 and not shared then
  -- What the shares give meanwhile is not counted: the bucket is empty when rates are shared again.
  local full_at = apart + math.ceil(capacity * interval)
  redis.call('SET', KEYS[2], int(full_at), 'PX', int(math.ceil((full_at - now) / 1000) + 1000))
  return answer(3, 0, apart - now)
end
return answer(0, granted, 0)
