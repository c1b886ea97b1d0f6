-- SPDX-License-Identifier: Apache-2.0
-- May this call be made now?  All scopes and accounts are checked, then all is written, or nothing.
--
-- KEYS[1]  prefix of all keys: "{t:acme}:", or "{p:main}:" for a provider's account
-- ARGV     1 name  2 generation ('' no money)  3 nano-dollars  4 numbers, then the scopes as the
--          keys of their states ('m:<text>', or 'z:<text>' of a shadow), then the accounts as fields
--          of the book ('a:<text>'), last the end of the record: owner and the texts of the
--          accounts.  The numbers are doubles, because packed they cost less than as
--          texts of their own: lease in ms, the grain of its end in us, tokens, 1 money is enforced
--          or 0 counted only, how many scopes; then of each scope: 1 shadow, per minute: requests,
--          tokens; leases (-1 no limit); then of each account: limit, 1 shadow, microseconds until
--          its window ends
-- Returns an integer when the call may go: 1 money + 2 rates are held, + 8 * the set of dimensions
-- in which a shadow refused; else {1 wait or 2 never, dimension, index (from 0) of the scope or
-- account, wait, interval, limit, free, shadows}, or {3, the generation found}.
local prefix, name, numbers = KEYS[1], ARGV[1], ARGV[4]
local time = call('TIME')
local now = time[1] * 1000000 + time[2]
local lease_ms, grain, tokens, is_enforced, scopes = read('<ddddd', numbers)
local NEVER, FOREVER = 2 ^ 53, MINUTE
local REQUESTS, TOKENS, LEASES, MONEY, CLOSED = 0, 1, 2, 3, 4
local refusals = {} -- each {is_shadow, wait, interval, dimension, index, limit, free}

-- The money: the head (book_redis.h) and the record of this name stand before the accounts.
local accounts_at = 5 + scopes
local amount, book, has_money = tonumber(ARGV[3]), nil, ARGV[2] ~= ''
local generation = ''
local record_field = 'r:' .. name
if has_money then
    book = call('HMGET', prefix .. 'book', 'head', record_field,
                unpack(ARGV, accounts_at, #ARGV - 1))
    generation = book[1] and string.sub(book[1], 17) or ''
    if generation ~= ARGV[2] then
        if is_enforced == 1 then
            return {3, generation}
        end
        has_money = false
    end
end

local fields = nil
if has_money and not book[2] then
    local changes, live = read('<dd', book[1])
    fields = {'HSET', prefix .. 'book',
              'head', struct.pack('<ddc0', changes + 1, live + 1, generation), record_field,
              'R ' .. ARGV[3] .. ' ' .. format('%d', now) .. ' ' .. ARGV[#ARGV]}
    for index = 0, #ARGV - 1 - accounts_at do
        local value = book[3 + index]
        local spent, reserved, unknown = 0, 0, 0
        if value then
            spent, reserved, unknown = read('<ddd', value)
        end
        local limit, shadow, window_us = read('<ddd', numbers, 41 + 32 * scopes + 24 * index)
        if spent + reserved + unknown + amount > limit then
            local wait, interval = window_us, 0
            if amount > limit then
                wait = NEVER
            elseif reserved > 0 and spent + unknown + amount <= limit then
                wait, interval = min(1000000, window_us), 100000
            end
            refusals[#refusals + 1] = {shadow == 1, wait, interval, MONEY, index, limit,
                                       max(limit - spent - reserved - unknown, 0)}
        end
        fields[7 + 2 * index] = ARGV[accounts_at + index]
        fields[8 + 2 * index] = struct.pack('<ddd', spent, reserved + amount, unknown)
    end
end

-- The rates.  The record of this name, all states and the provider's closed sign come at once.
local has_rates, taken, states = scopes > 0, nil, {}
local record_key, ends = prefix .. 'h:' .. name, 0
if has_rates then
    local ask = {'MGET', record_key}
    for index = 0, scopes - 1 do
        ask[3 + index] = prefix .. ARGV[5 + index]
    end
    if string.byte(prefix, 2) == 112 then -- {p:
        ask[3 + scopes] = prefix .. 'closed'
    end
    local got = call(unpack(ask))
    if not got[1] then
        local closed = got[2 + scopes]
        if closed and tonumber(closed) > now then
            refusals[#refusals + 1] = {false, closed - now, 0, CLOSED, 0, 0, 0}
        end
        ends = ceil((now + lease_ms * 1000) / grain) * grain
        taken = {now, tokens, ends}
        for index = 0, scopes - 1 do
            local shadow, requests, per_minute, leases =
                read('<dddd', numbers, 41 + 32 * index)
            local is_shadow, before = shadow == 1, #refusals
            local state, request_us, tokens_us = state_read(got[2 + index], now), 0, 0
            if requests == 0 then
                refusals[before + 1] = {is_shadow, FOREVER, 0, REQUESTS, index, 0, 0}
            elseif requests > 0 then
                request_us = ceil(MINUTE / requests)
                local tat = max(state[2], now) + request_us
                local wait = tat - burst_of(requests) * request_us - now
                if wait > 0 then
                    refusals[before + 1] =
                        {is_shadow, wait, request_us, REQUESTS, index, requests, 0}
                end
                state[2] = tat
            end
            local cap = per_minute + (per_minute > 0 and burst_of(per_minute) or 0)
            if per_minute >= 0 and tokens > cap then
                refusals[#refusals + 1] = {is_shadow, NEVER, 0, TOKENS, index, per_minute, 0}
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
                    refusals[#refusals + 1] =
                        {is_shadow, wait, tokens_us, TOKENS, index, per_minute, 0}
                end
                state[3] = tat + tokens_us
                state[5 + newest % RING] = state[5 + newest % RING] + tokens
            end
            if leases == 0 then
                refusals[#refusals + 1] = {is_shadow, FOREVER, 0, LEASES, index, 0, 0}
            elseif leases > 0 then
                if leases_add(state, now, ends, 1) > leases then
                    refusals[#refusals + 1] =
                        {is_shadow, 200000, 20000, LEASES, index, leases, 0}
                end
            end
            if #refusals == before and (requests >= 0 or per_minute >= 0 or leases >= 0) then
                -- (of a shadow that refuses nothing is taken)
                local last = #taken
                taken[last + 1] = ARGV[5 + index]
                taken[last + 2] = request_us
                taken[last + 3] = tokens_us
                taken[last + 4] = leases > 0 and 1 or 0
                states[#states + 1] = state
            end
        end
    end
end

local shadows, worst = 0, nil
for i = 1, #refusals do
    local refusal = refusals[i]
    local bit = 2 ^ refusal[4]
    if not refusal[1] then
        worst = (worst and worst[2] >= refusal[2]) and worst or refusal
    elseif shadows % (2 * bit) < bit then
        shadows = shadows + bit
    end
end
if worst then
    return {worst[2] == NEVER and 2 or 1, worst[4], worst[5], worst[2], worst[3], worst[6],
            worst[7], shadows}
end

if fields then
    call(unpack(fields))
end
if taken then
    for i = 1, #states do
        state_write(prefix .. taken[4 * i], states[i], now)
    end
    call('SET', record_key, struct.pack('ddd' .. string.rep('sddd', #states), unpack(taken)),
         'PX', format('%d', lease_ms))
end
return (has_money and 1 or 0) + (has_rates and 2 or 0) + 8 * shadows
