-- SPDX-License-Identifier: Apache-2.0
-- Rates of one scope: what admit, settle and intake share.  It stands before each of them.  All of it
-- runs anew with each call, so that a function that is made and not called costs too: what only one
-- of them needs stands there, in line.  So does each local that a function borrows: the functions
-- are given what they need, and say SPAN and RING in numbers.
--
-- A state is {seen, tat_requests, tat_tokens, bucket, sum, sum, ..., kept}: when it was written, the
-- theoretical arrival times of two GCRAs (all in microseconds), and tokens by spans of 5 s, 13 of
-- them in a ring, so that they cover at least 60 s; bucket is the number of the newest.  kept is a
-- time until which the scope's leases surely do not vanish, 0 when it is not known (admit.lua).
-- Without a limit of tokens all from the bucket on is left out.
local call, format, match = redis.call, string.format, string.match
local max, min, floor, ceil = math.max, math.min, math.floor, math.ceil
local read = struct.unpack
local SPAN, RING, MINUTE, KEPT = 5000000, 13, 60000000, 18 -- KEPT: its place

local time = call('TIME')
local now = time[1] * 1000000 + time[2]

local function burst_of(limit)
    return limit < 20 and 1 or (limit - limit % 10) / 10
end

-- A clock that went back moves the state with it: nothing is gained and nobody waits for it.
local function state_read(raw, now)
    if not raw then
        return {now, 0, 0}
    end
    local size, state = #raw, nil
    if size > 136 then
        state = {struct.unpack('dddddddddddddddddd', raw)}
        state[19] = nil -- where the next would begin
    elseif size > 24 then -- written before there was a kept
        state = {struct.unpack('ddddddddddddddddd', raw)}
        state[18] = 0
    else
        state = {struct.unpack('ddd', raw)}
        state[4] = nil
    end
    local back = state[1] - now
    if back > 0 then
        state[2] = state[2] - back
        state[3] = state[3] - back
        if state[4] then
            local sum = 0
            for i = 5, 17 do
                sum, state[i] = sum + state[i], 0
            end
            state[4] = math.floor(now / 5000000)
            state[5 + state[4] % 13] = sum
            state[18] = 0
        end
    end
    state[1] = now
    return state
end

-- Brings the ring up to now.
local function ring_turn(state, now)
    local newest = math.floor(now / 5000000)
    local first = state[4] and state[4] + 1 or newest - 12
    if first < newest - 12 then
        first = newest - 12
    end
    for number = first, newest do
        state[5 + number % 13] = 0
    end
    state[4], state[18] = newest, state[18] or 0
    return newest
end

local function state_write(key, state, now)
    local tat, ttl = math.max(state[2], state[3]), '71000' -- that of the ring, and a second
    if not state[4] or tat > now + 70000000 then
        ttl = string.format('%d', math.max(math.ceil((tat - now) / 1000), 0) + 1000)
    end
    local how = state[4] and 'dddddddddddddddddd' or 'ddd'
    redis.call('SET', key, struct.pack(how, unpack(state)), 'PX', ttl)
end
