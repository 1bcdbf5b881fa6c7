#!lua name=ringpost_shares_1
-- SPDX-License-Identifier: Apache-2.0
--
-- Limits that hold for all nodes: what the Redis server counts, of which nodes take portions. Each
-- function works on KEYS[1] alone. The keys lie beside the mails of a shard that their name chooses
-- ("tag" is "{prefix:shard}"), so that they spread as those do. Times are of the server's clock.
--
--   tag:limit:use:KIND:NAME   HASH  COUNT:WINDOW -> how much was handed out in that window
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
		call('HINCRBY', key, field, -min(there, given))
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
			call('HINCRBY', key, count .. ':' .. window, granted)
		end
		out[#out + 1] = granted
		out[#out + 1] = window
		out[#out + 1] = (window + 1) * part_ms - now
		out[#out + 1] = max(0, most - sum - granted)
	end
	if live_ms > 0 and call('PTTL', key) < live_ms then
		call('PEXPIRE', key, live_ms)
	end
	return out
end

-- All run when the server is out of memory: what is sent then makes room for it.
local function register(name, callback)
	redis.register_function{ function_name = name, callback = callback,
		flags = { 'allow-oom' } }
end

register('rs1_use', rs1_use)
