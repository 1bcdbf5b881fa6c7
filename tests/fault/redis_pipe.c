/* SPDX-License-Identifier: Apache-2.0
 *
 * The modelled Redis server behind standard input and output, one client, for tests that ask it the
 * same as a real one. Besides what the model knows: "SIM CLOCK ms" sets its clock, "SIM PUBLISHED"
 * says how many messages were published.
 */
#include <arpa/inet.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/assert.h"
#include "tests/fault/sim.h"
#include "tests/fault/sim_redis.h"

enum { WORDS_MOST = 65536 };

static struct span words[WORDS_MOST];

/* A line of standard input: its kind and number. False: the end. */
static bool
read_line(char *kind, unsigned long long *n)
{
	char line[64];

	if (fgets(line, sizeof line, stdin) == NULL)
		return false;
	if (sscanf(line, "%c%llu", kind, n) != 2)
		abort();
	return true;
}

static bool
read_command(struct text *memory, unsigned *count)
{
	unsigned long long n, size;
	char kind;

	if (!read_line(&kind, &n))
		return false;
	ASSERT(kind == '*' && n <= WORDS_MOST);
	memory->size = 0;
	for (unsigned i = 0; i < n; i++) {
		ASSERT(read_line(&kind, &size) && kind == '$');
		char *word = malloc(size + 2);
		ASSERT(word != NULL && fread(word, 1, size + 2, stdin) == size + 2);
		text_append(memory, word, size);
		free(word);
		words[i] = span_of(NULL, size); /* the memory may still move */
	}
	for (size_t i = 0, at = 0; i < n; i++) {
		words[i].data = memory->data + at;
		at += words[i].size;
	}
	*count = (unsigned)n;
	return true;
}

static void
serve(struct sim_redis *r, unsigned count, struct text *out)
{
	uint64_t at_ms;

	if (!span_eq(words[0], SPAN("SIM"))) {
		sim_redis_ask(r, words, count, out);
	} else if (count == 2) {
		text_number(out, (int64_t)sim_redis_count(r).published);
	} else {
		ASSERT(span_to_u64(words[2], &at_ms));
		sim_redis_move_clock(r, (int64_t)(at_ms - world->wall_ms - world->now_us / 1000));
		text_status(out, "OK");
	}
}

int
main(void)
{
	const struct sim_redis_faults none = { 0 };
	const struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons(6379) };
	struct net_address address = { .size = sizeof in };
	struct text memory = { 0 }, out = { 0 };
	unsigned count;

	memcpy(address.bytes, &in, sizeof in);
	sim_map();
	sim_reset(1);
	struct sim_redis *r = sim_redis_new(&address, &none);
	while (read_command(&memory, &count)) {
		out.size = 0;
		serve(r, count, &out);
		if (fwrite(out.data, 1, out.size, stdout) != out.size || fflush(stdout) != 0)
			return 1;
	}
	text_fini(&memory);
	text_fini(&out);
	return 0;
}
