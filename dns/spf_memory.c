/* SPDX-License-Identifier: Apache-2.0
 *
 * The memory of spf.h and spf_record.h, whose other bodies are pure.
 */
#include <stdlib.h>

#include "core/base/assert.h"
#include "dns/spf_machine.h"
#include "dns/spf_record.h"

struct spf *
spf_new(void)
{
	struct spf *s = calloc(1, sizeof *s);

	if (s != NULL)
		OBJ_INIT(s, SPF_MAGIC);
	return s;
}

void
spf_free(struct spf *s)
{
	if (s == NULL)
		return;
	spf_reset(s);
	OBJ_FINI(s, SPF_MAGIC);
	free(s);
}

/* ---- records ---- */

/* One piece of memory: the record, its terms, its text, the reason. */
static struct spf_record *
make(const struct dns_answer *a, enum spf_record_kind kind, struct span text, struct span why)
{
	unsigned terms = spf_record_terms_max(text);
	size_t bytes = sizeof(struct spf_record) + terms * sizeof(struct spf_term) + text.size +
		       SPF_WHY_MAX;
	struct spf_record *r = malloc(bytes);

	if (r == NULL)
		return NULL;
	*r = (struct spf_record){
		.references = 1,
		.kind = kind,
		.is_void = a->outcome == DNS_NO_DATA || a->outcome == DNS_NO_DOMAIN,
		.security = a->security,
		.expires_at_ms = a->expires_at_ms,
		.terms = (struct spf_term *)(r + 1),
		.bytes = bytes,
	};
	uint8_t *place = (uint8_t *)(r->terms + terms);
	if (text.size > 0)
		memcpy(place, text.data, text.size);
	r->text = span_of(place, text.size);
	struct buf reason = buf_of(place + text.size, SPF_WHY_MAX);
	buf_append(&reason, span_first(why, SPF_WHY_MAX));
	if (kind == SPF_RECORD_FOUND && !spf_record_parse(r->text, r, &reason))
		r->kind = SPF_RECORD_BROKEN;
	r->why = buf_span(&reason);
	ASSERT(r->count <= terms);
	return r;
}

struct spf_record *
spf_record_new(const struct dns_answer *a)
{
	struct span text = span_none();
	unsigned found = 0;

	if (a->outcome == DNS_FAILED || a->outcome == DNS_BOGUS)
		return make(a, SPF_RECORD_FAILED, span_none(), a->why);
	for (unsigned i = 0; i < a->count; i++) {
		if (!spf_record_is(a->records[i].data))
			continue;
		text = a->records[i].data;
		found++;
	}
	if (a->is_cut)
		return make(a, SPF_RECORD_SEVERAL, span_none(),
			    SPAN("there are more TXT records than are read"));
	if (found == 1)
		return make(a, SPF_RECORD_FOUND, text, span_none());
	if (found > 1)
		return make(a, SPF_RECORD_SEVERAL, span_none(),
			    SPAN("there is more than one SPF record"));
	return make(a, SPF_RECORD_NONE, span_none(),
		    a->outcome == DNS_NO_DOMAIN ? SPAN("there is no such domain")
						: SPAN("there is no SPF record"));
}

struct spf_record *
spf_record_get(struct spf_record *r)
{
	ASSERT(r->references > 0);
	r->references++;
	return r;
}

void
spf_record_put(struct spf_record *r)
{
	ASSERT(r->references > 0);
	if (--r->references == 0)
		free(r);
}

size_t
spf_record_bytes(const struct spf_record *r)
{
	return r->bytes;
}
