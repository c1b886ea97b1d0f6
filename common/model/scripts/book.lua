-- SPDX-License-Identifier: Apache-2.0
-- A tenant's book for those who rebuild and check it: book_redis.h.
--
-- KEYS[1]  prefix of all keys
-- ARGV     1 what  2 generation, then what it needs
-- Returns 1 done, 0 not ours; head and accounts return lists.
local key, what, generation = KEYS[1] .. 'book', ARGV[1], ARGV[2]
local head = redis.call('HGET', key, 'head')
local found, changes, live = nil, 0, 0
if head then
    found, changes, live = string.sub(head, 17), struct.unpack('<dd', head)
end
local FIXED = 1 -- the head

-- Is a of a later generation than b?
local function is_later(a, b)
    local a1, a2 = string.match(a, '(%d+)%.(%d+)$')
    local b1, b2 = string.match(b, '(%d+)%.(%d+)$')
    a1, a2, b1, b2 = tonumber(a1), tonumber(a2), tonumber(b1), tonumber(b2)
    return not b1 or a1 > b1 or (a1 == b1 and a2 > b2)
end

local function write_head(text, changes, live)
    redis.call('HSET', key, 'head', struct.pack('<ddc0', changes, live, text))
end

-- Writes field, value, field, value... of ARGV from first on.
local function write_all(first)
    for at = first, #ARGV, 1000 do
        redis.call('HSET', key, unpack(ARGV, at, math.min(at + 999, #ARGV)))
    end
end

if what == 'mark' then
    if found == 'building:' .. generation then
        return 1 -- said before: what was written since stays
    elseif found and not is_later(generation, found) then
        return 0
    end
    redis.call('UNLINK', key)
    write_head('building:' .. generation, 0, 0)
    return 1
elseif what == 'write' then
    if found ~= 'building:' .. generation then
        return 0
    end
    write_all(3)
    return 1
elseif what == 'publish' then
    if found == generation then
        return 1
    elseif found ~= 'building:' .. generation or
           redis.call('HLEN', key) ~= tonumber(ARGV[3]) + FIXED then
        return 0
    end
    local all = redis.call('HGETALL', key)
    live = 0
    for at = 1, #all, 2 do
        if string.sub(all[at], 1, 2) == 'r:' and string.sub(all[at + 1], 1, 2) == 'R ' then
            live = live + 1
        end
    end
    write_head(generation, 1, live)
    return 1
elseif what == 'forget' then
    if found ~= generation then
        return 0
    end
    redis.call('UNLINK', key)
    return 1
elseif what == 'prune' then
    if found ~= generation then
        return 0
    end
    for at = 3, #ARGV do
        local value = redis.call('HGET', key, ARGV[at])
        if value and string.sub(value, 9) == string.rep('\0', 16) then -- nothing is booked
            redis.call('HDEL', key, ARGV[at])
            changes = changes + 1
            write_head(generation, changes, live)
        end
    end
    return 1
elseif what == 'accounts' then
    if found ~= generation then
        return false
    end
    return redis.call('HMGET', key, unpack(ARGV, 3))
end
return {found or '', changes, live, math.max(redis.call('HLEN', key) - FIXED, 0)}
