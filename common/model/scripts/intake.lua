-- SPDX-License-Identifier: Apache-2.0
-- May so many submits come in now?  Takes them from all scopes or from none; 0 only looks.
--
-- KEYS[1]  prefix of all keys
-- ARGV     1 submits, then of each scope: text, '1' shadow, per minute: submits, tokens (-1: none)
-- Returns {0 yes, 1 later, 2 never, wait, index of the scope that refused, 1 a shadow refused,
--          submits: limit, remaining, reset, tokens: limit, remaining, reset}; a meter is that of
--          the scope with least left, limit -1 without one.
local prefix, submits = KEYS[1], tonumber(ARGV[1])
local time = call('TIME')
local now = time[1] * 1000000 + time[2]
local NEVER = 2 ^ 53
local result = {0, 0, 0, 0, -1, 0, 0, -1, 0, 0}
local ask = {'MGET'}

for at = 2, #ARGV, 4 do
    local is_shadow = ARGV[at + 1] == '1'
    ask[#ask + 1] = prefix .. (is_shadow and 'w:' or 's:') .. ARGV[at]
    ask[#ask + 1] = prefix .. (is_shadow and 'z:' or 'm:') .. ARGV[at]
end
local got = #ask > 1 and call(unpack(ask)) or {}

local function refuse(is_shadow, code, wait, index)
    if is_shadow then
        result[4] = 1
    elseif result[1] == 0 or wait > result[2] then
        result[1], result[2], result[3] = code, wait, index
    end
    return false
end

local function meter(at, limit, remaining, reset)
    if result[at] < 0 or remaining < result[at + 1] then
        result[at], result[at + 1], result[at + 2] = limit, remaining, reset
    end
end

local writes, seen = {}, {}
for at = 2, #ARGV, 4 do
    local index = (at - 2) / 4
    local is_shadow = ARGV[at + 1] == '1'
    local limit, tokens = tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3])
    if limit == 0 then
        if submits > 0 then
            refuse(is_shadow, 1, MINUTE, index)
        end
        if not is_shadow then
            meter(5, 0, 0, MINUTE)
        end
    elseif limit > 0 then
        local each, burst = ceil(MINUTE / limit), burst_of(limit)
        local tat = tonumber(got[2 * index + 1] or 0)
        if tat > now + MINUTE then -- the clock went back
            tat = now + burst * each
        end
        tat = max(tat, now)
        local wait = tat + submits * each - burst * each - now
        if submits > burst then
            refuse(is_shadow, 2, NEVER, index)
        elseif submits > 0 and wait > 0 then
            refuse(is_shadow, 1, wait, index)
        elseif submits > 0 then
            writes[#writes + 1] = {ask[2 * index + 2], tat + submits * each}
        end
        if not is_shadow then
            seen[#seen + 1] = {limit, each, burst, tat}
        end
    end
    if tokens >= 0 and not is_shadow then
        local state = state_read(got[2 * index + 2], now)
        local burst, sum = burst_of(tokens), 0
        ring_turn(state, now)
        for slot = 5, 4 + RING do
            sum = sum + state[slot]
        end
        local tat = max(state[3], now)
        local each = tokens > 0 and MINUTE / tokens or MINUTE
        local left = min(burst - (tat - now) / each, tokens + burst - sum)
        meter(8, tokens, tokens > 0 and max(floor(left), 0) or 0, tat - now)
    end
end
local taken = result[1] == 0 and submits or 0
for i = 1, #seen do
    local limit, each, burst, tat = unpack(seen[i])
    tat = tat + taken * each
    meter(5, limit, max(floor((now + burst * each - tat) / each), 0), tat - now)
end
if result[1] == 0 then
    for i = 1, #writes do
        local key, tat = writes[i][1], writes[i][2]
        call('SET', key, format('%d', tat), 'PX',
                   format('%d', ceil((tat - now) / 1000) + 1000))
    end
end
return result
