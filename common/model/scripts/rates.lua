-- SPDX-License-Identifier: Apache-2.0
-- Rates of one scope: what admit, settle and intake share.  It stands before each of them.  All of it
-- runs anew with each call, so that a function that is made and not called costs too: what only one
-- of them needs stands there, in line.
--
-- A state is {seen, tat_requests, tat_tokens, bucket, sum, sum, ...}: when it was written, the
-- theoretical arrival times of two GCRAs (all in microseconds), and tokens by spans of 5 s, 13 of
-- them in a ring, so that they cover at least 60 s; bucket is the number of the newest.  Without a
-- limit of tokens the ring is left out.
local call, format, match = redis.call, string.format, string.match
local max, min, floor, ceil = math.max, math.min, math.floor, math.ceil
local read = struct.unpack
local SPAN, RING, MINUTE = 5000000, 13, 60000000
local SHORT, LONG = 'ddd', 'ddddddddddddddddd' -- as it is kept

local time = call('TIME')
local now = time[1] * 1000000 + time[2]

local function burst_of(limit)
    return limit < 20 and 1 or (limit - limit % 10) / 10
end

-- A clock that went back moves the state with it: nothing is gained and nobody waits for it.
local function state_read(raw)
    if not raw then
        return {now, 0, 0}
    end
    local is_long = #raw > 24
    local state = {read(is_long and LONG or SHORT, raw)}
    state[is_long and 18 or 4] = nil -- where the next would begin
    local back = state[1] - now
    if back > 0 then
        state[2] = state[2] - back
        state[3] = state[3] - back
        if is_long then
            local sum = 0
            for i = 5, 4 + RING do
                sum, state[i] = sum + state[i], 0
            end
            state[4] = floor(now / SPAN)
            state[5 + state[4] % RING] = sum
        end
    end
    state[1] = now
    return state
end

-- Brings the ring up to now.
local function ring_turn(state)
    local newest = floor(now / SPAN)
    local first = state[4] and state[4] + 1 or newest - RING + 1
    if first < newest - RING + 1 then
        first = newest - RING + 1
    end
    for number = first, newest do
        state[5 + number % RING] = 0
    end
    state[4] = newest
    return newest
end

local function state_write(key, state)
    local tat, ttl = max(state[2], state[3]), '71000' -- that of the ring, and a second
    if not state[4] or tat > now + (RING + 1) * SPAN then
        ttl = format('%d', max(ceil((tat - now) / 1000), 0) + 1000)
    end
    call('SET', key, struct.pack(state[4] and LONG or SHORT, unpack(state)), 'PX', ttl)
end
