-- SPDX-License-Identifier: Apache-2.0
-- A tenant's book for those who rebuild and check it: book_redis.h.
--
-- KEYS[1]  prefix of all keys
-- ARGV     1 what  2 generation, then what it needs
-- Returns 1 done, 0 not ours; head and accounts return lists.
local key, what, generation = KEYS[1] .. 'book', ARGV[1], ARGV[2]
local found = redis.call('HGET', key, 'gen')
local FIXED = 3 -- gen, ver, live

-- Is a of a later generation than b?
local function is_later(a, b)
    local a1, a2 = string.match(a, '(%d+)%.(%d+)$')
    local b1, b2 = string.match(b, '(%d+)%.(%d+)$')
    a1, a2, b1, b2 = tonumber(a1), tonumber(a2), tonumber(b1), tonumber(b2)
    return not b1 or a1 > b1 or (a1 == b1 and a2 > b2)
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
    redis.call('HSET', key, 'gen', 'building:' .. generation, 'ver', 0, 'live', 0)
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
    local live = 0
    for _, value in ipairs(redis.call('HVALS', key)) do
        if string.sub(value, 1, 2) == 'R ' then
            live = live + 1
        end
    end
    redis.call('HSET', key, 'gen', generation, 'ver', 1, 'live', live)
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
        if value and string.match(value, ' 0 0$') then
            redis.call('HDEL', key, ARGV[at])
            redis.call('HINCRBY', key, 'ver', 1)
        end
    end
    return 1
elseif what == 'accounts' then
    if found ~= generation then
        return false
    end
    return redis.call('HMGET', key, unpack(ARGV, 3))
end
local head = redis.call('HMGET', key, 'ver', 'live')
return {found or '', head[1] or '0', head[2] or '0', math.max(redis.call('HLEN', key) - FIXED, 0)}
