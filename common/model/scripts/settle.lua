-- A call is over: moves its money and gives its rates back, by name.  Without a record, nothing.
--
-- KEYS[1]  prefix of all keys
-- ARGV     1 name  2 'S' settled, 'R' released, 'U' unknown, 'X' undone  3 nano-dollars
--          4 tokens used, -1 not known  5 parts: 1 money + 2 rates
-- Returns 0 done, 1 the book is being made (say it again), 2 done but it cost more than reserved.
local prefix, name, how, parts = KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[5])

if parts >= 2 then
    local raw = call('GET', prefix .. 'n:' .. name)
    if raw then
        local used = (how == 'R' or how == 'X') and 0 or tonumber(ARGV[4])
        rates_end(prefix, name, raw, time_us(), used, how == 'X')
    end
end
if parts % 2 == 0 then
    return 0
end

local book = call('HMGET', prefix .. 'book', 'gen', 'ver', 'live', 'r:' .. name)
if book[1] and string.sub(book[1], 1, 9) == 'building:' then
    return 1
end
if not book[4] then
    return 0
end
local state, amount_text, rest = match(book[4], '^(%u) (%d+) (.*)$')
if how == 'U' and state == 'U' then
    return 0
end

local amount = tonumber(amount_text)
local cost = how == 'S' and tonumber(ARGV[3]) or 0
local accounts = {}
local ask = {'HMGET', prefix .. 'book'}
for account in string.gmatch(match(rest, '^%d+ %d+ ?(.*)$'), '%S+') do
    accounts[#accounts + 1] = 'a:' .. account
    ask[#ask + 1] = 'a:' .. account
end
local fields = {'HSET', prefix .. 'book', 'ver', format('%d', book[2] + 1)}
if state == 'R' then
    fields[5], fields[6] = 'live', format('%d', book[3] - 1)
end
local values = #accounts > 0 and call(unpack(ask)) or {}
for i = 1, #accounts do
    if values[i] then -- else it was of a window long past
        local spent, reserved, unknown = match(values[i], '^(%S+) (%S+) (%S+)$')
        spent, reserved, unknown = spent + cost, tonumber(reserved), tonumber(unknown)
        if state == 'R' then
            reserved = reserved - amount
        else
            unknown = unknown - amount
        end
        if how == 'U' then
            unknown = unknown + amount
        end
        fields[#fields + 1] = accounts[i]
        fields[#fields + 1] = format('%d %d %d', spent, reserved, unknown)
    end
end
if how == 'U' then
    fields[#fields + 1] = 'r:' .. name
    fields[#fields + 1] = 'U ' .. amount_text .. ' ' .. rest
else
    call('HDEL', prefix .. 'book', 'r:' .. name)
end
call(unpack(fields))
return cost > amount and 2 or 0
