/* SPDX-License-Identifier: Apache-2.0 */
/* test: uses control flow queue dns core machine */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "relay/control/suspended.h"

enum { WHY_SIZE = 512 };

static char folder[] = "/tmp/test-suspended.XXXXXX";
static char file[64];

static int
make_folder(void **state)
{
	(void)state;
	if (mkdtemp(folder) == NULL)
		return -1;
	snprintf(file, sizeof file, "%s/suspended", folder);
	return 0;
}

static int
remove_folder(void **state)
{
	(void)state;
	unlink(file);
	return rmdir(folder);
}

static void
write_file(const char *text)
{
	FILE *f = fopen(file, "we");

	assert_non_null(f);
	assert_true(fputs(text, f) >= 0);
	assert_int_equal(fclose(f), 0);
}

static struct suspended *
load(bool good, const char *why_has)
{
	struct suspended *s = calloc(1, sizeof *s);
	uint8_t memory[WHY_SIZE];
	struct buf why = buf_of(memory, sizeof memory);

	assert_non_null(s);
	assert_int_equal(suspended_load(s, file, &why), good);
	if (why_has == NULL)
		assert_int_equal(why.size, 0);
	else
		assert_non_null(memmem(why.data, why.size, why_has, strlen(why_has)));
	return s;
}

static void
put(struct suspended *s)
{
	suspended_fini(s);
	free(s);
}

static void
what_was_saved_is_loaded(void **state)
{
	struct suspended *s = load(true, NULL); /* there is no file yet */
	struct stat status;

	(void)state;
	assert_int_equal(s->count, 0);
	assert_true(suspended_add(s, SPAN("smtp://192.0.2.1:25"), 0));
	assert_true(suspended_add(s, SPAN("mx.example.test tls=verify"), 1800000000000));
	assert_true(suspended_save(s, file));
	assert_int_equal(stat(file, &status), 0);
	assert_int_equal(status.st_mode & 0777, 0600);
	put(s);

	s = load(true, NULL);
	assert_int_equal(s->count, 2);
	assert_int_equal(suspended_find(s, SPAN("smtp://192.0.2.1:25"))->until_ms, 0);
	assert_int_equal(suspended_find(s, SPAN("mx.example.test tls=verify"))->until_ms,
			 1800000000000);
	assert_int_equal(suspended_next_ms(s), 1800000000000);
	assert_true(suspended_remove(s, SPAN("smtp://192.0.2.1:25")));
	assert_true(suspended_remove(s, SPAN("mx.example.test tls=verify")));
	assert_true(suspended_save(s, file));
	put(s);

	s = load(true, NULL);
	assert_int_equal(s->count, 0);
	put(s);
}

static void
a_damaged_file_is_named_with_its_line_and_the_remedy(void **state)
{
	static const char *const texts[] = { "0 a\nx b\n", "0 a\n0\n", "0 a\n0 \n", "0 a\n1 b" };

	(void)state;
	for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
		write_file(texts[i]);
		put(load(false, "suspended:2: this is no line"));
	}
}

static void
a_file_that_cannot_be_kept_is_an_error_and_the_old_one_stays(void **state)
{
	struct suspended *s;
	char elsewhere[96];

	(void)state;
	write_file("0 a\n");
	s = load(true, NULL);
	snprintf(elsewhere, sizeof elsewhere, "%s/nowhere/suspended", folder);
	assert_false(suspended_save(s, elsewhere));
	put(s);
	s = load(true, NULL);
	assert_int_equal(s->count, 1);
	put(s);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_was_saved_is_loaded),
		cmocka_unit_test(a_damaged_file_is_named_with_its_line_and_the_remedy),
		cmocka_unit_test(a_file_that_cannot_be_kept_is_an_error_and_the_old_one_stays),
	};

	return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
