-- SPDX-License-Identifier: Apache-2.0
--
-- The nodes, and what they ask of each other: the end of the library that functions.lua begins,
-- whose locals it uses, and whose list of keys has those of this part.

local NODE_KEPT_MS = 3600 * 1000 -- the row of a node that died: until its mails were taken over
local TOLD_S = 120 -- an answer: longer than anybody asks for it

-- All who listen for wakes.
local function tell(tag, message)
	local prefix = match(tag, '^{(.*):%d+}$')
	if prefix then
		call('PUBLISH', '{' .. prefix .. '}:wake', message)
	end
end

-- When it was written first and last, the length of its lease, and what the node says of itself.
local function read_row(row)
	local since, seen, lease_ms, text = match(row, '^(%d+) (%d+) (%d+) (.*)$')
	return tonumber(since), tonumber(seen), tonumber(lease_ms), text
end

local function forget_nodes(tag, now)
	local rows = call('HGETALL', tag .. ':nodes')
	for i = 1, #rows, 2 do
		local _, seen = read_row(rows[i + 1])
		if seen + NODE_KEPT_MS <= now then
			call('HDEL', tag .. ':nodes', rows[i])
			call('HDEL', tag .. ':drain', rows[i])
		end
	end
end

-- inc lease_ms text -> {now, 1 where it is to drain, else 0}. The node is there.
local function rp_node(keys, args)
	if not call then start() end
	local tag, inc, lease_ms = keys[1], args[1], number(args[2], 'lease')
	local now = now_ms()
	local old = call('HGET', tag .. ':nodes', inc)
	local since = now
	if old then
		since = read_row(old)
	else
		forget_nodes(tag, now)
	end
	call('HSET', tag .. ':nodes', inc, since .. ' ' .. now .. ' ' .. lease_ms .. ' ' .. args[3])
	return { now, call('HEXISTS', tag .. ':drain', inc) }
end

-- inc -> OK. It has stopped.
local function rp_node_stops(keys, args)
	if not call then start() end
	local tag, inc = keys[1], args[1]
	call('HDEL', tag .. ':nodes', inc)
	call('HDEL', tag .. ':drain', inc)
	return 'OK'
end

-- -> {now, {inc, since, seen, lease_ms, text, 1 where it is to drain}, ...}
local function rp_nodes(keys)
	if not call then start() end
	local tag, now = keys[1], now_ms()
	local rows, out = call('HGETALL', tag .. ':nodes'), { now }
	for i = 1, #rows, 2 do
		local since, seen, lease_ms, text = read_row(rows[i + 1])
		if seen + NODE_KEPT_MS > now then
			out[#out + 1] = { rows[i], since, seen, lease_ms, text,
				call('HEXISTS', tag .. ':drain', rows[i]) }
		end
	end
	return out
end

-- inc 1|0 -> OK | NONE no such node. It is to drain, or to take mail again.
local function rp_drain(keys, args)
	if not call then start() end
	local tag, inc = keys[1], args[1]
	if call('HEXISTS', tag .. ':nodes', inc) == 0 then
		return 'NONE'
	end
	if args[2] == '1' then
		call('HSET', tag .. ':drain', inc, 1)
	else
		call('HDEL', tag .. ':drain', inc)
	end
	tell(tag, 'node ' .. inc)
	return 'OK'
end

-- -> {{inc, mails that it owns in this shard}, ...}
local function rp_owners(keys)
	if not call then start() end
	local tag, out = keys[1], {}
	local leases = call('HKEYS', tag .. ':leases')
	for i = 1, #leases do
		out[i] = { leases[i], call('SCARD', tag .. ':own:' .. leases[i]) }
	end
	return out
end

-- inc owner cursor most -> {owner, cursor, {id, {field, value, ...}}, ...}: mails that others own
-- and that are in no index, since nobody has tried them yet, from this cursor of this owner on
-- (0, 0); and with what to go on. An owner of -1: these are the last.
local function rp_fresh(keys, args)
	if not call then start() end
	local tag, inc, owner = keys[1], args[1], number(args[2], 'owner')
	local leases, owners = call('HKEYS', tag .. ':leases'), {}
	for i = 1, #leases do
		if leases[i] ~= inc then
			owners[#owners + 1] = leases[i]
		end
	end
	if owner >= #owners then
		return { -1, '0' }
	end
	table.sort(owners)
	local scan = call('SSCAN', tag .. ':own:' .. owners[owner + 1], args[3], 'COUNT', args[4])
	local out = { owner, scan[1] }
	if scan[1] == '0' then
		out[1] = owner + 1 < #owners and owner + 1 or -1
	end
	for i = 1, #scan[2] do
		local m = tag .. ':m:' .. scan[2][i]
		if call('HEXISTS', m, 'k') == 0 then
			out[#out + 1] = { scan[2][i], call('HGETALL', m) }
		end
	end
	return out
end

-- inc token id action who why -> what rp_act says of a mail that nobody owns | MINE it is inc's |
-- ASKED its owner was told: ask again | what the owner answered. `who` is one line.
local function rp_ask(keys, args)
	if not call then start() end
	local tag, inc, token, id = keys[1], args[1], args[2], args[3]
	local action = actions[args[4]]
	if not action or #args ~= 6 then
		error({ err = 'ERR no such action, or a wrong number of arguments' })
	end
	local told = call('GET', tag .. ':told:' .. token)
	if told then
		return told
	end
	local m = tag .. ':m:' .. id
	local mail = call('HMGET', m, 'o', 'b', 'k', 'h', 'd', 'f')
	if not mail[2] then
		return 'NONE'
	end
	if mail[1] == inc then
		return 'MINE'
	end
	if mail[1] then
		local what = mail[1] .. ' ' .. token .. ' ' .. id .. ' ' .. args[4]
		tell(tag, 'act ' .. what .. '\n' .. args[5] .. '\n' .. args[6])
		return 'ASKED'
	end
	action(tag, m, id, mail)
	return 'OK'
end

-- token word -> OK. What its owner answers.
local function rp_answer(keys, args)
	if not call then start() end
	local tag, token = keys[1], args[1]
	call('SET', tag .. ':told:' .. token, args[2], 'EX', TOLD_S)
	tell(tag, 'told ' .. token)
	return 'OK'
end

register('rp_node', rp_node, 'allow-oom')
register('rp_node_stops', rp_node_stops, 'allow-oom')
register('rp_nodes', rp_nodes, 'no-writes')
register('rp_drain', rp_drain, 'allow-oom')
register('rp_owners', rp_owners, 'no-writes')
register('rp_fresh', rp_fresh, 'no-writes')
register('rp_ask', rp_ask, 'allow-oom')
register('rp_answer', rp_answer, 'allow-oom')
