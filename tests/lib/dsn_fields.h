/* SPDX-License-Identifier: Apache-2.0
 *
 * Reads a whole report in pieces, for the fuzz targets.
 */
#ifndef TESTS_LIB_DSN_FIELDS_H
#define TESTS_LIB_DSN_FIELDS_H

#include "core/base/assert.h"
#include "relay/message/dsn_read.h"

/* A hash over all fields; *groups becomes that of the last one. */
static inline uint64_t
dsn_read_all(struct span in, size_t step, uint32_t *groups)
{
	static struct dsn_reader r;
	enum dsn_read_event event = DSN_READ_MORE;
	uint64_t hash = 0;
	size_t at = 0;

	*groups = 0;
	dsn_read_init(&r);
	while (event != DSN_READ_END) {
		if (at < in.size) {
			size_t used =
				dsn_read_feed(&r, span_first(span_after(in, at), step), &event);
			ASSERT(used > 0 || event != DSN_READ_MORE);
			at += used;
		} else {
			dsn_read_finish(&r, &event);
		}
		if (event != DSN_READ_FIELD)
			continue;
		ASSERT(r.group >= *groups);
		*groups = r.group;
		ASSERT(dsn_read_name(&r).size > 0);
		hash = span_hash_nocase(dsn_read_name(&r), hash ^ r.group);
		hash = span_hash_nocase(dsn_read_value(&r), hash);
	}
	return hash;
}

#endif
