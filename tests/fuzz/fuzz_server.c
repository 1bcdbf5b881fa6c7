/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz: uses bench/server.c bench/command.c bench/fault.c bench/scan.c smtp */
/*
 * A client that says anything to the sink. The first bytes choose protocol, offers, rules and
 * memory; then come the client's bytes. However they are cut, and however much room there is for
 * replies, the same must come out, and no more mail than there are ends of data.
 */
#include <stdlib.h>

#include "bench/server.h"
#include "core/base/assert.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { SETUP = 3, ROOM = 16, STEPS_MAX = 1000000 };

struct run {
	struct server_options options;
	struct fault_rules faults;
	struct server server;
	struct server_recipient room[ROOM];
	bool no_memory;
	uint64_t hash;
	uint64_t mails;
	uint64_t bytes;
	bool ended;
};

/* A bit of the setup each. */
static const char *const rules[] = {
	"30%:defer",     "*@y:refuse",      "30%:defer-data",      "*@z:refuse-data",
	"*1*:drop=body", "10%:stall=reply", "50%:late=1s@data",    "*@y:slow=100",
	"20%:close=end", "10%,*:late=1s",   "50%:late=1s@connect", "1%:drop=mail",
};

static void
set_up(struct run *r, const uint8_t setup[SETUP])
{
	unsigned chosen = (unsigned)setup[1] | (unsigned)(setup[2] & 15) << 8;

	memset(r, 0, sizeof *r);
	r->options = (struct server_options){
		.hostname = SPAN("s"),
		.offers = setup[0] & SERVER_OFFER_ALL,
		.lmtp = setup[0] >> 7,
		.faults = chosen != 0 ? &r->faults : NULL,
	};
	r->no_memory = (setup[2] & 16) != 0;
	for (unsigned i = 0; i < sizeof rules / sizeof rules[0]; i++) {
		struct buf why = { 0 };
		if (chosen & 1U << i)
			ASSERT(fault_add(&r->faults, span_of_string(rules[i]), &why));
	}
	server_init(&r->server, &r->options, setup[2]);
}

static void
note(struct run *r, struct span bytes)
{
	for (size_t i = 0; i < bytes.size; i++)
		r->hash = (r->hash ^ bytes.data[i]) * 0x100000001b3u;
}

static void
note_number(struct run *r, uint64_t number)
{
	note(r, span_of(&number, sizeof number));
}

static void
note_mail(struct run *r, const struct server_action *a)
{
	uint32_t number;
	uint32_t at = 0;
	uint32_t count = 0;

	while (server_recipient(&r->server, &at, &number)) {
		note_number(r, number);
		count++;
	}
	ASSERT(count == a->recipient_count && count > 0);
	ASSERT(a->id.size <= TRACK_ID_SIZE + 1);
	note(r, a->id);
	r->mails++;
	r->bytes += a->size;
}

/* False where more input is needed, or it has ended. */
static bool
act(struct run *r, const struct server_action *a)
{
	if (a->kind == SERVER_NEED_INPUT)
		return false;
	if (a->kind == SERVER_FLUSH)
		return true;
	note_number(r, a->kind);
	switch (a->kind) {
	case SERVER_ROOM:
		server_give_room(&r->server, r->no_memory ? NULL : r->room, ROOM);
		return true;
	case SERVER_MAIL:
		note_mail(r, a);
		return true;
	case SERVER_SLOW:
		ASSERT(a->rate > 0);
		return true;
	case SERVER_WAIT:
		ASSERT(a->wait_ms > 0);
		r->ended = a->wait_ms == SERVER_FOR_EVER;
		if (!r->ended)
			server_resume(&r->server);
		return !r->ended;
	default:
		ASSERT(a->kind == SERVER_CLOSE || a->kind == SERVER_DROP);
		r->ended = true;
		return false;
	}
}

static uint64_t
run(const uint8_t setup[SETUP], struct span all, size_t chunk, size_t room)
{
	static uint8_t memory[4096];
	struct server_action action;
	struct run r;
	size_t used = 0;
	size_t given = 0;

	set_up(&r, setup);
	for (unsigned steps = 0; !r.ended; steps++) {
		struct buf replies = buf_of(memory, room);
		struct span in = span_of(all.data + used, given - used);
		size_t n = server_step(&r.server, in, &replies, &action);

		ASSERT(n <= in.size && steps < STEPS_MAX);
		used += n;
		note(&r, buf_span(&replies));
		if (act(&r, &action))
			continue;
		ASSERT(r.ended || given - used < SERVER_LINE_MAX);
		if (given == all.size)
			break;
		given = all.size - given < chunk ? all.size : given + chunk;
	}
	ASSERT(r.mails <= all.size && r.bytes <= all.size);
	note_number(&r, server_take_struck(&r.server));
	server_fini(&r.server);
	return r.hash;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < SETUP)
		return 0;
	struct span in = span_of(data + SETUP, size - SETUP);
	uint64_t whole = run(data, in, SIZE_MAX, 4096);
	ASSERT(run(data, in, 1, 4096) == whole);
	ASSERT(run(data, in, 7, SERVER_REPLY_MAX) == whole);
	ASSERT(run(data, in, in.size / 2 + 1, 1000) == whole);
	return 0;
}
