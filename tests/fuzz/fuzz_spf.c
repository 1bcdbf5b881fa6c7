/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz: uses dns core */
/* A whole check. The input is texts, parted by newlines: who sends, then what each question is
 * answered with, over and over again until the check ends: records as TXT, and names and numbers of
 * all other types. Whatever they are: it ends within the limits, each question is one that can be
 * asked, what it says is printable, and once more it comes to the same. */
#include <stddef.h>
#include <stdint.h>

#include "core/base/assert.h"
#include "dns/answer.h"
#include "dns/name.h"
#include "dns/spf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum {
	ANSWERS_MAX = 1 + 11 + 10 * 11 + 1 + 10 + 1, /* records, hosts, names, an explanation */
	RECORDS_MAX = 12,
	NOW_MS = 1000,
};

struct source {
	struct span all;
	struct span rest;
};

static struct span
take(struct source *s)
{
	if (s->rest.size == 0)
		s->rest = s->all;
	size_t end = span_find(s->rest, '\n', 0);
	struct span text = span_first(s->rest, end);
	s->rest = span_after(s->rest, end + 1);
	return text;
}

/* The first byte says what it is an answer of; the rest is its data. */
static struct dns_answer *
make_answer(struct source *s, const struct spf_question *q)
{
	struct dns_record records[RECORDS_MAX];
	char names[RECORDS_MAX][DNS_NAME_MAX + 1];
	struct span text = take(s);
	struct dns_answer a = { .expires_at_ms = NOW_MS, .records = records, .why = SPAN("why") };
	unsigned kind = text.size == 0 ? 0 : text.data[0] % 16u;

	if (q->type == DNS_TXT && kind < 14) {
		a.count = 1;
		records[0] = (struct dns_record){ .data = text };
		return answer_new(&a);
	}
	if (kind >= 12) {
		a.outcome = DNS_NO_DATA + kind - 12;
		return answer_new(&a);
	}
	a.count = kind + 1;
	for (unsigned i = 0; i < a.count; i++) {
		uint8_t ip[16] = { 192, 0, 2, (uint8_t)(i + kind) };
		size_t size =
			name_of_bytes(span_first(span_after(text, i), DNS_NAME_MAX), names[i]);

		records[i] = (struct dns_record){ .name = span_of(names[i], size),
						  .preference = (uint16_t)(kind * i % 7),
						  .data = text };
		net_address_of_ip(ip, q->type == DNS_AAAA ? 16 : 4, 0, &records[i].address);
	}
	return answer_new(&a);
}

static void
check_printable(struct span text)
{
	for (size_t i = 0; i < text.size; i++)
		ASSERT(text.data[i] >= ' ' && text.data[i] < 0x7f);
}

static enum spf_result
run(struct spf *s, const uint8_t *data, size_t size)
{
	struct source source = { .all = span_of(data, size) };
	struct spf_inputs in = { .helo = take(&source), .now_s = 1 };
	struct spf_question q;
	char name[DNS_NAME_MAX + 1];
	unsigned answers = 0;

	in.local = take(&source);
	in.domain = take(&source);
	net_address_of_ip("\xc0\x00\x02\x05\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",
			  size % 2 == 0 ? 4 : 16, 0, &in.client);
	spf_begin(s, &in, NULL, NULL);
	while (spf_next(s, &q)) {
		struct dns_answer *a = make_answer(&source, &q);

		ASSERT(answers++ < ANSWERS_MAX);
		ASSERT(name_normalize(q.name, name) == q.name.size && q.name.size > 0);
		spf_answer(s, a);
		dns_answer_put(a);
	}
	const struct spf_outcome *o = spf_outcome(s);
	ASSERT(o->lookups <= SPF_LOOKUPS_MAX && o->voids <= SPF_VOIDS_MAX + 1);
	check_printable(o->problem);
	check_printable(o->explanation);
	check_printable(o->mechanism);
	return o->result;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct spf *s = spf_new();

	ASSERT(s != NULL);
	enum spf_result result = run(s, data, size);
	ASSERT(run(s, data, size) == result);
	spf_free(s);
	return 0;
}
