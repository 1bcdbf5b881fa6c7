/* SPDX-License-Identifier: Apache-2.0 */
/* test: uses flow admin queue dns core machine */
/*
 * The reference pages in docs/ are what the binary prints. With `write` as its argument, this
 * program brings the pages up to date instead.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/config.h"
#include "core/log.h"
#include "core/metric.h"
#include "relay/admin/protocol.h"
#include "relay/flow/delivery_doc.h"

static char memory[1 << 20];

struct page {
	const char *file;
	bool (*make)(struct buf *out);
};

static const struct page pages[] = {
	{ "docs/options.md", config_doc }, { "docs/metrics.md", metric_doc },
	{ "docs/events.md", event_doc },   { "docs/delivery.md", delivery_doc },
	{ "docs/admin.md", admin_doc },
};

static void
the_pages_are_what_the_binary_prints(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof pages / sizeof pages[0]; i++) {
		struct buf out = buf_of(memory, sizeof memory);
		FILE *file = fopen(pages[i].file, "re");
		if (file == NULL)
			fail_msg("%s is missing; run this program with `write`", pages[i].file);
		char *text = malloc(sizeof memory);
		size_t size = fread(text, 1, sizeof memory, file);
		fclose(file);
		assert_true(pages[i].make(&out));
		if (!span_eq(buf_span(&out), span_of(text, size)))
			fail_msg("%s is not what the tables say; run this program with `write`",
				 pages[i].file);
		free(text);
	}
}

/* The example at the top of the page of options is one that works. */
static void
the_example_can_be_loaded(void **state)
{
	struct buf out = buf_of(memory, sizeof memory - 1);
	static struct config_errors errors;

	(void)state;
	assert_true(config_doc(&out));
	memory[out.size] = 0;
	const char *start = strstr(memory, "```yaml\n") + 8;
	const char *end = strstr(start, "```\n");
	const struct config *config =
		config_parse("example", span_of(start, (size_t)(end - start)), &errors);
	if (config == NULL)
		fail_msg("%s", errors.lines[0]);
	config_put(config);
}

static int
write_pages(void)
{
	for (size_t i = 0; i < sizeof pages / sizeof pages[0]; i++) {
		struct buf out = buf_of(memory, sizeof memory);
		FILE *file = fopen(pages[i].file, "we");
		if (file == NULL || !pages[i].make(&out) ||
		    fwrite(out.data, 1, out.size, file) != out.size || fclose(file) != 0)
			return 1;
	}
	return 0;
}

int
main(int count, char **arguments)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_pages_are_what_the_binary_prints),
		cmocka_unit_test(the_example_can_be_loaded),
	};
	if (count == 2 && strcmp(arguments[1], "write") == 0)
		return write_pages();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
