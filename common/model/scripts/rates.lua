-- SPDX-License-Identifier: Apache-2.0
-- Rates of one scope: what admit, settle and intake share.  It stands before each of them.  All of it
-- runs anew with each call, so that a function that is made and not called costs too: what only one
-- of them needs stands there, in line.  So does each local that a function borrows: the functions
-- are given what they need, and say SPAN and RING in numbers.
--
-- A state is {seen, tat_requests, tat_tokens, bucket, sum, sum, ..., end, leases, end, leases...}:
-- when it was written, the theoretical arrival times of two GCRAs (all in microseconds); tokens by
-- spans of 5 s, 13 of them in a ring, so that they cover at least 60 s, bucket being the number of
-- the newest; and how many leases end when.  Ends are rounded up to a grain (admit.lua), so that
-- there are few of them.  Without a limit of tokens bucket is 0 and there are no sums: leases begin
-- at 5, or at 18.
local call, format, match = redis.call, string.format, string.match
local max, min, floor, ceil = math.max, math.min, math.floor, math.ceil
local read = struct.unpack
local SPAN, RING, MINUTE = 5000000, 13, 60000000

local function burst_of(limit)
    return limit < 20 and 1 or (limit - limit % 10) / 10
end

-- A clock that went back moves the state with it: nothing is gained and nobody waits for it.  (But
-- leases end when they end.)  Without a time it is that of the state.
local function state_read(raw, now)
    if not raw then
        return {now, 0, 0, 0}
    end
    local size = #raw / 8
    local state = {struct.unpack(string.rep('d', size), raw)}
    state[size + 1] = nil -- where the next would begin
    now = now or state[1]
    local back = state[1] - now
    if back > 0 then
        state[2] = state[2] - back
        state[3] = state[3] - back
        if state[4] > 0 then
            local sum = 0
            for i = 5, 17 do
                sum, state[i] = sum + state[i], 0
            end
            state[4] = math.floor(now / 5000000)
            state[5 + state[4] % 13] = sum
        end
    end
    state[1] = now
    return state
end

-- Brings the ring up to now.
local function ring_turn(state, now)
    local newest, last = math.floor(now / 5000000), state[4]
    if last == 0 then -- it begins: leases stand behind it
        for i = #state, 5, -1 do
            state[i + 13] = state[i]
        end
    end
    for number = math.max(last, newest - 13) + 1, newest do
        state[5 + number % 13] = 0
    end
    state[4] = newest
    return newest
end

-- Adds so many leases (or takes them away) that end then.  Those that have ended go.  Returns how
-- many are out.
local function leases_add(state, now, ends, count)
    local out, to = 0, state[4] > 0 and 18 or 5
    for i = to, #state, 2 do
        local leases = state[i + 1]
        if state[i] == ends then
            leases, count = leases + count, 0
        end
        if state[i] > now and leases > 0 then
            out = out + leases
            state[to], state[to + 1] = state[i], leases
            to = to + 2
        end
    end
    if count > 0 then
        out = out + count
        state[to], state[to + 1] = ends, count
        to = to + 2
    end
    for i = #state, to, -1 do
        state[i] = nil
    end
    return out
end

local function state_write(key, state, now)
    -- That of the ring, and something for a clock that goes back.
    local last, ttl = math.max(state[2], state[3]), '75000'
    for i = state[4] > 0 and 18 or 5, #state, 2 do
        last = math.max(last, state[i])
    end
    if last > now + 65000000 then -- 3 h are enough for nearly all, and need no printing
        ttl = last <= now + 10800000000 and '10810000' or
              string.format('%d', math.ceil((last - now) / 1000) + 10000)
    end
    redis.call('SET', key, struct.pack(string.rep('d', #state), unpack(state)), 'PX', ttl)
end
