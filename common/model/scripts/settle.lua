-- SPDX-License-Identifier: Apache-2.0
-- A call is over: moves its money and gives its rates back, by name.  Without a record, nothing.
--
-- KEYS[1]  prefix of all keys
-- ARGV     1 name  2 'S' settled, 'R' released, 'U' unknown, 'X' undone  3 numbers, packed as
--          those of admit: nano-dollars, tokens used (-1 not known), parts: 1 money + 2 rates
-- Returns 0 done, 1 the book is being made (say it again), 2 done but it cost more than reserved.
local prefix, name, how = KEYS[1], ARGV[1], ARGV[2]
local told, used, parts = read('<ddd', ARGV[3])

-- Gives back what the record took beyond what was used.  It is at, tokens, end of its leases, then
-- for each scope: key of its state, cost of the request, cost of its tokens (in microseconds), 1 if
-- it took a lease.  used < 0: not known, the estimate stays taken.
local raw = parts >= 2 and call('GETDEL', prefix .. 'h:' .. name)
if raw then
    local at, tokens, ends, place = read('ddd', raw)
    if how == 'R' or how == 'X' then
        used = 0
    end
    while place <= #raw do
        local scope, request_us, tokens_us, leases
        scope, request_us, tokens_us, leases, place = read('sddd', raw, place)
        local unused = used >= 0 and tokens_us > 0 and tokens - used or 0
        local request_back = how == 'X' and request_us or 0
        local raw_state = (unused ~= 0 or request_back > 0 or leases > 0) and
                          call('GET', prefix .. scope)
        if raw_state or unused < 0 then
            local now = nil -- what is given back needs none: asking for it is not cheap
            if unused < 0 then
                local time = call('TIME')
                now = time[1] * 1000000 + time[2]
            end
            local state = state_read(raw_state, now)
            now = state[1]
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
            if leases > 0 then
                leases_add(state, now, ends, -1)
            end
            state_write(prefix .. scope, state, now)
        end
    end
end
if parts == 2 then
    return 0
end

local key, record_field = prefix .. 'book', 'r:' .. name
local book = call('HMGET', key, 'head', record_field)
local head, record = book[1], book[2]
if head and string.sub(head, 17, 25) == 'building:' then
    return 1
end
if not head or not record then
    return 0
end
local state, amount, names = match(record, '^(%u) (%d+) %d+ %d+ ?(.*)$')
if how == 'U' and state == 'U' then
    return 0
end

amount = tonumber(amount)
local cost = how == 'S' and told or 0
local ask, count = {'HMGET', key}, 2
for account in string.gmatch(names, '%S+') do
    count = count + 1
    ask[count] = 'a:' .. account
end
local changes, live = read('<dd', head)
live = state == 'R' and live - 1 or live
local fields = {'HSET', key,
                'head', struct.pack('<ddc0', changes + 1, live, string.sub(head, 17))}
local last = 4
local values = count > 2 and call(unpack(ask)) or {}
for i = 3, count do
    local value = values[i - 2]
    if value then -- else it was of a window long past
        local spent, reserved, unknown = read('<ddd', value)
        if state == 'R' then
            reserved = reserved - amount
        else
            unknown = unknown - amount
        end
        if how == 'U' then
            unknown = unknown + amount
        end
        fields[last + 1] = ask[i]
        fields[last + 2] = struct.pack('<ddd', spent + cost, reserved, unknown)
        last = last + 2
    end
end
if how == 'U' then
    fields[last + 1] = record_field
    fields[last + 2] = 'U' .. string.sub(record, 2)
else
    call('HDEL', key, record_field)
end
call(unpack(fields))
return cost > amount and 2 or 0
