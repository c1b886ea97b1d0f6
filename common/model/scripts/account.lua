-- SPDX-License-Identifier: Apache-2.0
-- What a provider says of its own account.
--
-- KEYS[1]  "{p:<provider>}:"
-- ARGV     learn: 1 how long it is closed (us, 0: not), then limit, remaining, reset of requests and
--          of tokens (-1: not said); read: nothing
-- Returns  read: {age, closed for, then the six}; age -1: nothing was learned
local prefix = KEYS[1]
local time = call('TIME')
local now = time[1] * 1000000 + time[2]

if #ARGV > 0 then
    local closed_us = tonumber(ARGV[1])
    local before = redis.call('GET', prefix .. 'closed')
    local seen = {now}
    for i = 2, 7 do
        seen[i] = tonumber(ARGV[i])
    end
    redis.call('SET', prefix .. 'seen', cmsgpack.pack(seen), 'EX', 3600)
    if closed_us > 0 and (not before or tonumber(before) < now + closed_us) then
        redis.call('SET', prefix .. 'closed', string.format('%d', now + closed_us), 'PX',
                   string.format('%d', math.ceil(closed_us / 1000)))
    end
    return 0
end

local got = redis.call('MGET', prefix .. 'seen', prefix .. 'closed')
local seen = got[1] and cmsgpack.unpack(got[1]) or {now + 1, -1, -1, -1, -1, -1, -1}
local result = {math.max(now - seen[1], -1), got[2] and math.max(got[2] - now, 0) or 0}
for i = 2, 7 do
    result[i + 1] = seen[i]
end
return result
