/* SPDX-License-Identifier: Apache-2.0
 *
 * letter: what the mails of a load look like: their sizes, or real messages from a folder; and to
 * which domains they go. Made once on the main thread, then read by all source threads.
 *
 * A letter is the message behind the field that bench/track.h puts on top. It is kept as it is sent
 * by BDAT and, where that differs, as it is sent by DATA (dots doubled); both without their final
 * CRLF, so that what follows them can be appended. Sizes count the whole message; where one would
 * cut a CRLF in two, the message is a byte smaller.
 *
 * Randomness is a xorshift generator of the caller's, so that a seed repeats a load.
 */
#ifndef BENCH_LETTER_H
#define BENCH_LETTER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/buf.h"
#include "core/base/span.h"

enum {
	LETTER_SIZE_MIN = 512,
	LETTER_SIZE_MAX = 1 << 30,
	LETTER_SHAPES_MAX = 64,
	DOMAINS_MAX = 1000 * 1000,
};

struct letter {
	struct span plain;   /* for BDAT */
	struct span stuffed; /* for DATA */
	uint64_t size;       /* of the whole message: with the field on top and the final CRLF */
};

struct letters;

/* sizes: "1KiB", "1KiB..100KiB" (evenly), or shares of both: "1KiB:70,10KiB..1MiB:30". NULL with a
 * line in `why`. */
struct letters *letters_of_sizes(struct span sizes, size_t field_size, uint64_t seed,
				 struct buf *why);
/* Every regular file of the folder is a message, but for hidden ones; line ends become CRLF. What
 * is a folder in it is passed over. */
struct letters *letters_of_folder(const char *folder, size_t field_size, struct buf *why);
void letters_free(struct letters *l);
struct letter letters_pick(const struct letters *l, uint64_t *random);

struct domains;

/* Domain i of `count` is "dI.NAME" (one alone: "NAME"). zipf 0: all alike; else domain i has the
 * weight 1 / (i + 1)^zipf. NULL: no memory. */
struct domains *domains_new(struct span name, uint32_t count, double zipf);
void domains_free(struct domains *d);
uint32_t domains_pick(const struct domains *d, uint64_t *random);
bool domains_show(const struct domains *d, uint32_t domain, struct buf *out);

static inline uint64_t
letter_random(uint64_t *state)
{
	uint64_t x = *state;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	*state = x;
	return x;
}

#endif
