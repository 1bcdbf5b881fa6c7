/* SPDX-License-Identifier: Apache-2.0 */
#include "core/base/assert.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

static _Thread_local assert_dump_fn thread_dump;
static _Thread_local void *thread_dump_context;

void
assert_set_dump(assert_dump_fn dump, void *context)
{
	thread_dump = dump;
	thread_dump_context = context;
}

_Noreturn void
assert_failed(const char *expression, const char *file, int line, const char *function)
{
	assert_dump_fn dump = thread_dump;

	fprintf(stderr, "ringpost: assertion failed: %s (%s:%d, %s)\n", expression, file, line,
		function);
	/* Taken away first: an assertion that fails inside the dump must not call it again. */
	thread_dump = NULL;
	if (dump != NULL)
		dump(thread_dump_context);
	fflush(stderr);
	abort();
}
