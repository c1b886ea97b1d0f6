-- Rates of one scope: what admit, settle and intake share.  It stands before each of them.
--
-- A state is {seen, tat_requests, tat_tokens, bucket, sum, sum, ...}: when it was written, the
-- theoretical arrival times of two GCRAs (all in microseconds), and tokens by spans of 5 s, 13 of
-- them in a ring, so that they cover at least 60 s; bucket is the number of the newest.  Without a
-- limit of tokens the ring is left out.
local call, format, match = redis.call, string.format, string.match
local max, min, floor, ceil = math.max, math.min, math.floor, math.ceil
local SPAN, RING, MINUTE = 5000000, 13, 60000000
local SHORT, LONG = 'ddd', 'dddd' .. string.rep('d', RING) -- as it is kept

local function burst_of(limit)
    return max(1, floor(limit / 10))
end

-- A clock that went back moves the state with it: nothing is gained and nobody waits for it.
local function state_read(raw, now)
    if not raw then
        return {now, 0, 0}
    end
    local state = {struct.unpack(#raw > 24 and LONG or SHORT, raw)}
    state[#state] = nil -- where the next would begin
    local back = state[1] - now
    if back > 0 then
        state[2] = state[2] - back
        state[3] = state[3] - back
        if state[4] then
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
local function ring_turn(state, now)
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

local function state_write(key, state, now)
    local until_us = max(state[2], state[3], state[4] and now + (RING + 1) * SPAN or 0)
    local ttl_ms = max(ceil((until_us - now) / 1000), 0) + 1000
    local raw = struct.pack(state[4] and LONG or SHORT, unpack(state))
    call('SET', key, raw, 'PX', format('%d', ttl_ms))
end

local function time_us()
    local time = call('TIME')
    return time[1] * 1000000 + time[2]
end

-- Gives back what record took beyond what was used: record is {at, tokens, then for each scope: key
-- of its state or '', cost of the request, cost of its tokens (in microseconds), key of its leases
-- or ''}.  used < 0: not known, the estimate stays taken.
local function rates_end(prefix, name, raw, now, used, is_undone)
    local record = cmsgpack.unpack(raw)
    local at, tokens = record[1], record[2]
    for i = 3, #record, 4 do
        local request_us, tokens_us = record[i + 1], record[i + 2]
        local unused = used >= 0 and tokens_us > 0 and tokens - used or 0
        local request_back = is_undone and request_us or 0
        if unused ~= 0 or request_back > 0 then
            local key = prefix .. record[i]
            local raw_state = call('GET', key)
            if raw_state or unused < 0 then
                local state = state_read(raw_state, now)
                state[2] = state[2] - request_back
                if unused ~= 0 then
                    local newest = ring_turn(state, now)
                    local span = floor(at / SPAN)
                    local back = tokens > 0 and floor(tokens_us / tokens * unused) or 0
                    if unused < 0 then
                        state[3] = max(state[3], now)
                    end
                    state[3] = state[3] - back
                    if span > newest or (unused < 0 and span <= newest - RING) then
                        span = newest
                    end
                    if span > newest - RING then
                        local slot = 5 + span % RING
                        state[slot] = max(state[slot] - unused, 0)
                    end
                end
                state_write(key, state, now)
            end
        end
        if record[i + 3] ~= '' then
            call('ZREM', prefix .. record[i + 3], name)
        end
    end
    call('DEL', prefix .. 'n:' .. name)
end
