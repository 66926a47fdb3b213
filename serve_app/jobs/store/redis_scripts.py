"""Lua: what must be checked and done as one in Redis. Each script tells first whether it may.

Knows the keys of a store: `store` is a hash of facts about it, `pages` its pages by number, `changed` the
number of the commit that changed each page last, `lease` who writes. Every script gets them in this order.
A script that finds no memory left fails at its first write, before anything is done.
"""

from __future__ import annotations

# ARGV: holder, milliseconds, holder that is known to be dead or '', format.
TAKE = """
local holder = redis.call('GET', KEYS[4])
if holder and holder ~= ARGV[1] and (holder ~= ARGV[3] or holder == '') then
    return {'held', holder, redis.call('PTTL', KEYS[4])}
end
redis.call('HSET', KEYS[1], 'format', ARGV[4])
local term = redis.call('HINCRBY', KEYS[1], 'term', 1)
redis.call('SET', KEYS[4], ARGV[1], 'PX', ARGV[2])
local facts = redis.call('HMGET', KEYS[1], 'nonce', 'size', 'page_size')
return {'taken', term, facts[1] or '', facts[2] or '0', facts[3] or '0'}
"""

# ARGV: holder, milliseconds, term. PEXPIRE works without memory, too.
RENEW = """
if redis.call('HGET', KEYS[1], 'term') ~= ARGV[3] then
    return {'held', redis.call('GET', KEYS[4]) or ''}
end
if redis.call('GET', KEYS[4]) == ARGV[1] then
    redis.call('PEXPIRE', KEYS[4], ARGV[2])
else
    redis.call('SET', KEYS[4], ARGV[1], 'PX', ARGV[2])
end
return {'kept'}
"""

# ARGV: holder, term. The term stays: whoever comes next gets a higher one.
RELEASE = """
if redis.call('HGET', KEYS[1], 'term') == ARGV[2] and redis.call('GET', KEYS[4]) == ARGV[1] then
    redis.call('DEL', KEYS[4])
end
return {'kept'}
"""

# ARGV: term, nonce, the nonces that may be there now with commas around each, page size, size, then number
# and bytes of each page. `unpack` takes some thousand values at most.
COMMIT = """
local facts = redis.call('HMGET', KEYS[1], 'term', 'commit', 'nonce', 'size')
if facts[1] ~= ARGV[1] then return {'held', redis.call('GET', KEYS[4]) or ''} end
if facts[3] == ARGV[2] then return {'kept'} end
if not string.find(ARGV[3], ',' .. (facts[3] or '') .. ',', 1, true) then
    return {'other', facts[2] or '0'}
end
local commit = tonumber(facts[2] or '0') + 1
redis.call('HSET', KEYS[1], 'commit', commit, 'nonce', ARGV[2], 'page_size', ARGV[4], 'size', ARGV[5])
for first = 6, #ARGV, 4000 do
    redis.call('HSET', KEYS[2], unpack(ARGV, first, math.min(first + 3999, #ARGV)))
end
for at = 6, #ARGV, 2 do
    redis.call('ZADD', KEYS[3], commit, ARGV[at])
end
for page = tonumber(ARGV[5]) + 1, tonumber(facts[4] or '0') do
    redis.call('HDEL', KEYS[2], page)
    redis.call('ZREM', KEYS[3], page)
end
return {'kept'}
"""

# ARGV: a commit. What changed after it, all of one moment.
SINCE = """
local facts = redis.call('HMGET', KEYS[1], 'commit', 'size')
local found = {facts[1] or '0', facts[2] or '0'}
for _, page in ipairs(redis.call('ZRANGEBYSCORE', KEYS[3], '(' .. ARGV[1], '+inf')) do
    found[#found + 1] = page
    found[#found + 1] = redis.call('HGET', KEYS[2], page)
end
return found
"""

# ARGV: nonce, size, page size. The pages of a copy are all there.
COPIED = """
redis.call('HSET', KEYS[1], 'commit', 1, 'nonce', ARGV[1], 'size', ARGV[2], 'page_size', ARGV[3])
redis.call('HDEL', KEYS[1], 'copying', 'copied')
return {'kept'}
"""
