-- May this call be made now?  All scopes and accounts are checked, then all is written, or nothing.
--
-- KEYS[1]  prefix of all keys: "{t:acme}:", or "{p:main}:" for a provider's account
-- ARGV     1 name  2 lease in ms  3 tokens  4 generation ('' no money)  5 nano-dollars  6 owner
--          7 '1' money is enforced, '0' counted only
--          8 how many scopes, then of each: text, '1' shadow, per minute: requests, tokens; leases
--            (-1 no limit)
--          then of each account: text, limit, '1' shadow, microseconds until its window ends
-- Returns an integer when the call may go: 1 money + 2 rates are held, + 8 * the set of dimensions
-- in which a shadow refused; else {1 wait or 2 never, dimension, index (from 0) of the scope or
-- account, wait, interval, limit, free, shadows}, or {3, the generation found}.
local prefix, name, tokens = KEYS[1], ARGV[1], tonumber(ARGV[3])
local now = time_us()
local NEVER, FOREVER = 2 ^ 53, MINUTE
local REQUESTS, TOKENS, LEASES, MONEY, CLOSED = 0, 1, 2, 3, 4
local scopes = tonumber(ARGV[8])
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
local accounts_at = 9 + 5 * scopes
local amount, book, has_money = tonumber(ARGV[5]), nil, ARGV[4] ~= ''
if has_money then
    local ask = {'HMGET', prefix .. 'book', 'gen', 'ver', 'live', 'r:' .. name}
    for at = accounts_at, #ARGV, 4 do
        ask[#ask + 1] = 'a:' .. ARGV[at]
    end
    book = call(unpack(ask))
    if book[1] ~= ARGV[4] then
        if ARGV[7] == '1' then
            return {3, book[1] or ''}
        end
        has_money = false
    end
end

local fields = nil
if has_money and not book[4] then
    fields = {'HSET', prefix .. 'book', 'ver', format('%d', book[2] + 1), 'live',
              format('%d', book[3] + 1), 'r:' .. name, ''}
    local record = {'R', ARGV[5], format('%d', now), ARGV[6]}
    local index = 0
    for at = accounts_at, #ARGV, 4 do
        local value = book[5 + index]
        local spent, reserved, unknown = 0, 0, 0
        if value then
            spent, reserved, unknown = match(value, '^(%S+) (%S+) (%S+)$')
            spent, reserved, unknown = tonumber(spent), tonumber(reserved), tonumber(unknown)
        end
        local limit = tonumber(ARGV[at + 1])
        if spent + reserved + unknown + amount > limit then
            local is_shadow, window_us = ARGV[at + 2] == '1', tonumber(ARGV[at + 3])
            local free = max(limit - spent - reserved - unknown, 0)
            if amount > limit then
                refuse(is_shadow, NEVER, 0, MONEY, index, limit, free)
            elseif reserved > 0 and spent + unknown + amount <= limit then
                refuse(is_shadow, min(1000000, window_us), 100000, MONEY, index, limit, free)
            else
                refuse(is_shadow, window_us, 0, MONEY, index, limit, free)
            end
        end
        fields[#fields + 1] = 'a:' .. ARGV[at]
        fields[#fields + 1] = format('%d %d %d', spent, reserved + amount, unknown)
        record[#record + 1] = ARGV[at]
        index = index + 1
    end
    fields[8] = table.concat(record, ' ')
end

local function check_requests(state, limit, is_shadow, index)
    if limit == 0 then
        return refuse(is_shadow, FOREVER, 0, REQUESTS, index, 0, 0)
    end
    local each = ceil(MINUTE / limit)
    local tat = max(state[2], now) + each
    local wait = tat - burst_of(limit) * each - now
    if wait > 0 then
        return refuse(is_shadow, wait, each, REQUESTS, index, limit, 0)
    end
    state[2] = tat
    return true, each
end

-- How long until sum + tokens fits under the cap, by the spans that leave the window.
local function window_wait(state, newest, over)
    for number = newest - RING + 1, newest do
        over = over - state[5 + number % RING]
        if over <= 0 then
            return (number + RING) * SPAN - now
        end
    end
    return MINUTE
end

local function check_tokens(state, limit, is_shadow, index)
    local cap = limit + (limit > 0 and burst_of(limit) or 0)
    if tokens > cap then
        return refuse(is_shadow, NEVER, 0, TOKENS, index, limit, 0)
    elseif limit == 0 then
        return true, 0
    end
    local newest, sum = ring_turn(state, now), tokens
    for slot = 5, 4 + RING do
        sum = sum + state[slot]
    end
    local cost = ceil(tokens * MINUTE / limit)
    local tolerance = floor(burst_of(limit) * MINUTE / limit)
    local tat = max(state[3], now)
    local wait = sum > cap and window_wait(state, newest, sum - cap) or 0
    if tat > now and tat + cost - tolerance > now then
        wait = max(wait, tat + min(cost - tolerance, 0) - now)
    end
    if wait > 0 then
        return refuse(is_shadow, wait, cost, TOKENS, index, limit, 0)
    end
    state[3] = tat + cost
    state[5 + newest % RING] = state[5 + newest % RING] + tokens
    return true, cost
end

local function check_leases(key, limit, is_shadow, index)
    local out = call('ZCARD', key)
    if out >= limit then
        call('ZREMRANGEBYSCORE', key, '-inf', format('%d', now))
        out = call('ZCARD', key)
        if out >= limit then
            if limit == 0 then
                return refuse(is_shadow, FOREVER, 0, LEASES, index, 0, 0)
            end
            return refuse(is_shadow, 200000, 20000, LEASES, index, limit, 0)
        end
    end
    return true
end

-- The rates.  The record of this name, the provider's closed sign and all states come at once.
local has_rates, taken, states = scopes > 0, nil, {}
local rates_record = nil
if has_rates then
    local ask = {'MGET', prefix .. 'n:' .. name, prefix .. 'closed'}
    for index = 0, scopes - 1 do
        local at = 9 + 5 * index
        ask[#ask + 1] = prefix .. (ARGV[at + 1] == '1' and 'x:' or 'l:') .. ARGV[at]
    end
    local got = call(unpack(ask))
    rates_record = got[1]
    if not rates_record then
        if got[2] and tonumber(got[2]) > now then
            refuse(false, tonumber(got[2]) - now, 0, CLOSED, 0, 0, 0)
        end
        taken = {now, tokens}
        for index = 0, scopes - 1 do
            local at = 9 + 5 * index
            local is_shadow = ARGV[at + 1] == '1'
            local requests, per_minute = tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3])
            local leases = tonumber(ARGV[at + 4])
            local ok, request_us, tokens_us = true, 0, 0
            local state, lease_key = nil, ''
            if requests >= 0 or per_minute >= 0 then
                state = state_read(got[3 + index], now)
            end
            if requests >= 0 then
                ok, request_us = check_requests(state, requests, is_shadow, index)
            end
            if per_minute >= 0 then
                local fits, cost = check_tokens(state, per_minute, is_shadow, index)
                ok, tokens_us = ok and fits, cost
            end
            if leases >= 0 then
                lease_key = (is_shadow and 'y:' or 'c:') .. ARGV[at]
                ok = check_leases(prefix .. lease_key, leases, is_shadow, index) and ok
            end
            if ok then -- of a shadow that refuses nothing is taken
                taken[#taken + 1] = string.sub(ask[4 + index], #prefix + 1)
                taken[#taken + 1] = request_us
                taken[#taken + 1] = tokens_us
                taken[#taken + 1] = lease_key
                states[#states + 1] = state or false
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
    local lease_ms = tonumber(ARGV[2])
    for i = 1, #states do
        local at = 4 * i - 1
        if states[i] then
            state_write(prefix .. taken[at], states[i], now)
        end
        if taken[at + 3] ~= '' then
            local key = prefix .. taken[at + 3]
            call('ZADD', key, format('%d', now + lease_ms * 1000), name)
            -- Longer than any lease in it.
            call('PEXPIRE', key, format('%d', max(lease_ms, 7200000) + 1000))
        end
    end
    call('SET', prefix .. 'n:' .. name, cmsgpack.pack(taken), 'PX', ARGV[2])
end
return (has_money and 1 or 0) + (has_rates and 2 or 0) + 8 * shadow_set
