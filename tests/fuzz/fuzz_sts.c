/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz: uses tls */
/*
 * A record gives an id of letters and digits; a policy is refused with a reason, or all its fields
 * are within their bounds, each pattern matches the host that it spells out and none a level below
 * it; written down anew it is read as the same.
 */
#include <stdlib.h>

#include "core/base/assert.h"
#include "tls/sts.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check_record(struct span text)
{
	struct span id, same;
	bool is_other;

	if (!sts_record_parse(text, &id, &is_other))
		return;
	ASSERT(!is_other && id.size > 0 && id.size <= STS_ID_MAX);
	ASSERT(sts_records_find(&text, 1, &same) && span_eq(id, same));
	struct span twice[2] = { text, text };
	ASSERT(!sts_records_find(twice, 2, &same));
}

static void
check_pattern(struct span pattern)
{
	uint8_t memory[STS_PATTERN_MAX + 8];
	struct buf host = buf_of(memory, sizeof memory);

	ASSERT(sts_pattern_is_valid(pattern) && sts_pattern_matches(pattern, pattern));
	buf_append_string(&host, "x.");
	buf_append(&host, pattern);
	ASSERT(!sts_pattern_matches(pattern, buf_span(&host)));
}

static void
check_again(const struct sts_policy *p)
{
	static uint8_t memory[STS_PATTERNS_MAX * (STS_PATTERN_MAX + 8) + 100];
	static struct sts_policy again;
	struct buf text = buf_of(memory, sizeof memory);

	buf_printf(&text, "version: STSv1\r\nmode: %s\r\nmax_age: %u\r\n", sts_mode_label(p->mode),
		   p->max_age_s);
	for (unsigned i = 0; i < p->pattern_count; i++)
		buf_printf(&text, "mx: %.*s\r\n", SPAN_ARG(p->patterns[i]));
	ASSERT(sts_policy_parse(buf_span(&text), &again, NULL));
	ASSERT(again.mode == p->mode && again.max_age_s == p->max_age_s);
	ASSERT(again.pattern_count == p->pattern_count);
	for (unsigned i = 0; i < p->pattern_count; i++)
		ASSERT(span_eq(again.patterns[i], p->patterns[i]));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct sts_policy p;
	uint8_t memory[300];
	struct buf why = buf_of(memory, sizeof memory);
	struct span text = span_of(data, size);

	check_record(text);
	if (!sts_policy_parse(text, &p, &why)) {
		ASSERT(why.size > 0 && !why.overflow);
		return 0;
	}
	ASSERT(p.max_age_s <= STS_AGE_MAX_S && p.pattern_count <= STS_PATTERNS_MAX);
	ASSERT(p.mode == STS_NONE || p.pattern_count > 0);
	for (unsigned i = 0; i < p.pattern_count; i++)
		check_pattern(p.patterns[i]);
	check_again(&p);
	return 0;
}
