-- One heartbeat of one worker: it lives, and it still holds these slots.
--
-- Writes slots it does not find, so that a wiped Redis learns who holds what.
--
-- KEYS  epoch, workers, then the slots key of each slot
-- ARGV  1 remembered epoch  2 proposed epoch  3 slot_ttl (us)  4 worker  5 whether it comes back from an outage (1, 0),
--       then each slot
-- Reply live workers, epoch, state (0 settled, 1 rates are kept apart, 2 the cell settles after a wipe), then for each
--       slot 1 where this worker is to give one of its path up: it has the most, and another one has none and waits
local id, settled, apart = epoch(KEYS[1], ARGV[1], ARGV[2])
if ARGV[5] == '1' then
  apart = now + slot_ttl
  redis.call('HSET', KEYS[1], 'apart', int(apart))
end
redis.call('PEXPIRE', KEYS[1], 86400000)

local expiry = int(now + slot_ttl)
local ttl = int(math.ceil(slot_ttl / 1000) + 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', int(now))
redis.call('ZADD', KEYS[2], expiry, ARGV[4])
redis.call('PEXPIRE', KEYS[2], ttl)
for index = 3, #KEYS do
  redis.call('ZADD', KEYS[index], expiry, ARGV[index + 3])
  if KEYS[index] ~= KEYS[index + 1] then
    redis.call('PEXPIRE', KEYS[index], ttl)
  end
end

-- The worker that has the most slots of a path.
local function has_most(slots)
  local held, most = {}, nil
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', slots, int(now), '+inf')) do
    local worker = holder(member)
    held[worker] = (held[worker] or 0) + 1
    if not most or held[worker] > held[most] then
      most = worker
    end
  end
  return most
end

local wanted = {}
for index = 3, #KEYS do
  local slot = index - 2
  if KEYS[index] == KEYS[index - 1] then
    wanted[slot] = wanted[slot - 1]
  else
    local wisher = redis.call('GET', wish(KEYS[index]))
    local is_wanted = wisher and wisher ~= ARGV[4] and has_most(KEYS[index]) == ARGV[4]
    wanted[slot] = is_wanted and 1 or 0
  end
end
return {redis.call('ZCARD', KEYS[2]), id, settled > 0 and 2 or apart > 0 and 1 or 0, wanted}
