/* SPDX-License-Identifier: Apache-2.0 */
/* test: uses flow core smtp machine */
#include "relay/flow/recipients.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/file.h"
#include "relay/flow/routing.h"

static char folder[64];
static uint8_t why_memory[512];
static struct buf why;

static const char *
path_of(const char *name)
{
	static char path[160];

	snprintf(path, sizeof path, "%s/%s", folder, name);
	return path;
}

static void
write_file(const char *name, const char *text)
{
	FILE *f = fopen(path_of(name), "we");

	assert_non_null(f);
	assert_int_equal(fwrite(text, 1, strlen(text), f), strlen(text));
	assert_int_equal(fclose(f), 0);
}

/* Written aside and renamed, as the documentation asks for. */
static void
replace_file(const char *name, const char *text)
{
	char from[160];

	write_file("new", text);
	snprintf(from, sizeof from, "%s", path_of("new"));
	assert_int_equal(rename(from, path_of(name)), 0);
}

static const struct config *
make_config(const char *domains)
{
	static struct config_errors errors;
	char text[2048];

	snprintf(text, sizeof text,
		 "hostname: mx1.example.org\n"
		 "listeners: [{ address: \"127.0.0.1:25\" }]\n"
		 "relay: { domains: [%s] }\n"
		 "routes: [{ domain: away.example, to: discard }, { domain: \"*\", to: "
		 "\"smtp://192.0.2.1\" }]\n",
		 domains);
	const struct config *c = config_parse("test", span_of_string(text), &errors);
	if (c == NULL)
		fail_msg("%s", errors.lines[0]);
	return c;
}

static const struct config *
two_files(void)
{
	char domains[1024];

	snprintf(domains, sizeof domains,
		 "{ name: a.example, recipients: %s/a }, { name: .a.example, recipients: %s/a }, "
		 "{ name: any.example }, { name: b.example, recipients: %s/b }, "
		 "{ name: away.example }",
		 folder, folder, folder);
	return make_config(domains);
}

static bool
has(const struct recipients *r, const struct config *c, const char *address)
{
	struct address a;

	assert_int_equal(address_parse_mailbox(span_of_string(address), &a), ADDRESS_OK);
	return recipients_has(r, c, config_domain_find(c, a.domain), &a);
}

static struct recipients *
load(const struct config *c, const struct recipients *old)
{
	why = buf_of(why_memory, sizeof why_memory);
	struct recipients *r = recipients_load(c, old, &why);
	if (r == NULL)
		fail_msg("%.*s", SPAN_ARG(buf_span(&why)));
	return r;
}

static void
test_each_domain_has_its_file(void **state)
{
	const struct config *c = two_files();

	(void)state;
	write_file("a", "ann\nbob@a.example\n");
	write_file("b", "carol\n");
	struct recipients *r = load(c, NULL);
	assert_int_equal(r->file_count, 2);
	assert_true(has(r, c, "ann@a.example"));
	assert_true(has(r, c, "ann@x.a.example"));
	assert_true(has(r, c, "bob@a.example"));
	assert_false(has(r, c, "bob@x.a.example"));
	assert_false(has(r, c, "carol@a.example"));
	assert_true(has(r, c, "carol@b.example"));
	assert_false(has(r, c, "ann@b.example"));
	/* Nobody bounces what is discarded, so one domain is warned of. */
	assert_int_equal(r->any_count, 1);
	assert_true(span_eq(r->any, SPAN("any.example")));
	recipients_free(r);
	config_put(c);
}

static void
test_only_what_changed_is_read(void **state)
{
	const struct config *c = two_files();

	(void)state;
	write_file("a", "ann\n");
	write_file("b", "bob\n");
	struct recipients *first = load(c, NULL);
	assert_true(first->files[0].fresh && first->files[1].fresh);
	assert_true(recipients_state(first) == recipients_state_on_disk(first));
	replace_file("b", "bob\ncarol\n");
	assert_true(recipients_state(first) != recipients_state_on_disk(first));
	struct recipients *second = load(c, first);
	assert_ptr_equal(second->files[0].table, first->files[0].table);
	assert_false(second->files[0].fresh);
	assert_true(second->files[1].fresh);
	assert_true(recipients_state(second) == recipients_state_on_disk(second));
	/* Who still has the first one sees what it saw before; the shared table outlives it. */
	assert_false(has(first, c, "carol@b.example"));
	assert_true(has(second, c, "carol@b.example"));
	recipients_free(first);
	assert_true(has(second, c, "ann@a.example"));
	recipients_free(second);
	config_put(c);
}

static void
test_what_cannot_be_read(void **state)
{
	const struct config *c = two_files();

	(void)state;
	write_file("a", "ann\n");
	unlink(path_of("b"));
	why = buf_of(why_memory, sizeof why_memory);
	assert_null(recipients_load(c, NULL, &why));
	char wanted[256];
	snprintf(wanted, sizeof wanted,
		 "recipients: %s: No such file or directory; name a file that the relay's user can "
		 "read",
		 path_of("b"));
	assert_true(span_eq(buf_span(&why), span_of_string(wanted)));
	assert_int_equal(mkdir(path_of("b"), 0700), 0);
	assert_null(recipients_load(c, NULL, &why));
	rmdir(path_of("b"));
	assert_int_equal(mkfifo(path_of("b"), 0600), 0);
	assert_null(recipients_load(c, NULL, &why));
	unlink(path_of("b"));
	write_file("b", "carol\n@\n");
	why = buf_of(why_memory, sizeof why_memory);
	assert_null(recipients_load(c, NULL, &why));
	snprintf(wanted, sizeof wanted, "%s:2: '@' would take", path_of("b"));
	assert_true(span_starts_with(buf_span(&why), span_of_string(wanted)));
	/* Behind a routing it is the same. */
	why = buf_of(why_memory, sizeof why_memory);
	assert_null(routing_new(c, NULL, &why));
	assert_true(span_starts_with(buf_span(&why), span_of_string(wanted)));
	config_put(c);
}

static void
test_a_file_is_read_whole(void **state)
{
	struct file_identity identity, now;
	size_t size;

	(void)state;
	write_file("f", "");
	char *data = file_read(path_of("f"), 10, &size, &identity);
	assert_non_null(data);
	assert_int_equal(size, 0);
	free(data);
	write_file("f", "0123456789");
	now = file_look(path_of("f"));
	assert_false(file_identity_eq(&now, &identity));
	data = file_read(path_of("f"), 10, &size, &identity);
	assert_non_null(data);
	assert_memory_equal(data, "0123456789", 10);
	free(data);
	assert_true(file_identity_eq(&now, &identity));
	assert_null(file_read(path_of("f"), 9, &size, &identity));
	assert_int_equal(errno, EFBIG);
	assert_null(file_read(folder, 9, &size, &identity));
	assert_int_equal(errno, EINVAL);
	assert_null(file_read(path_of("none"), 9, &size, &identity));
	assert_int_equal(errno, ENOENT);
	now = file_look(path_of("none"));
	assert_int_equal(now.inode, 0);
}

static void
test_secrets_are_private(void **state)
{
	static const mode_t open_modes[] = { 0640, 0604, 0620, 0602, 0777 };

	(void)state;
	write_file("f", "secret");
	for (size_t i = 0; i < sizeof open_modes / sizeof open_modes[0]; i++) {
		why = buf_of(why_memory, sizeof why_memory);
		assert_int_equal(chmod(path_of("f"), open_modes[i]), 0);
		assert_false(file_is_private(path_of("f"), &why));
		assert_true(span_ends_with_nocase(buf_span(&why), span_of_string(path_of("f"))));
		assert_non_null(memmem(why_memory, why.size, "chmod 600 /", 11));
	}
	why = buf_of(why_memory, sizeof why_memory);
	assert_int_equal(chmod(path_of("f"), 0600), 0);
	assert_true(file_is_private(path_of("f"), &why));
	assert_int_equal(chmod(path_of("f"), 0400), 0);
	assert_true(file_is_private(path_of("f"), &why));
	assert_true(file_is_private(path_of("none"), &why));
	assert_int_equal(why.size, 0);
}

static int
make_folder(void **state)
{
	(void)state;
	snprintf(folder, sizeof folder, "/tmp/recipients.XXXXXX");
	return mkdtemp(folder) == NULL;
}

static int
drop_folder(void **state)
{
	(void)state;
	unlink(path_of("a"));
	unlink(path_of("b"));
	unlink(path_of("f"));
	return rmdir(folder);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each_domain_has_its_file),
		cmocka_unit_test(test_only_what_changed_is_read),
		cmocka_unit_test(test_what_cannot_be_read),
		cmocka_unit_test(test_a_file_is_read_whole),
		cmocka_unit_test(test_secrets_are_private),
	};

	return cmocka_run_group_tests(tests, make_folder, drop_folder);
}
