/* SPDX-License-Identifier: Apache-2.0 */
#include "queue/redis/cluster.h"

#include <hiredis/hiredis.h>

#include "core/base/server_address.h"

/* Bit by bit: it is asked for a few hundred short keys at the start. */
static unsigned
crc16(struct span s)
{
	unsigned crc = 0;

	for (size_t i = 0; i < s.size; i++) {
		crc ^= (unsigned)s.data[i] << 8;
		for (unsigned bit = 0; bit < 8; bit++)
			crc = (crc & 0x8000) != 0 ? (crc << 1) ^ 0x1021 : crc << 1;
		crc &= 0xffff;
	}
	return crc;
}

unsigned
cluster_slot(struct span key)
{
	size_t open = span_find(key, '{', 0);
	size_t close = span_find(key, '}', open);

	if (close < key.size && close > open + 1)
		key = span_first(span_after(key, open + 1), close - open - 1);
	return crc16(key) % CLUSTER_SLOTS;
}

/* ---- CLUSTER SLOTS: from, to, master, replicas...; a server: host, port, id, more ---- */

static bool
is_number(const struct redisReply *r, long long most)
{
	return r->type == REDIS_REPLY_INTEGER && r->integer >= 0 && r->integer <= most;
}

static bool
is_range(const struct redisReply *r)
{
	if (r->type != REDIS_REPLY_ARRAY || r->elements < 3 ||
	    !is_number(r->element[0], CLUSTER_SLOTS - 1) ||
	    !is_number(r->element[1], CLUSTER_SLOTS - 1))
		return false;
	const struct redisReply *master = r->element[2];
	return master->type == REDIS_REPLY_ARRAY && master->elements >= 2 &&
	       (master->element[0]->type == REDIS_REPLY_STRING ||
		master->element[0]->type == REDIS_REPLY_NIL) &&
	       is_number(master->element[1], UINT16_MAX);
}

bool
cluster_is_map(const struct redisReply *map)
{
	if (map->type != REDIS_REPLY_ARRAY)
		return false;
	for (size_t i = 0; i < map->elements; i++) {
		if (!is_range(map->element[i]))
			return false;
	}
	return true;
}

static bool
show_master(const struct redisReply *master, struct span asked, struct buf *out)
{
	const struct redisReply *host = master->element[0];
	struct span name = span_of(host->str, host->type == REDIS_REPLY_STRING ? host->len : 0);
	struct server_address a;

	/* "?" is what a server says that is to announce a name and has none. */
	if (span_eq(name, SPAN("?")))
		return false;
	if (name.size == 0 && server_address_parse(asked, &a))
		name = a.host;
	size_t start = out->size;
	return name.size > 0 &&
	       server_address_show(name, (uint16_t)master->element[1]->integer, out) &&
	       server_address_parse(span_after(buf_span(out), start), &a);
}

bool
cluster_master(const struct redisReply *map, unsigned slot, struct span asked, struct buf *out)
{
	for (size_t i = 0; i < map->elements; i++) {
		const struct redisReply *r = map->element[i];
		if (slot >= (unsigned)r->element[0]->integer &&
		    slot <= (unsigned)r->element[1]->integer)
			return show_master(r->element[2], asked, out);
	}
	return false;
}

bool
cluster_read_moved(struct span error, unsigned *slot, struct buf *to)
{
	struct server_address a;
	uint64_t number;

	if (!span_starts_with(error, SPAN("MOVED ")))
		return false;
	error = span_after(error, 6);
	size_t blank = span_find(error, ' ', 0);
	if (!span_to_u64(span_first(error, blank), &number) || number >= CLUSTER_SLOTS)
		return false;
	*slot = (unsigned)number;
	return server_address_parse(span_after(error, blank + 1), &a) && a.host.size > 0 &&
	       server_address_show(a.host, a.port, to);
}
