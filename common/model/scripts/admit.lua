-- SPDX-License-Identifier: Apache-2.0
-- May this call be made now?  All scopes and accounts are checked, then all is written, or nothing.
--
-- KEYS[1]  prefix of all keys: "{t:acme}:", or "{p:main}:" for a provider's account
-- ARGV     1 name  2 generation ('' no money)  3 nano-dollars  4 numbers, then the texts of the
--          scopes, then the accounts as fields of the book ('a:<text>'), last the end of the record:
--          owner and the texts of the accounts.  The numbers are integers of 8 bytes, because packed
--          they cost less than as texts of their own: lease in ms, tokens, 1 money is enforced or 0
--          counted only, how many scopes; then of each scope: 1 shadow, per minute: requests,
--          tokens; leases (-1 no limit); then of each account: limit, 1 shadow, microseconds until
--          its window ends
-- Returns an integer when the call may go: 1 money + 2 rates are held, + 8 * the set of dimensions
-- in which a shadow refused; else {1 wait or 2 never, dimension, index (from 0) of the scope or
-- account, wait, interval, limit, free, shadows}, or {3, the generation found}.
local prefix, name, numbers = KEYS[1], ARGV[1], ARGV[4]
local lease_ms, tokens, is_enforced, scopes = read('<i8i8i8i8', numbers)
local book_key, record_key = prefix .. 'book', prefix .. 'n:' .. name
local NEVER, FOREVER, KEEP_MS = 2 ^ 53, MINUTE, 10800000
local REQUESTS, TOKENS, LEASES, MONEY, CLOSED = 0, 1, 2, 3, 4
local shadows, worst, refusal = {}, -1, nil

local function refuse(is_shadow, wait, interval, dimension, index, limit, free)
    if is_shadow then
        shadows[dimension] = true
    elseif wait > worst then
        worst = wait
        refusal = {wait == NEVER and 2 or 1, dimension, index, wait, interval, limit, free}
    end
    return false
end

-- The money: gen, ver, live and the record of this name stand before the accounts.
local accounts_at = 5 + scopes
local amount, book, has_money = tonumber(ARGV[3]), nil, ARGV[2] ~= ''
local record_field = 'r:' .. name
if has_money then
    book = call('HMGET', book_key, 'gen', 'ver', 'live', record_field,
                unpack(ARGV, accounts_at, #ARGV - 1))
    if book[1] ~= ARGV[2] then
        if is_enforced == 1 then
            return {3, book[1] or ''}
        end
        has_money = false
    end
end

local fields = nil
if has_money and not book[4] then
    fields = {'HSET', book_key, 'ver', format('%d', book[2] + 1), 'live',
              format('%d', book[3] + 1), record_field,
              'R ' .. ARGV[3] .. ' ' .. format('%d', now) .. ' ' .. ARGV[#ARGV]}
    for index = 0, #ARGV - 1 - accounts_at do
        local value = book[5 + index]
        local spent, reserved, unknown = 0, 0, 0
        if value then
            spent, reserved, unknown = match(value, '^(%S+) (%S+) (%S+)$')
            spent, reserved, unknown = tonumber(spent), tonumber(reserved), tonumber(unknown)
        end
        local limit, shadow, window_us = read('<i8i8i8', numbers, 33 + 32 * scopes + 24 * index)
        if spent + reserved + unknown + amount > limit then
            local is_shadow = shadow == 1
            local free = max(limit - spent - reserved - unknown, 0)
            if amount > limit then
                refuse(is_shadow, NEVER, 0, MONEY, index, limit, free)
            elseif reserved > 0 and spent + unknown + amount <= limit then
                refuse(is_shadow, min(1000000, window_us), 100000, MONEY, index, limit, free)
            else
                refuse(is_shadow, window_us, 0, MONEY, index, limit, free)
            end
        end
        fields[9 + 2 * index] = ARGV[accounts_at + index]
        fields[10 + 2 * index] = format('%d %d %d', spent, reserved + amount, unknown)
    end
end

-- The rates.  The record of this name, all states and the provider's closed sign come at once.
local has_rates, taken, states, renewals = scopes > 0, nil, {}, {}
if has_rates then
    local ask = {'MGET', record_key}
    for index = 0, scopes - 1 do
        local shadow = read('<i8', numbers, 33 + 32 * index)
        ask[3 + index] = prefix .. (shadow == 1 and 'x:' or 'l:') .. ARGV[5 + index]
    end
    if string.byte(prefix, 2) == 112 then -- {p:
        ask[3 + scopes] = prefix .. 'closed'
    end
    local got = call(unpack(ask))
    if not got[1] then
        local closed = tonumber(got[2 + scopes] or 0)
        if closed > now then
            refuse(false, closed - now, 0, CLOSED, 0, 0, 0)
        end
        taken = {now, tokens}
        for index = 0, scopes - 1 do
            local shadow, requests, per_minute, leases =
                read('<i8i8i8i8', numbers, 33 + 32 * index)
            local is_shadow = shadow == 1
            local ok, request_us, tokens_us = true, 0, 0
            local state, lease_key, renewal = nil, '', false
            if requests >= 0 or per_minute >= 0 then
                state = state_read(got[2 + index], now)
            end
            if requests == 0 then
                ok = refuse(is_shadow, FOREVER, 0, REQUESTS, index, 0, 0)
            elseif requests > 0 then
                request_us = ceil(MINUTE / requests)
                local tat = max(state[2], now) + request_us
                local wait = tat - burst_of(requests) * request_us - now
                if wait > 0 then
                    ok = refuse(is_shadow, wait, request_us, REQUESTS, index, requests, 0)
                end
                state[2] = tat
            end
            local cap = per_minute + (per_minute > 0 and burst_of(per_minute) or 0)
            if per_minute >= 0 and tokens > cap then
                ok = refuse(is_shadow, NEVER, 0, TOKENS, index, per_minute, 0)
            elseif per_minute > 0 then
                local newest, sum = ring_turn(state, now), tokens
                for slot = 5, 4 + RING do
                    sum = sum + state[slot]
                end
                tokens_us = ceil(tokens * MINUTE / per_minute)
                local tolerance = floor(burst_of(per_minute) * MINUTE / per_minute)
                local tat = max(state[3], now)
                local wait, over = 0, sum - cap
                if over > 0 then -- until it fits, by the spans that leave the window
                    wait = MINUTE
                    for number = newest - RING + 1, newest do
                        over = over - state[5 + number % RING]
                        if over <= 0 then
                            wait = (number + RING) * SPAN - now
                            break
                        end
                    end
                end
                if tat > now and tat + tokens_us - tolerance > now then
                    wait = max(wait, tat + min(tokens_us - tolerance, 0) - now)
                end
                if wait > 0 then
                    ok = refuse(is_shadow, wait, tokens_us, TOKENS, index, per_minute, 0)
                end
                state[3] = tat + tokens_us
                state[5 + newest % RING] = state[5 + newest % RING] + tokens
            end
            if leases >= 0 then
                lease_key = (is_shadow and 'y:' or 'c:') .. ARGV[5 + index]
                local key = prefix .. lease_key
                local out = call('ZCARD', key)
                if out >= leases then
                    call('ZREMRANGEBYSCORE', key, '-inf', format('%d', now))
                    out = call('ZCARD', key)
                end
                if out >= leases and leases == 0 then
                    ok = refuse(is_shadow, FOREVER, 0, LEASES, index, 0, 0)
                elseif out >= leases then
                    ok = refuse(is_shadow, 200000, 20000, LEASES, index, leases, 0)
                end
                -- The time to live of the key, but for when it surely is long enough.
                if out == 0 then
                    renewal = 'NX' -- the key is made anew, and stands for ever
                elseif not (state and state[4] and state[KEPT] >= now + lease_ms * 1000) then
                    renewal = 'GT'
                end
                if renewal and state and state[4] then
                    state[KEPT] = now + KEEP_MS * 1000
                end
            end
            if ok then -- of a shadow that refuses nothing is taken
                local last = #taken
                taken[last + 1] = string.sub(ask[3 + index], #prefix + 1)
                taken[last + 2] = request_us
                taken[last + 3] = tokens_us
                taken[last + 4] = lease_key
                states[#states + 1] = state or false
                renewals[#states] = renewal
            end
        end
    end
end

local shadow_set = 0
for dimension in pairs(shadows) do
    shadow_set = shadow_set + 2 ^ dimension
end
if refusal then
    refusal[8] = shadow_set
    return refusal
end

if fields then
    call(unpack(fields))
end
if taken then
    for i = 1, #states do
        local at = 4 * i - 1
        if states[i] then
            state_write(prefix .. taken[at], states[i], now)
        end
        if taken[at + 3] ~= '' then
            local key = prefix .. taken[at + 3]
            call('ZADD', key, format('%d', now + lease_ms * 1000), name)
            if renewals[i] then -- longer than any lease in it
                call('PEXPIRE', key, format('%d', max(lease_ms, KEEP_MS) + 1000), renewals[i])
            end
        end
    end
    call('SET', record_key, cmsgpack.pack(taken), 'PX', format('%d', lease_ms))
end
return (has_money and 1 or 0) + (has_rates and 2 or 0) + 8 * shadow_set
