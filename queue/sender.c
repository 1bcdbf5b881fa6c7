/* SPDX-License-Identifier: Apache-2.0 */
#include "queue/sender.h"

#include <string.h>

#include "core/base/assert.h"

static size_t
copy_lower(uint8_t *to, size_t room, struct span from)
{
	size_t size = from.size < room ? from.size : room;

	for (size_t i = 0; i < size; i++) {
		uint8_t c = from.data[i];
		to[i] = c >= 'A' && c <= 'Z' ? (uint8_t)(c - 'A' + 'a') : c;
	}
	return size;
}

struct span
sender_key(struct span sender, uint8_t memory[SENDER_KEY_MOST])
{
	size_t at = sender.size;

	while (at > 0 && sender.data[at - 1] != '@')
		at--;
	/* Without a domain (RFC 5321 4.5.1: postmaster) all of it is the local part. */
	struct span domain = at == 0 ? span_none() : span_after(sender, at - 1);
	struct span local = span_first(sender, sender.size - domain.size);
	size_t plus = span_find(local, '+', 0);

	if (plus > 0 && plus < local.size)
		local = span_first(local, plus);
	size_t size = copy_lower(memory, SENDER_KEY_MOST, local);
	size += copy_lower(memory + size, SENDER_KEY_MOST - size, domain);
	return span_of(memory, size);
}

uint32_t
sender_key_hash(struct span key, uint64_t seed)
{
	return (uint32_t)span_hash_nocase(key, seed);
}
