/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz: uses tls */
/* The input is an answer about TLSA records: a byte of outcome and security, then records, each
 * behind its length (two bytes). Whatever they are: the verdict is that of the table, what is kept
 * was in the answer, is usable by its numbers, and choosing again among it changes nothing. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/assert.h"
#include "tls/dane.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint8_t copies[DNS_RECORDS_MAX][UINT16_MAX + 3];

static unsigned
read_records(struct span in, struct dns_record *records)
{
	unsigned count = 0;

	while (in.size >= 2 && count < DNS_RECORDS_MAX) {
		size_t length = (size_t)in.data[0] << 8 | in.data[1];
		in = span_after(in, 2);
		records[count++] = (struct dns_record){ .data = span_first(in, length) };
		in = span_after(in, length);
	}
	return count;
}

static bool
is_of(const struct tlsa *r, const struct dns_answer *a)
{
	for (unsigned i = 0; i < a->count; i++) {
		struct span rdata = a->records[i].data;
		if (rdata.size >= 3 && r->data.data == rdata.data + 3 &&
		    r->data.size == rdata.size - 3 && r->usage == rdata.data[0] &&
		    r->selector == rdata.data[1] && r->matching == rdata.data[2])
			return true;
	}
	return false;
}

static void
check_kept(const struct tlsa *kept, size_t count, const struct dns_answer *a)
{
	for (size_t i = 0; i < count; i++) {
		uint8_t memory[64];
		struct buf text = buf_of(memory, sizeof memory);
		ASSERT(is_of(&kept[i], a));
		ASSERT(kept[i].usage == TLSA_DANE_TA || kept[i].usage == TLSA_DANE_EE);
		ASSERT(kept[i].selector <= TLSA_KEY && kept[i].matching <= TLSA_SHA512);
		ASSERT(kept[i].data.size > 0);
		tlsa_show(&kept[i], &text);
		ASSERT(!text.overflow);
	}
	dane_needs_name(kept, count);
}

/* What was kept as an answer of its own. */
static void
choose_again(const struct tlsa *kept, size_t count)
{
	static struct dns_record records[DNS_RECORDS_MAX];
	static struct tlsa out[DNS_RECORDS_MAX];
	struct dns_answer a = { .outcome = DNS_FOUND,
				.security = DNS_SECURE,
				.count = (unsigned)count,
				.records = records };
	size_t again;

	for (size_t i = 0; i < count; i++) {
		struct buf rdata = buf_of(copies[i], sizeof copies[i]);
		buf_append_byte(&rdata, kept[i].usage);
		buf_append_byte(&rdata, kept[i].selector);
		buf_append_byte(&rdata, kept[i].matching);
		buf_append(&rdata, kept[i].data);
		ASSERT(!rdata.overflow);
		records[i] = (struct dns_record){ .data = buf_span(&rdata) };
	}
	ASSERT(dane_select(&a, out, &again) == DANE_USABLE && again == count);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct dns_record records[DNS_RECORDS_MAX];
	static struct tlsa kept[DNS_RECORDS_MAX];
	uint8_t head = size > 0 ? data[0] : 0;
	struct dns_answer a = { .outcome = head % (DNS_BOGUS + 1),
				.security = head & 0x80 ? DNS_INSECURE : DNS_SECURE,
				.records = records };
	size_t count = SIZE_MAX;

	if (a.outcome == DNS_FOUND)
		a.count = read_records(span_after(span_of(data, size), 1), records);
	enum dane_verdict v = dane_select(&a, kept, &count);
	ASSERT((v == DANE_FAILED) == (a.outcome == DNS_FAILED || a.outcome == DNS_BOGUS));
	ASSERT((v == DANE_USABLE) == (count > 0) && count <= a.count);
	if (v == DANE_USABLE || v == DANE_UNUSABLE)
		ASSERT(a.count > 0 && a.security == DNS_SECURE);
	check_kept(kept, count, &a);
	if (v == DANE_USABLE)
		choose_again(kept, count);
	return 0;
}
