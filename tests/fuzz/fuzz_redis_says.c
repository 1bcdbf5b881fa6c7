/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz: uses queue/redis/cluster.c queue/redis/promise.c hiredis */
/* What a Redis server may say of itself and of others: a map of slots, MOVED, INFO, an address.
 * Whatever it is, a server that is taken from it can be connected to, and a promise that holds was
 * said in full. */
#include <stddef.h>
#include <stdint.h>

#include <hiredis/hiredis.h>

#include "core/base/assert.h"
#include "core/base/server_address.h"
#include "queue/redis/cluster.h"
#include "queue/redis/promise.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
must_be_address(struct span text)
{
	struct server_address a;

	ASSERT(server_address_parse(text, &a) && a.host.size > 0 && a.port > 0);
}

static void
try_map(struct span bytes)
{
	redisReader *reader = redisReaderCreate();
	void *reply = NULL;

	ASSERT(reader != NULL);
	if (redisReaderFeed(reader, (const char *)bytes.data, bytes.size) == REDIS_OK &&
	    redisReaderGetReply(reader, &reply) == REDIS_OK && reply != NULL &&
	    cluster_is_map(reply)) {
		for (unsigned slot = 0; slot < CLUSTER_SLOTS; slot += 1000) {
			uint8_t memory[SERVER_ADDRESS_MOST];
			struct buf name = buf_of(memory, sizeof memory);
			if (cluster_master(reply, slot, SPAN("192.0.2.1:7000"), &name))
				must_be_address(buf_span(&name));
		}
	}
	if (reply != NULL)
		freeReplyObject(reply);
	redisReaderFree(reader);
}

static void
try_moved(struct span text)
{
	uint8_t memory[SERVER_ADDRESS_MOST];
	struct buf to = buf_of(memory, sizeof memory);
	unsigned slot;

	if (cluster_read_moved(text, &slot, &to)) {
		ASSERT(slot < CLUSTER_SLOTS);
		must_be_address(buf_span(&to));
	}
	ASSERT(cluster_slot(text) < CLUSTER_SLOTS);
}

static void
try_promise(struct span text)
{
	struct promise_facts facts = { .version_major = 0 };
	struct redis_options wish = { .durability = REDIS_DISK };
	uint8_t memory[1024];
	struct buf why = buf_of(memory, sizeof memory);

	promise_read_info(text, &facts);
	/* Without the settings nothing holds. */
	ASSERT(!promise_holds(&facts, &wish, SPAN("192.0.2.1:6379"), &why) && why.size > 0);
	buf_reset(&why);
	wish.promises_declared = true;
	bool holds = promise_holds(&facts, &wish, SPAN("192.0.2.1:6379"), &why);
	ASSERT(holds == (why.size == 0) && !why.overflow);
	ASSERT(!holds || (facts.is_master && facts.version_major >= PROMISE_VERSION_LEAST));
	size_t middle = span_find(text, '=', 0);
	promise_read_setting(span_first(text, middle), span_after(text, middle + 1), &facts);
	ASSERT(facts.has_settings);
}

static void
try_address(struct span text)
{
	uint8_t memory[SERVER_ADDRESS_MOST];
	struct buf shown = buf_of(memory, sizeof memory);
	struct server_address a, b;

	if (!server_address_parse(text, &a) || a.host.size == 0)
		return;
	ASSERT(server_address_show(a.host, a.port, &shown));
	ASSERT(server_address_parse(buf_span(&shown), &b));
	ASSERT(span_eq(a.host, b.host) && a.port == b.port);
	ASSERT(net_address_eq(&a.address, &b.address));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct span text = span_of(data, size);

	try_map(text);
	try_moved(text);
	try_promise(text);
	try_address(text);
	return 0;
}
