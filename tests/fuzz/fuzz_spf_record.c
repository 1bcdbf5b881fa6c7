/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz: uses dns core */
/* A record of any bytes. What the parser takes is printable, and its terms are pieces of it, in
 * order; what it refuses has a reason that can be shown. Each term alone, behind a version, is
 * taken as in the whole. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "core/base/assert.h"
#include "dns/answer.h"
#include "dns/spf_record.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check_printable(struct span text)
{
	for (size_t i = 0; i < text.size; i++)
		ASSERT(text.data[i] >= ' ' && text.data[i] < 0x7f);
}

static void
check_piece(const struct spf_record *r, struct spf_piece inner, struct spf_piece outer)
{
	ASSERT(outer.at + outer.size <= r->text.size);
	ASSERT(inner.size == 0 ||
	       (inner.at >= outer.at && inner.at + inner.size <= outer.at + outer.size));
}

/* A term has its meaning whatever stands around it. */
static void
check_alone(const struct spf_record *whole, const struct spf_term *t)
{
	struct span text = spf_piece_of(whole, t->text);
	uint8_t *memory = malloc(text.size + 8);
	struct buf alone = buf_of(memory, text.size + 8);
	char reason[SPF_WHY_MAX];
	struct buf why = buf_of(reason, sizeof reason);
	struct spf_term term;
	struct spf_record parsed = { .terms = &term };

	ASSERT(memory != NULL);
	buf_append_string(&alone, "v=spf1 ");
	buf_append(&alone, text);
	ASSERT(spf_record_parse(buf_span(&alone), &parsed, &why) && parsed.count == 1);
	ASSERT(term.mechanism == t->mechanism && term.result == t->result);
	ASSERT(term.prefix_v4 == t->prefix_v4 && term.prefix_v6 == t->prefix_v6);
	ASSERT(term.spec.size == t->spec.size && term.has_macros == t->has_macros);
	free(memory);
}

static void
check_found(const struct spf_record *r)
{
	uint32_t at = 6;

	check_printable(r->text);
	for (unsigned i = 0; i < r->count; i++) {
		const struct spf_term *t = &r->terms[i];

		ASSERT(t->text.at > at && t->text.size > 0);
		at = t->text.at + t->text.size;
		check_piece(r, t->spec, t->text);
		ASSERT(t->prefix_v4 <= 32 && t->prefix_v6 <= 128);
		ASSERT(t->mechanism <= SPF_EXISTS && t->result <= SPF_SOFTFAIL);
		ASSERT(t->has_macros || !t->wants_name);
		if (i < 64)
			check_alone(r, t);
	}
	check_piece(r, r->redirect.spec, r->redirect.text);
	check_piece(r, r->explanation.spec, r->explanation.text);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct dns_record record = { .data = span_of(data, size) };
	struct dns_answer a = { .outcome = DNS_FOUND, .count = 1, .records = &record };
	struct spf_record *r = spf_record_new(&a);

	ASSERT(r != NULL);
	ASSERT((r->kind == SPF_RECORD_NONE) == !spf_record_is(record.data));
	if (r->kind == SPF_RECORD_FOUND)
		check_found(r);
	else
		ASSERT(r->why.size > 0);
	check_printable(r->why);
	spf_record_put(r);
	return 0;
}
