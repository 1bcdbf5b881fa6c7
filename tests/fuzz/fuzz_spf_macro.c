/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz: uses dns core */
/* Five texts, parted by newlines: the macros, then local part, domain, HELO, and the client's name.
 * What the syntax takes can be expanded; a name is in its form, and a text is printable and within
 * its room, and the same in one piece or where the room is less. */
#include <stddef.h>
#include <stdint.h>

#include "core/base/assert.h"
#include "dns/name.h"
#include "dns/spf_macro.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { TEXT_SIZE = 600, CUT_SIZE = 40, WHY_SIZE = 200 };

static struct span
take(struct span *rest, size_t size_max)
{
	size_t end = span_find(*rest, '\n', 0);
	struct span text = span_first(*rest, end);

	*rest = span_after(*rest, end + 1);
	return span_first(text, size_max);
}

static void
check_name(struct span text, const struct spf_values *v)
{
	char name[DNS_NAME_MAX + 1], again[DNS_NAME_MAX + 1];
	size_t size = spf_macro_name(text, v, name);

	ASSERT(size <= DNS_NAME_MAX && name[size] == 0);
	ASSERT(size == 0 || name_normalize(span_of(name, size), again) == size);
}

static void
check_text(struct span text, const struct spf_values *v)
{
	uint8_t memory[TEXT_SIZE], less[CUT_SIZE];
	struct buf out = buf_of(memory, sizeof memory);
	struct buf cut = buf_of(less, sizeof less);

	bool good = spf_macro_text(text, v, &out);
	bool cut_is_good = spf_macro_text(text, v, &cut);
	ASSERT(!good || cut_is_good);
	ASSERT(cut.size <= out.size && span_starts_with(buf_span(&out), buf_span(&cut)));
	for (size_t i = 0; i < out.size && good; i++)
		ASSERT(memory[i] >= ' ' && memory[i] < 0x7f);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct span rest = span_of(data, size);
	struct span text = take(&rest, SIZE_MAX);
	char reason[WHY_SIZE];
	struct buf why = buf_of(reason, sizeof reason);
	struct spf_macro_use use;
	char domain[DNS_NAME_MAX + 1];
	struct spf_values v = { .local = take(&rest, 256) };

	v.domain = span_of(domain, name_of_bytes(take(&rest, SIZE_MAX), domain));
	v.sender = v.domain;
	v.helo = take(&rest, 255);
	v.name = take(&rest, DNS_NAME_MAX);
	v.receiver = v.helo;
	v.is_v6 = size % 2 == 1;
	v.now_s = size;
	v.ip_text = v.is_v6 ? SPAN("2001:db8::1") : SPAN("192.0.2.1");
	v.ip_dots =
		v.is_v6 ? SPAN("2.0.0.1.0.D.B.8.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.1")
			: v.ip_text;
	if (spf_macro_check(text, SPF_MACRO_NAME, &use, &why)) {
		ASSERT(why.size == 0);
		spf_macro_ends_in_domain(text, &use);
		check_name(text, &v);
		ASSERT(spf_macro_check(text, SPF_MACRO_MODIFIER, &use, &why));
	} else {
		ASSERT(why.size > 0);
	}
	buf_reset(&why);
	if (spf_macro_check(text, SPF_MACRO_TEXT, &use, &why))
		check_text(text, &v);
	return 0;
}
