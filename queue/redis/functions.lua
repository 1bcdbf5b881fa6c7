#!lua name=ringpost_1
-- SPDX-License-Identifier: Apache-2.0
--
-- What the Redis server does for the store: every change of a mail's state, each one function,
-- atomic, over the keys of one shard, all of which begin with KEYS[1] ("{prefix:shard}", "tag"
-- below). Times are milliseconds of the server's clock. The keys:
--
--   tag:m:ID        HASH  a mail: e envelope, n recipients pending, b pieces of the body, o owner
--                         (absent: it waits), g how often it was given to one (absent: 0), d due at
--                         and k lane (of when it waited last; with k it is in the index), c the
--                         change that gave it back last, h hold revision (odd: held), r0 r1 ...
--                         state of a recipient (pack.h), f recipients that
--                         failed (absent: none)
--   tag:b:ID:N      STRING  piece N of its body
--   tag:x:ID        STRING  tombstone: this id was cancelled, a late commit of it is refused
--   tag:due:LANE    ZSET  ids that wait, by due time
--   tag:heads       ZSET  lanes that have such, by the least due time in them
--   tag:held        ZSET  ids that are held, by due time
--   tag:own:INC     SET   ids that an incarnation of a node owns
--   tag:leases      HASH  incarnation -> end of its lease; there while it owns anything
--   tag:last:INC    LIST  ids that its last claim or take was given; goes with the lease
--   tag:index       ZSET  ids that waited, or were put off, once; all with score 0: in their order
--   tag:came        SET   ids of mails that came from a node's spool, until that has forgotten them
--   tag:went        SET   ids of mails that went into a node's spool, until they are safe there
--   tag:waiting     STRING  how many ids are in all the due:LANE together
--   tag:failed      STRING  the sum of all f
--   tag:nodes       HASH  incarnation -> row of a node, see nodes.lua; of shard 0 alone
--   tag:drain       HASH  incarnation -> 1: it is to drain; of shard 0 alone
--   tag:told:TOKEN  STRING  what the owner of a mail answered to who asked under this token
--
-- Each mail is in exactly one of due:LANE, held and own:INC. A function reads, decides, and only
-- then writes: an error in the middle would not be rolled back. Flags: all but rp_commit and
-- rp_arrive, which bring mail, run when the server is out of memory: nothing else would free any.

local VERSION = 2
local ORPHAN_S = 3600 -- a tombstone; a body that nobody committed has the same from its SET
local LAST_S = 7 * 86400 -- what was given last: longer than any outage behind which it is asked for
local MAILS_MOST = 256 -- of one command that has several
local SLICE = 1000 -- arguments at a time: unpack() and one command have limits
local PENDING, DELIVERED, FAILED = 80, 68, 70 -- first bytes of a state: 'P', 'D', 'F'
local AT_ONCE = '\0\0\0\0\0\0\0\0' -- bytes 8 to 15 of a state: when to try again

-- While the library is loaded nothing of this is there yet; each function begins with start().
local call, floor, byte, sub, min, match

local function start()
	call = redis.call
	floor, min = math.floor, math.min
	byte, sub, match = string.byte, string.sub, string.match
end

local function now_ms()
	local t = call('TIME')
	return t[1] * 1000 + floor(t[2] / 1000)
end

-- One command over a list of arguments that may be long.
local function over(command, key, list, count)
	for from = 1, count, SLICE do
		call(command, key, unpack(list, from, min(count, from + SLICE - 1)))
	end
end

local function number(text, name)
	local n = tonumber(text)
	if not n or n < 0 or n ~= floor(n) then
		error({ err = 'ERR ' .. name .. ' is not a number' })
	end
	return n
end

-- Until when: -1 never, 0 now or before.
local function until_ms(at, now)
	if not at then
		return -1
	end
	at = tonumber(at) - now
	return at > 0 and at or 0
end

local function next_due_ms(tag, now)
	return until_ms(call('ZRANGE', tag .. ':heads', 0, 0, 'WITHSCORES')[2], now)
end

-- Of all incarnations but `inc`.
local function next_expiry_ms(tag, inc, now)
	local leases = call('HGETALL', tag .. ':leases')
	local least
	for i = 1, #leases, 2 do
		local at = leases[i] ~= inc and tonumber(leases[i + 1])
		if at and (not least or at < least) then
			least = at
		end
	end
	return until_ms(least, now)
end

-- After it, a lease is certain for five sixths of its length.
local function ensure_lease(tag, inc, lease_ms, now)
	local at = call('HGET', tag .. ':leases', inc)
	if not at or at - now < lease_ms - floor(lease_ms / 6) then
		call('HSET', tag .. ':leases', inc, now + lease_ms)
	end
end

-- Is there one no more that was there? What was given last goes too.
local function end_lease(tag, inc)
	call('UNLINK', tag .. ':last:' .. inc)
	return call('HDEL', tag .. ':leases', inc) == 1
end

-- After ids have left a lane: its head is the least due time of those that are left.
local function settle_lane(tag, lane, left_count)
	local head = call('ZRANGE', tag .. ':due:' .. lane, 0, 0, 'WITHSCORES')
	if head[1] then
		call('ZADD', tag .. ':heads', head[2], lane)
	else
		call('ZREM', tag .. ':heads', lane)
	end
	call('DECRBY', tag .. ':waiting', left_count)
end

local function enter_lane(tag, lane, due, id)
	call('ZADD', tag .. ':due:' .. lane, due, id)
	call('ZADD', tag .. ':heads', 'LT', due, lane)
	call('INCR', tag .. ':waiting')
end

-- It is inc's from now on. An incarnation may have had it before, and hold an old copy still: the
-- number of the giving, which goes into the fields that it gets, tells them apart.
local function give(m, inc, fields)
	local at = #fields + 1
	for i = 1, #fields, 2 do
		if fields[i] == 'g' then
			at = i
			break
		end
	end
	local given = tostring((fields[at + 1] or 0) + 1)
	fields[at], fields[at + 1] = 'g', given
	call('HSET', m, 'o', inc, 'g', given)
end

-- "ID:GIVING", which is of that giving alone, or "ID".
local function split_name(name)
	return match(name, '^([^:]*):?(.*)$')
end

local function is_owner(owner, given, inc, giving)
	return owner == inc and (giving == '' or giving == (given or '0'))
end

local function is_odd(h)
	return h and h % 2 == 1
end

-- A mail without an owner leaves the set in which it waits.
local function stop_waiting(tag, id, lane, h)
	if is_odd(h) then
		call('ZREM', tag .. ':held', id)
	else
		call('ZREM', tag .. ':due:' .. lane, id)
		settle_lane(tag, lane, 1)
	end
end

-- An owned mail has no owner any more. `lane_before`: it was in the index already.
local function start_waiting(tag, m, inc, id, due, lane, lane_before, h)
	call('HDEL', m, 'o')
	call('SREM', tag .. ':own:' .. inc, id)
	if not lane_before then
		call('ZADD', tag .. ':index', 0, id)
	end
	if is_odd(h) then
		call('ZADD', tag .. ':held', due, id)
	else
		enter_lane(tag, lane, due, id)
	end
end

local function forget(tag, m, id, pieces)
	if pieces == '1' then
		call('UNLINK', m, tag .. ':b:' .. id .. ':0')
		return
	end
	local keys = {}
	for i = 1, tonumber(pieces) do
		keys[i] = tag .. ':b:' .. id .. ':' .. i - 1
	end
	over('UNLINK', m, keys, #keys)
	if #keys == 0 then
		call('UNLINK', m)
	end
end

-- The mail is no more.
local function remove(tag, m, id, owner, pieces, lane, h, failed)
	forget(tag, m, id, pieces)
	if failed then
		call('DECRBY', tag .. ':failed', failed)
	end
	if owner then
		call('SREM', tag .. ':own:' .. owner, id)
	else
		stop_waiting(tag, id, lane, h)
	end
	if lane then
		call('ZREM', tag .. ':index', id)
	end
end

-- Something is due at once: tells the nodes, if they could believe that nothing is. Before the
-- lanes are changed. tag is "{prefix:shard}".
local function wake(tag, now)
	if next_due_ms(tag, now) ~= 0 then
		local prefix, shard = match(tag, '^{(.*):(%d+)}$')
		if prefix then
			call('PUBLISH', '{' .. prefix .. '}:wake', shard)
		end
	end
end

-- One piece is the rule, and 'pieces' of '1' the fast way.
local function persist(tag, id, pieces)
	for i = 0, pieces - 1 do
		call('PERSIST', tag .. ':b:' .. id .. ':' .. i)
	end
end

local function body_is_there(tag, id, pieces)
	for i = 0, pieces - 1 do
		if call('EXISTS', tag .. ':b:' .. id .. ':' .. i) == 0 then
			return false
		end
	end
	return true
end

-- Makes a mail, all of it or nothing: DONE, and the caller notes whose it is | GONE | NOBODY | and
-- of one that is there: OK it is inc's, LOST it is not. Whoever asks again has sent the body again,
-- with an expiry. is_new: neither mail nor tombstone is there.
local function commit(tag, inc, id, pieces, pending, envelope, is_new)
	local m = tag .. ':m:' .. id
	if not is_new and call('EXISTS', m, tag .. ':x:' .. id) > 0 then
		if call('EXISTS', m) == 0 then
			return 'GONE'
		end
		persist(tag, id, pieces)
		return call('HGET', m, 'o') == inc and 'OK' or 'LOST'
	end
	if pieces == '1' then
		local body = tag .. ':b:' .. id .. ':0'
		-- 0 is the answer also where it is permanent already.
		if call('PERSIST', body) == 0 and call('EXISTS', body) == 0 then
			return 'NOBODY'
		end
	elseif body_is_there(tag, id, pieces) then
		persist(tag, id, pieces)
	else
		return 'NOBODY'
	end
	call('HSET', m, 'e', envelope, 'n', pending, 'b', pieces, 'o', inc)
	return 'DONE'
end

-- The mails of one turn of a worker, each by itself; what all need is done once for all.
-- inc lease_ms (id pieces pending envelope)+ -> for each: OK | GONE cancelled | NOBODY a piece is
-- missing | LOST it was committed, and is another's or nobody's now
local function rp_commit(keys, args)
	if not call then start() end
	local tag, inc = keys[1], args[1]
	local lease_ms = number(args[2], 'lease')
	local names, verdicts, own, made = {}, {}, {}, 0
	if #args < 6 or #args > 2 + 4 * MAILS_MOST or #args % 4 ~= 2 then
		error({ err = 'ERR wrong number of arguments' })
	end
	for i = 3, #args, 4 do
		number(args[i + 1], 'pieces')
		number(args[i + 2], 'pending')
		names[#names + 1] = tag .. ':m:' .. args[i]
		names[#names + 1] = tag .. ':x:' .. args[i]
	end

	local all_new = call('EXISTS', unpack(names)) == 0
	for i = 3, #args, 4 do
		local verdict = commit(tag, inc, args[i], args[i + 1], args[i + 2], args[i + 3],
			all_new)
		if verdict == 'DONE' then
			made = made + 1
			own[made], verdict = args[i], 'OK'
		end
		verdicts[#verdicts + 1] = verdict
	end
	if made > 0 then
		call('SADD', tag .. ':own:' .. inc, unpack(own))
		ensure_lease(tag, inc, lease_ms, now_ms())
	end
	return verdicts
end

-- Reads what a record needs to know: owner, pending, pieces, lane, hold, and the states that are
-- there of the recipients that args name from `first` on, by position; how many failed; and how
-- often it was given.
local function read_mail(m, args, first, last)
	if first == last - 1 then
		local mail = call('HMGET', m, 'o', 'n', 'b', 'k', 'h', 'r' .. args[first], 'f',
			'g')
		return mail, mail[7], mail[8]
	end
	local mail = call('HMGET', m, 'o', 'n', 'b', 'k', 'h', 'f', 'g')
	local failed, given = mail[6], mail[7]
	local fields, count = {}, 0
	for i = first, last - 1, 2 do
		count = count + 1
		fields[count] = 'r' .. args[i]
	end
	for from = 1, count, SLICE do
		local states = call('HMGET', m, unpack(fields, from, min(count, from + SLICE - 1)))
		for i = 1, #states do
			mail[4 + from + i] = states[i]
		end
	end
	return mail, failed, given
end

-- Is this value news? A final state stays as it is; a former owner is believed only that it
-- delivered.
local function is_news(old, new, mine)
	return (not old or byte(old) == PENDING and old ~= new) and
		(mine or byte(new) == DELIVERED)
end

-- What of the values is to be written, as a list of fields and values, how many recipients end with
-- it, and how many of them failed.
local function merge(mail, args, first, last, mine)
	if first == last - 1 then
		local new = args[last]
		if not is_news(mail[6], new, mine) then
			return {}, 0, 0, 0
		end
		return { 'r' .. args[first], new }, 2, byte(new) == PENDING and 0 or 1,
			byte(new) == FAILED and 1 or 0
	end
	local writes, count, ended, failed, seen = {}, 0, 0, 0, {}
	for i = first, last - 1, 2 do
		local new = args[i + 1]
		if is_news(mail[6 + (i - first) / 2], new, mine) then
			writes[count + 1], writes[count + 2] = 'r' .. args[i], new
			count = count + 2
			if byte(new) ~= PENDING then
				ended = ended + 1
			end
			if byte(new) == FAILED then
				failed = failed + 1
			end
		end
		if seen[args[i]] then
			error({ err = 'ERR a recipient is named twice' })
		end
		seen[args[i]] = true
	end
	return writes, count, ended, failed
end

-- What a command does once for all its mails: `now`, when it was asked for; those that end as the
-- owner's own and have never waited, their ids and all their keys. Their ids are true in it.
local function new_turn()
	return { ids = {}, keys = {} }
end

local function turn_ends(tag, inc, turn)
	if turn.ids[1] then
		call('UNLINK', unpack(turn.keys))
		call('SREM', tag .. ':own:' .. inc, unpack(turn.ids))
	end
end

local function end_mail(tag, m, id, mail, failed, mine, turn)
	local pieces = tonumber(mail[3])
	if not mine or mail[4] or failed or pieces > 1 then
		remove(tag, m, id, mail[1], mail[3], mail[4], mail[5], failed)
		return
	end
	turn.ids[#turn.ids + 1] = id
	turn.keys[#turn.keys + 1] = m
	if pieces == 1 then
		turn.keys[#turn.keys + 1] = tag .. ':b:' .. id .. ':0'
	end
	turn[id] = true
end

local function commit_notice(tag, inc, args, at)
	number(args[at + 1], 'pieces')
	number(args[at + 2], 'pending')
	local verdict = commit(tag, inc, args[at], args[at + 1], args[at + 2], args[at + 3])
	if verdict == 'DONE' then
		call('SADD', tag .. ':own:' .. inc, args[at])
	end
	return verdict
end

-- Of a former owner. It stays where an earlier command has made it, or where it tells of deliveries
-- alone and all that are named are news: then it waits, for anybody. Is it there?
local function leave_notice(tag, inc, args, at, written, first, last)
	local id, pieces, delivered = args[at], args[at + 1], 0
	local m = tag .. ':m:' .. id
	number(pieces, 'pieces')
	number(args[at + 2], 'pending')
	if call('EXISTS', m) == 1 then
		persist(tag, id, pieces)
		return true
	end
	for i = first, last - 1, 2 do
		if byte(args[i + 1]) == DELIVERED then
			delivered = delivered + 1
		end
	end
	if args[at + 4] ~= '1' or delivered == 0 or written ~= 2 * delivered or
		commit(tag, inc, id, pieces, args[at + 2], args[at + 3]) ~= 'DONE' then
		return false
	end
	local now = now_ms()
	wake(tag, now)
	call('HSET', m, 'd', now, 'k', '-')
	start_waiting(tag, m, inc, id, now, '-')
	return true
end

-- One outcome: values are args from `first` to `last`, (index value)*; a notice is those from
-- `notice` on. `change`, a number of what gives the mail back, or '': whoever asks again has given
-- it away already, and hears the same. Returns a word and the number of recipients left.
local function record(tag, inc, name, release_ms, lane, change, args, first, last, turn, notice)
	local id, giving = split_name(name)
	local m = tag .. ':m:' .. id
	local mail, failed_before, given = read_mail(m, args, first, last)
	local owner, left, h = mail[1], mail[2], mail[5]
	if not left or turn[id] then
		return 'GONE', 0
	end
	if change ~= '' and call('HGET', m, 'c') == change then
		return 'OK', tonumber(left)
	end
	local mine = is_owner(owner, given, inc, giving)
	local writes, written, ended, failed = merge(mail, args, first, last, mine)
	local lost = 'LOST'
	left = left - ended

	if notice and not mine then
		lost = leave_notice(tag, inc, args, notice, written, first, last) and 'TOLD' or lost
	elseif notice then
		local verdict = commit_notice(tag, inc, args, notice)
		-- Where all is known already, this is a repetition: the notice has gone its way.
		if (verdict == 'NOBODY' or verdict == 'GONE') and (last < first or written > 0) then
			return 'NOBODY', left + ended
		end
	end

	if left <= 0 then
		end_mail(tag, m, id, mail, failed_before, mine, turn)
		return mine and 'OK' or lost, 0
	end
	local due
	if mine and release_ms ~= '' then
		turn.now = turn.now or now_ms()
		due = turn.now + release_ms
		writes[written + 1], writes[written + 2] = 'd', due
		writes[written + 3], writes[written + 4] = 'k', lane
		written = written + 4
		if change ~= '' then
			writes[written + 1], writes[written + 2] = 'c', change
			written = written + 2
		end
	elseif mine and written > 2 * ended and not mail[4] then -- put off, and kept by its owner
		writes[written + 1], writes[written + 2] = 'k', '-'
		written = written + 2
		call('ZADD', tag .. ':index', 0, id)
	end
	if ended > 0 then
		writes[written + 1], writes[written + 2] = 'n', left
		written = written + 2
	end
	if failed > 0 then
		writes[written + 1], writes[written + 2] = 'f', (failed_before or 0) + failed
		written = written + 2
		call('DECRBY', tag .. ':failed', -failed)
	end
	over('HSET', m, writes, written)
	if due then
		start_waiting(tag, m, inc, id, due, lane, mail[4], h)
	end
	return mine and 'OK' or lost, left
end

-- Where the values end whose number is at `at`.
local function end_of_values(args, at, release_ms)
	if release_ms ~= '' then
		number(release_ms, 'release')
	end
	return at + 2 * number(args[at], 'count')
end

-- inc id[:giving] release_ms lane count (index value)*count
--     [change | notice_id pieces pending envelope of_deliveries(0|1)]
--   -> {OK, left} | {LOST, left} not the owner's: only values 'D' were merged | {TOLD, left} the
--      same, and the notice is kept: it tells of deliveries alone, which were news | {GONE, 0} |
--      {NOBODY, left} the notice can not be committed, and nothing was changed
local function rp_record(keys, args)
	if not call then start() end
	local tag, inc, turn = keys[1], args[1], new_turn()
	local last = end_of_values(args, 5, args[3])
	local change = #args == last + 1 and args[#args] or ''
	local notice = #args == last + 5 and last + 1
	if change == '' and not notice and #args ~= last then
		error({ err = 'ERR wrong number of arguments' })
	end
	local word, left = record(tag, inc, args[2], args[3], args[4], change, args, 6, last, turn,
		notice)
	turn_ends(tag, inc, turn)
	return { word, left }
end

-- inc (id[:giving] release_ms lane change count (index value)*count)+
--   -> {OK | LOST | GONE, left, ...}: the same, without notices, for the mails of one turn of a
--      worker, each by itself.
local function rp_records(keys, args)
	if not call then start() end
	local tag, inc, turn = keys[1], args[1], new_turn()
	local at, ends, out = 2, {}, {}
	repeat
		ends[#ends + 1] = end_of_values(args, at + 4, args[at + 1])
		at = ends[#ends] + 1
	until at > #args
	if at ~= #args + 1 or #ends > MAILS_MOST then
		error({ err = 'ERR wrong number of arguments' })
	end
	at = 2
	for i = 1, #ends do
		out[2 * i - 1], out[2 * i] = record(tag, inc, args[at], args[at + 1], args[at + 2],
			args[at + 3], args, at + 5, ends[i], turn)
		at = ends[i] + 1
	end
	turn_ends(tag, inc, turn)
	return out
end

-- inc (id[:giving] release_ms lane)* -> how many were released; others' are skipped
local function rp_release(keys, args)
	if not call then start() end
	local tag, inc = keys[1], args[1]
	for i = 3, #args, 3 do
		number(args[i], 'release')
	end
	if #args % 3 ~= 1 then
		error({ err = 'ERR wrong number of arguments' })
	end
	local now, released = now_ms(), 0
	for i = 2, #args, 3 do
		local id, giving = split_name(args[i])
		local lane = args[i + 2]
		local m = tag .. ':m:' .. id
		local mail = call('HMGET', m, 'o', 'k', 'h', 'g')
		if is_owner(mail[1], mail[4], inc, giving) then
			local due = now + args[i + 1]
			call('HSET', m, 'd', due, 'k', lane)
			start_waiting(tag, m, inc, id, due, lane, mail[2], mail[3])
			released = released + 1
		end
	end
	return released
end

-- What a claim or a take gives is noted, since its answer may be lost: asked `again`, it gives what
-- it gave before and is still the incarnation's.
local function note_given(tag, inc, ids, count)
	local last = tag .. ':last:' .. inc
	call('UNLINK', last)
	over('RPUSH', last, ids, count)
	call('EXPIRE', last, LAST_S)
end

local function give_again(tag, inc, out)
	local ids = call('LRANGE', tag .. ':last:' .. inc, 0, -1)
	for i = 1, #ids do
		local m = tag .. ':m:' .. ids[i]
		if call('HGET', m, 'o') == inc then
			out[#out + 1] = { ids[i], call('HGETALL', m) }
		end
	end
	return out
end

-- inc lease_ms most [again] -> {now, next due in ms or -1, {id, {field, value, ...}}, ...}
local function rp_claim(keys, args)
	if not call then start() end
	local tag, inc = keys[1], args[1]
	local lease_ms, most = number(args[2], 'lease'), number(args[3], 'most')
	local now = now_ms()
	if args[4] == '1' then
		return give_again(tag, inc, { now, 0 })
	end
	local out, own, taken = { now, -1 }, {}, 0
	local portion = floor(most / 8) + 1
	local lanes = most == 0 and {} or
		call('ZRANGEBYSCORE', tag .. ':heads', '-inf', now, 'LIMIT', 0, most)

	for i = 1, #lanes do
		local lane, room = lanes[i], min(portion, most - taken)
		if room == 0 then
			break
		end
		local due = tag .. ':due:' .. lane
		local ids = call('ZRANGEBYSCORE', due, '-inf', now, 'LIMIT', 0, room)
		for j = 1, #ids do
			local id = ids[j]
			local m = tag .. ':m:' .. id
			local fields = call('HGETALL', m)
			if fields[1] then
				give(m, inc, fields)
				taken = taken + 1
				out[2 + taken], own[taken] = { id, fields }, id
			else -- it was deleted behind the functions' back
				call('ZREM', tag .. ':index', id)
			end
		end
		if ids[1] then
			call('ZREMRANGEBYRANK', due, 0, #ids - 1)
		end
		settle_lane(tag, lane, #ids)
	end
	if taken > 0 then
		over('SADD', tag .. ':own:' .. inc, own, taken)
		note_given(tag, inc, own, taken)
		ensure_lease(tag, inc, lease_ms, now)
	end
	out[2] = next_due_ms(tag, now)
	return out
end

-- inc lease_ms most [again]
--   -> {now, next expiry in ms or -1, {id, {field, value, ...}, former owner}, ...}
local function rp_take(keys, args)
	if not call then start() end
	local tag, inc = keys[1], args[1]
	local lease_ms, most = number(args[2], 'lease'), number(args[3], 'most')
	local now = now_ms()
	if args[4] == '1' then
		return give_again(tag, inc, { now, 0 })
	end
	local out, own, taken = { now, -1 }, {}, 0
	local leases = call('HGETALL', tag .. ':leases')

	for i = 1, #leases, 2 do
		local former = leases[i]
		if former ~= inc and tonumber(leases[i + 1]) <= now then
			local theirs = tag .. ':own:' .. former
			local ids = call('SPOP', theirs, most - taken)
			for j = 1, #ids do
				local m = tag .. ':m:' .. ids[j]
				local fields = call('HGETALL', m)
				if fields[1] then
					give(m, inc, fields)
					taken = taken + 1
					out[2 + taken] = { ids[j], fields, former }
					own[taken] = ids[j]
				else
					call('ZREM', tag .. ':index', ids[j])
				end
			end
			if call('EXISTS', theirs) == 0 then
				end_lease(tag, former)
			end
		end
	end
	if taken > 0 then
		over('SADD', tag .. ':own:' .. inc, own, taken)
		note_given(tag, inc, own, taken)
		ensure_lease(tag, inc, lease_ms, now)
	end
	out[2] = next_expiry_ms(tag, inc, now)
	return out
end

-- inc lease_ms id* -> {now, {id, {field, value, ...}}, ...}: those of the mails that are inc's. For
-- a node that finds mails noted as its own of which it knows nothing.
local function rp_recover(keys, args)
	if not call then start() end
	local tag, inc = keys[1], args[1]
	local lease_ms = number(args[2], 'lease')
	local now, own = now_ms(), tag .. ':own:' .. inc
	local out = { now }

	for i = 3, #args do
		local m = tag .. ':m:' .. args[i]
		local mail = call('HMGET', m, 'o', 'n')
		if mail[1] == inc then
			out[#out + 1] = { args[i], call('HGETALL', m) }
		elseif not mail[2] then -- it was deleted behind the functions' back
			call('SREM', own, args[i])
			call('ZREM', tag .. ':index', args[i])
		end
	end
	if out[2] then
		ensure_lease(tag, inc, lease_ms, now)
	end
	return out
end

-- inc lease_ms -> {now, mails owned, next due in ms or -1, next expiry of another in ms or -1}
local function rp_renew(keys, args)
	if not call then start() end
	local tag, inc = keys[1], args[1]
	local lease_ms = number(args[2], 'lease')
	local now = now_ms()
	local owned = call('SCARD', tag .. ':own:' .. inc)
	if owned > 0 or call('HEXISTS', tag .. ':leases', inc) == 1 then
		call('HSET', tag .. ':leases', inc, now + lease_ms)
	end
	return { now, owned, next_due_ms(tag, now), next_expiry_ms(tag, inc, now) }
end

-- -> {now, next due in ms or -1, next expiry of any lease in ms or -1}
local function rp_look(keys)
	if not call then start() end
	local tag, now = keys[1], now_ms()
	return { now, next_due_ms(tag, now), next_expiry_ms(tag, nil, now) }
end

-- inc most -> how many it still owns. The others are due at once, in the lane of before.
local function rp_retire(keys, args)
	if not call then start() end
	local tag, inc, most = keys[1], args[1], number(args[2], 'most')
	local own, now = tag .. ':own:' .. inc, now_ms()
	local ids = call('SRANDMEMBER', own, most)
	if ids[1] then
		wake(tag, now)
	end
	for i = 1, #ids do
		local m = tag .. ':m:' .. ids[i]
		local mail = call('HMGET', m, 'k', 'h', 'n')
		local lane = mail[1] or '-'
		if mail[3] then
			call('HSET', m, 'd', now, 'k', lane)
			start_waiting(tag, m, inc, ids[i], now, lane, mail[1], mail[2])
		else
			call('SREM', own, ids[i])
			call('ZREM', tag .. ':index', ids[i])
		end
	end
	local left = call('SCARD', own)
	-- What was released right before has told nobody, even where it is due.
	if left == 0 and end_lease(tag, inc) and not ids[1] then
		wake(tag, 0)
	end
	return left
end

-- inc id -> OK. Whatever is committed under this id goes, unless another owns it, and nothing will
-- be committed under it for an hour.
local function rp_cancel(keys, args)
	if not call then start() end
	local tag, inc, id = keys[1], args[1], args[2]
	local m = tag .. ':m:' .. id
	local mail = call('HMGET', m, 'o', 'b', 'k', 'h', 'f')
	call('SET', tag .. ':x:' .. id, '1', 'EX', ORPHAN_S)
	local piece = 0
	if mail[2] then
		if mail[1] and mail[1] ~= inc then
			return 'OK'
		end
		remove(tag, m, id, mail[1], mail[2], mail[3], mail[4], mail[5])
		piece = tonumber(mail[2])
	end
	while call('UNLINK', tag .. ':b:' .. id .. ':' .. piece) == 1 do
		piece = piece + 1
	end
	return 'OK'
end

-- The states of pending recipients anew: to be tried at once; `forgiving`: starts that never ended
-- count as ended (bytes 1 and 2 over 3 and 4).
local function refresh(m, forgiving)
	local fields = call('HGETALL', m)
	local writes, count = {}, 0
	for i = 1, #fields, 2 do
		local name, old = fields[i], fields[i + 1]
		if byte(name) == 114 and byte(old) == PENDING and #old >= 16 then
			local closed = forgiving and sub(old, 2, 3) or sub(old, 4, 5)
			local new = sub(old, 1, 3) .. closed .. sub(old, 6, 8) .. AT_ONCE ..
				sub(old, 17)
			if new ~= old then
				writes[count + 1], writes[count + 2] = name, new
				count = count + 2
			end
		end
	end
	over('HSET', m, writes, count)
end

local actions = {}

function actions.hold(tag, m, id, mail)
	local lane, h = mail[3], mail[4] or 0
	if not is_odd(h) then
		stop_waiting(tag, id, lane, h)
		call('ZADD', tag .. ':held', mail[5], id)
		call('HSET', m, 'h', h + 1)
	end
end

function actions.unhold(tag, m, id, mail)
	local lane, h = mail[3], mail[4] or 0
	if is_odd(h) then
		local now = now_ms()
		refresh(m, true)
		stop_waiting(tag, id, lane, h)
		call('HSET', m, 'h', h + 1, 'd', now)
		wake(tag, now)
		enter_lane(tag, lane, now, id)
	end
end

-- One that is held stays held.
function actions.requeue(tag, m, id, mail)
	local lane, now = mail[3], now_ms()
	refresh(m, false)
	if tonumber(mail[5]) <= now then
		return
	end
	call('HSET', m, 'd', now)
	if is_odd(mail[4]) then
		call('ZADD', tag .. ':held', now, id)
	else
		wake(tag, now)
		call('ZADD', tag .. ':due:' .. lane, now, id)
		call('ZADD', tag .. ':heads', 'LT', now, lane)
	end
end

function actions.remove(tag, m, id, mail)
	remove(tag, m, id, nil, mail[2], mail[3], mail[4], mail[6])
end

-- id hold|unhold|requeue|remove -> OK | NONE no such mail | OWNED a node has it now
local function rp_act(keys, args)
	if not call then start() end
	local tag, id, action = keys[1], args[1], actions[args[2]]
	if not action then
		error({ err = 'ERR no such action' })
	end
	local m = tag .. ':m:' .. id
	local mail = call('HMGET', m, 'o', 'b', 'k', 'h', 'd', 'f')
	if not mail[2] then
		return 'NONE'
	end
	if mail[1] then
		return 'OWNED'
	end
	action(tag, m, id, mail)
	return 'OK'
end

-- -> {now, waiting, held, owned, of these owned under a lease that has expired, recipients that
-- failed of mails that are still here}
local function rp_count(keys)
	if not call then start() end
	local tag, now = keys[1], now_ms()
	local leases = call('HGETALL', tag .. ':leases')
	local owned, expired = 0, 0
	for i = 1, #leases, 2 do
		local count = call('SCARD', tag .. ':own:' .. leases[i])
		owned = owned + count
		if tonumber(leases[i + 1]) <= now then
			expired = expired + count
		end
	end
	return { now, tonumber(call('GET', tag .. ':waiting') or 0), call('ZCARD', tag .. ':held'),
		owned, expired, tonumber(call('GET', tag .. ':failed') or 0) }
end

-- after most -> {{id, {field, value, ...}}, ...}: mails of the index, in the order of their ids,
-- behind `after` (a part of an id, or nothing). Fewer than `most`: these are the last.
local function rp_scan(keys, args)
	if not call then start() end
	local tag, most = keys[1], number(args[2], 'most')
	local out = {}
	local ids = call('ZRANGEBYLEX', tag .. ':index', '(' .. args[1], '+', 'LIMIT', 0, most)
	for i = 1, #ids do
		out[i] = { ids[i], call('HGETALL', tag .. ':m:' .. ids[i]) }
	end
	return out
end

-- ---- mails that move between a node's spool and here ----

-- Is the body what was sent? Of a piece that went by itself STRLEN is 0.
local function stored_bytes(tag, id, pieces)
	local sum = 0
	for i = 0, pieces - 1 do
		sum = sum + call('STRLEN', tag .. ':b:' .. id .. ':' .. i)
	end
	return sum
end

-- Anew, so that it is a change: a WAIT behind it is about all that came before, too.
local function note_arrival(tag, id)
	call('SREM', tag .. ':came', id)
	call('SADD', tag .. ':came', id)
end

-- id pieces stored_bytes pending envelope held(0|1) due lane (index value)*
--   -> OK it is here, or was before | THERE another one has this id | GONE this id was cancelled |
--      NOBODY the body is not what was sent
local function rp_arrive(keys, args)
	if not call then start() end
	local tag, id, pieces = keys[1], args[1], number(args[2], 'pieces')
	local stored, due = number(args[3], 'stored'), number(args[7], 'due')
	local m, lane, h = tag .. ':m:' .. id, args[8], args[6]
	number(args[4], 'pending')
	if #args % 2 ~= 0 or #args < 8 then
		error({ err = 'ERR wrong number of arguments' })
	end
	if call('SISMEMBER', tag .. ':came', id) == 1 then
		note_arrival(tag, id)
		return 'OK'
	elseif call('EXISTS', m) == 1 then
		return 'THERE'
	elseif call('EXISTS', tag .. ':x:' .. id) == 1 then
		return 'GONE'
	elseif stored_bytes(tag, id, pieces) ~= stored then
		return 'NOBODY'
	end

	local writes, count, failed = {}, #args - 8, 0
	for i = 1, count, 2 do
		writes[i], writes[i + 1] = 'r' .. args[8 + i], args[9 + i]
		if byte(args[9 + i]) == FAILED then
			failed = failed + 1
		end
	end
	persist(tag, id, pieces)
	call('HSET', m, 'e', args[5], 'n', args[4], 'b', args[2], 'd', due, 'k', lane)
	over('HSET', m, writes, count)
	if failed > 0 then
		call('HSET', m, 'f', failed)
		call('DECRBY', tag .. ':failed', -failed)
	end
	call('ZADD', tag .. ':index', 0, id)
	if h == '1' then
		call('HSET', m, 'h', 1)
		call('ZADD', tag .. ':held', due, id)
	else
		if due <= now_ms() then
			wake(tag, now_ms())
		end
		enter_lane(tag, lane, due, id)
	end
	call('SREM', tag .. ':went', id)
	call('SADD', tag .. ':came', id)
	return 'OK'
end

-- id -> is it noted that it is here (0|1)?
local function rp_arrived(keys, args)
	if not call then start() end
	local tag, id = keys[1], args[1]
	if #args ~= 1 then
		error({ err = 'ERR wrong number of arguments' })
	end
	if call('SISMEMBER', tag .. ':came', id) == 0 then
		return 0
	end
	note_arrival(tag, id)
	return 1
end

-- id h d n again(0|1)
--   -> OK it is not here any more | OWNED | CHANGED since those fields were read | NONE
-- Only who may have asked before believes that it was the one who took it away: else another one
-- did, and has it.
local function rp_depart(keys, args)
	if not call then start() end
	local tag, id = keys[1], args[1]
	local m = tag .. ':m:' .. id
	if #args ~= 5 then
		error({ err = 'ERR wrong number of arguments' })
	end
	if args[5] == '1' and call('SISMEMBER', tag .. ':went', id) == 1 then
		call('SREM', tag .. ':went', id) -- anew, likewise
		call('SADD', tag .. ':went', id)
		return 'OK'
	end
	local mail = call('HMGET', m, 'o', 'b', 'k', 'h', 'd', 'n', 'f')
	if not mail[2] then
		return 'NONE'
	elseif mail[1] then
		return 'OWNED'
	elseif (mail[4] or '') ~= args[2] or mail[5] ~= args[3] or mail[6] ~= args[4] then
		return 'CHANGED'
	end
	remove(tag, m, id, nil, mail[2], mail[3], mail[4], mail[7])
	call('SREM', tag .. ':came', id)
	call('SADD', tag .. ':went', id)
	return 'OK'
end

local function rp_version()
	return VERSION
end

local function register(name, callback, ...)
	redis.register_function{ function_name = name, callback = callback, flags = { ... } }
end

register('rp_commit', rp_commit)
register('rp_record', rp_record, 'allow-oom')
register('rp_records', rp_records, 'allow-oom')
register('rp_release', rp_release, 'allow-oom')
register('rp_claim', rp_claim, 'allow-oom')
register('rp_take', rp_take, 'allow-oom')
register('rp_recover', rp_recover, 'allow-oom')
register('rp_renew', rp_renew, 'allow-oom')
register('rp_look', rp_look, 'no-writes')
register('rp_retire', rp_retire, 'allow-oom')
register('rp_cancel', rp_cancel, 'allow-oom')
register('rp_act', rp_act, 'allow-oom')
register('rp_count', rp_count, 'no-writes')
register('rp_scan', rp_scan, 'no-writes')
register('rp_arrive', rp_arrive)
register('rp_arrived', rp_arrived, 'allow-oom')
register('rp_depart', rp_depart, 'allow-oom')
register('rp_version', rp_version, 'no-writes')
