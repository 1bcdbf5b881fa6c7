#!lua name=ringpost_shares_1
-- SPDX-License-Identifier: Apache-2.0
--
-- Limits that hold for all nodes: what the Redis server counts, of which nodes take portions. Each
-- function works on KEYS[1] alone. The keys lie beside the mails of a shard that a name chooses
-- ("tag" is "{prefix:shard}"), so that they spread as those do. Times are of the server's clock.
--
--   tag:limit:use:KIND:NAME   HASH  COUNT:WINDOW -> how much was handed out in that window
--   tag:limit:hold:KIND:NAME  HASH  node -> "HELD WANTED SINCE UNTIL": the places it has, how many
--                             it wants in all, since when it has any, or waits for the first, and
--                             when its lease on them ends
--   tag:limit:pace:KIND:NAME  STRING  microseconds: when the next one may happen
--   tag:limit:strike:KIND:NAME  HASH  failures: c how many, u when that is over or forgotten, and
--                             of one that is locked s its text for people
--   tag:limit:locks           ZSET  "KEY TEXT" of what is locked, by the end of that
--
-- Whoever changes what a function is asked or answers gives it, and the library, another number:
-- nodes of two versions then work side by side.

local PARTS = 6 -- windows of a period

local call, floor, max, min

local function start()
	call = redis.call
	floor, max, min = math.floor, math.max, math.min
end

local function now_ms()
	local t = call('TIME')
	return t[1] * 1000 + floor(t[2] / 1000)
end

-- A key goes when nobody needs it any more; never before.
local function expire(key, ms)
	call('EXPIRE', key, floor(ms / 1000) + 1)
end

local function number(text, name)
	local n = tonumber(text)
	if not n or n < 0 or n ~= floor(n) then
		error({ err = 'ERR ' .. name .. ' is not a number' })
	end
	return n
end

-- What was handed out of a count within the last period: in this window and the six before.
local function used(key, count, window)
	local fields = {}
	for i = 0, PARTS do
		fields[i + 1] = count .. ':' .. window - i
	end
	local values, sum = call('HMGET', key, unpack(fields)), 0
	for i = 1, #fields do
		sum = sum + (tonumber(values[i]) or 0)
	end
	return sum, values[1]
end

-- A count's first in a window: what is over goes, and the key lives as long as it is needed.
local function begin_window(key, count, window, part_ms)
	local fields = call('HKEYS', key)
	for i = 1, #fields do
		local name, at = string.match(fields[i], '^(%w+):(%d+)$')
		if name == count and tonumber(at) < window - PARTS then
			call('HDEL', key, fields[i])
		end
	end
	return (PARTS + 2) * part_ms
end

-- Not below 0: a fail-over may have lost what is given back.
local function give(key, count, window, given)
	local field = count .. ':' .. window
	local there = tonumber(call('HGET', key, field)) or 0
	if there > 0 then
		call('HSET', key, field, there - min(there, given))
	end
end

-- A sixteenth of what is left at a time, so that little is left with all nodes when they have to
-- share the rest; one, and what is needed now, in any case.
local function portion(left, need, want)
	return min(left, max(need, min(want, max(1, floor(left / 16)))))
end

-- (count period_ms most need want given window)* -> (granted, window, ms until it ends, left)*
-- Gives back `given` of what was granted in `window`, and takes.
local function rs1_use(keys, args)
	if not call then start() end
	local key, now, out, live_ms = keys[1], now_ms(), {}, 0
	if #args % 7 ~= 0 then
		error({ err = 'ERR wrong number of arguments' })
	end
	for i = 1, #args do
		if i % 7 ~= 1 then
			number(args[i], 'argument')
		end
	end

	for i = 1, #args, 7 do
		local count, part_ms = args[i], floor(args[i + 1] / PARTS)
		local most, need, want = tonumber(args[i + 2]), tonumber(args[i + 3]),
			tonumber(args[i + 4])
		local window = floor(now / part_ms)
		if args[i + 5] ~= '0' then
			give(key, count, args[i + 6], tonumber(args[i + 5]))
		end
		local sum, present = used(key, count, window)
		local granted = portion(max(0, most - sum), need, want)
		if granted > 0 then
			if not present then
				live_ms = max(live_ms, begin_window(key, count, window, part_ms))
			end
			call('HSET', key, count .. ':' .. window,
				(tonumber(present) or 0) + granted)
		end
		out[#out + 1] = granted
		out[#out + 1] = window
		out[#out + 1] = (window + 1) * part_ms - now
		out[#out + 1] = max(0, most - sum - granted)
	end
	if live_ms > 0 and call('PTTL', key) < live_ms then
		expire(key, live_ms)
	end
	return out
end

-- Tells all nodes something about a limit.
local function tell(what, key, text)
	local prefix = string.match(key, '^{(.*):%d+}:limit:')
	if prefix then
		call('PUBLISH', '{' .. prefix .. '}:wake',
			'limit ' .. what .. ' ' .. key .. (text and ' ' .. text or ''))
	end
end

-- The nodes that have, or want, places, without those whose lease is over.
local function read_holders(key, now)
	local fields, all = call('HGETALL', key), {}
	for i = 1, #fields, 2 do
		local held, wanted, since, until_ms =
			string.match(fields[i + 1], '^(%d+) (%d+) (%d+) (%d+)$')
		if held and tonumber(until_ms) > now then
			all[fields[i]] = { held = tonumber(held), wanted = tonumber(wanted),
				since = tonumber(since), until_ms = until_ms }
		else
			call('HDEL', key, fields[i])
		end
	end
	return all
end

local function write_holder(key, node, h)
	if h.held == 0 and h.wanted == 0 then
		call('HDEL', key, node)
	else
		call('HSET', key, node, string.format('%.0f %.0f %.0f %.0f', h.held, h.wanted,
			h.since, h.until_ms))
	end
end

-- What others have, how much those lack who have less than their part, of whom those who came
-- before `since` go first; whether one would take more; how many nodes want places.
local function look_around(all, node, most, since, wanted)
	local seen = { held = 0, lacking = 0, ahead = 0, hungry = false,
		nodes = wanted > 0 and 1 or 0 }
	for name, h in pairs(all) do
		if name ~= node then
			seen.held = seen.held + h.held
			seen.hungry = seen.hungry or h.wanted > h.held
			seen.nodes = seen.nodes + (h.wanted > 0 and 1 or 0)
		end
	end
	seen.part = max(1, floor(most / max(1, seen.nodes)))
	for name, h in pairs(all) do
		local lacks = max(0, min(h.wanted, seen.part) - h.held)
		if name ~= node and lacks > 0 then
			seen.lacking = seen.lacking + lacks
			if h.since < since or h.since == since and name < node then
				seen.ahead = seen.ahead + lacks
			end
		end
	end
	return seen
end

-- How many places are held by those who have had them for longer.
local function held_longer(all, node, since)
	local n = 0
	for name, h in pairs(all) do
		local longer = h.since < since or h.since == since and name < node
		if name ~= node and longer then
			n = n + h.held
		end
	end
	return n
end

-- What it may keep while others lack places, or the limit has shrunk, and how long until that is
-- less; -1: it stays.
local function keep_of(all, node, me, seen, most, now, turn_ms)
	local short, keep = seen.lacking + seen.held + me.held - most, me.held
	if short > 0 and me.wanted < keep then -- what is idle goes first
		keep = max(me.wanted, keep - short)
		short = short - (me.held - keep)
	end
	if short <= 0 or keep == 0 then
		return keep, -1
	elseif keep > seen.part then
		return max(seen.part, keep - short), -1
	elseif seen.nodes <= most or held_longer(all, node, me.since) >= short then
		return keep, -1
	elseif now - me.since < turn_ms then
		return keep, me.since + turn_ms - now
	end
	return 0, -1
end

-- node most has wanted lease_ms turn_ms
--   -> {held, keep, ms until keep is less or -1, 1: others lack some}
-- The node goes on holding `has` places at most, of those that are noted as its own, and wants
-- `wanted` in all: fewer than it has where some are idle. What it holds it has for lease_ms. Where
-- nodes want more than there is, each has an equal part; where there are fewer places than nodes,
-- each has one for turn_ms.
local function rs1_hold(keys, args)
	if not call then start() end
	local key, node, now = keys[1], args[1], now_ms()
	local most, has, wanted = number(args[2], 'most'), number(args[3], 'has'),
		number(args[4], 'wanted')
	local lease_ms, turn_ms = number(args[5], 'lease'), number(args[6], 'turn')
	local all = read_holders(key, now)
	local me = all[node]
	local new = not me or me.wanted <= me.held
	me = me or { held = 0, wanted = 0, since = now }
	local held_before = me.held

	me.held, me.wanted = min(has, me.held), wanted
	if me.held == 0 and held_before > 0 then
		me.since = now -- behind those who wait
	end
	local seen = look_around(all, node, most, me.since, me.wanted)
	local free = max(0, most - seen.held - me.held)
	local first = max(0, min(seen.part - me.held, free - seen.ahead)) -- up to its part
	local rest = max(0, free - first - seen.lacking)
	local granted = min(max(0, me.wanted - me.held), first + rest)
	if me.held == 0 and granted > 0 then
		me.since = now
	end
	me.held = me.held + granted
	me.until_ms = now + lease_ms
	all[node] = me
	write_holder(key, node, me)
	if next(all) then
		expire(key, 2 * lease_ms)
	end
	if seen.hungry and me.held < held_before then
		tell('free', key)
	end
	if new and me.held < min(me.wanted, seen.part) then
		tell('want', key)
	end
	local keep, until_less = keep_of(all, node, me, seen, most, now, turn_ms)
	return { me.held, keep, until_less, seen.lacking > 0 and 1 or 0 }
end

-- interval_us count -> us until the first of so many turns, which follow each other by the interval
local function rs1_pace(keys, args)
	if not call then start() end
	local interval, count = number(args[1], 'interval'), number(args[2], 'count')
	local t = call('TIME')
	local now = t[1] * 1000000 + t[2]
	local at = max(now, tonumber(call('GET', keys[1])) or 0)
	local next_at = at + count * interval
	call('SETEX', keys[1], floor((next_at - now) / 1000000) + 1, string.format('%.0f', next_at))
	return at - now
end

-- most window_ms lock_ms locks text -> {count, 1: locked, ms until that is over, 1: it began now}
-- One failure more; `locks`: and it is locked in any case. One that is locked stays so for its
-- time. All nodes are told of a lock that begins.
local function rs1_strike(keys, args)
	if not call then start() end
	local key, now = keys[1], now_ms()
	local most, window_ms, lock_ms = number(args[1], 'most'), number(args[2], 'window'),
		number(args[3], 'lock')
	local text = args[5]
	local before = call('HMGET', key, 'c', 'u', 's')
	local count, until_ms = tonumber(before[1]) or 0, tonumber(before[2]) or 0
	if until_ms <= now then
		count, before[3] = 0, false
	elseif before[3] then
		return { count, 1, until_ms - now, 0 }
	end
	count = count + 1
	local locked = count >= most or args[4] == '1'
	local ms = locked and lock_ms or window_ms
	call('HSET', key, 'c', count, 'u', now + ms)
	if locked then
		local locks = string.match(key, '^({.*:%d+}:limit:)') .. 'locks'
		call('HSET', key, 's', text)
		local over = call('ZRANGEBYSCORE', locks, '-inf', now, 'LIMIT', 0, 1000)
		if over[1] then
			call('ZREM', locks, unpack(over))
		end
		call('ZADD', locks, now + ms, key .. ' ' .. text)
		tell('lock ' .. ms .. ' ' .. count, key, text)
	else
		call('HDEL', key, 's')
	end
	expire(key, ms)
	return { count, locked and 1 or 0, ms, locked and 1 or 0 }
end

-- What failed is forgotten, unless it is locked; also by the nodes, where there was anything.
local function rs1_forgive(keys)
	if not call then start() end
	local key = keys[1]
	if call('HEXISTS', key, 's') == 1 or call('DEL', key) == 0 then
		return 0
	end
	tell('forgive', key)
	return 1
end

-- -> 1: it was locked
local function rs1_lift(keys)
	if not call then start() end
	local key = keys[1]
	local text = call('HGET', key, 's')
	call('DEL', key)
	if text then
		local locks = string.match(key, '^({.*:%d+}:limit:)') .. 'locks'
		call('ZREM', locks, key .. ' ' .. text)
	end
	tell('lift', key)
	return text and 1 or 0
end

-- All run when the server is out of memory: what is sent then makes room for it.
local function register(name, callback)
	redis.register_function{ function_name = name, callback = callback,
		flags = { 'allow-oom' } }
end

register('rs1_use', rs1_use)
register('rs1_hold', rs1_hold)
register('rs1_pace', rs1_pace)
register('rs1_strike', rs1_strike)
register('rs1_forgive', rs1_forgive)
register('rs1_lift', rs1_lift)
