-- SPDX-License-Identifier: Apache-2.0
-- What a provider says of its own account.
--
-- KEYS[1]  "{p:<provider>}:"
-- ARGV     learn: 1 how long it is closed (us, 0: not), then limit, remaining, reset of requests and
--          of tokens (-1: not said), last the channel for "<us> <provider>": it is closed for so
--          long; read: nothing
-- Returns  read: {age, closed for, then the six}; age -1: nothing was learned
local prefix = KEYS[1]
local time = call('TIME')
local now = time[1] * 1000000 + time[2]
local TENTH = 100000

if #ARGV > 0 then
    local closed_us = tonumber(ARGV[1])
    local before = tonumber(call('GET', prefix .. 'closed') or 0)
    local seen = {now}
    for i = 2, 7 do
        seen[i] = tonumber(ARGV[i])
    end
    call('SET', prefix .. 'seen', cmsgpack.pack(seen), 'EX', 3600)
    if closed_us > 0 and before < now + closed_us then
        call('SET', prefix .. 'closed', format('%d', now + closed_us), 'PX',
             format('%d', ceil(closed_us / 1000)))
        -- All are told, until the tenth of a second in which it opens is over: each answer closes
        -- it a little longer, and this way only one in a tenth has something new to tell.
        local told = ceil((now + closed_us) / TENTH) * TENTH
        if told > ceil(before / TENTH) * TENTH then
            call('PUBLISH', ARGV[8], format('%d %s', told - now, string.sub(prefix, 4, -3)))
        end
    end
    return 0
end

local got = call('MGET', prefix .. 'seen', prefix .. 'closed')
local seen = got[1] and cmsgpack.unpack(got[1]) or {now + 1, -1, -1, -1, -1, -1, -1}
local result = {math.max(now - seen[1], -1), got[2] and math.max(got[2] - now, 0) or 0}
for i = 2, 7 do
    result[i + 1] = seen[i]
end
return result
