/* SPDX-License-Identifier: Apache-2.0 */
/* test: uses queue tls core machine certificates */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "queue/redis/options.h"
#include "tests/lib/certificates.h"

static char folder[] = "/tmp/ringpost-options-XXXXXX";
static char path[64], sentinel_path[64], ca_path[64], key_path[64];
static char why[512];

static int
setup(void **state)
{
	(void)state;
	strcpy(folder, "/tmp/ringpost-options-XXXXXX");
	assert_non_null(mkdtemp(folder));
	snprintf(path, sizeof path, "%s/password", folder);
	snprintf(sentinel_path, sizeof sentinel_path, "%s/sentinel", folder);
	snprintf(ca_path, sizeof ca_path, "%s/ca.pem", folder);
	snprintf(key_path, sizeof key_path, "%s/key.pem", folder);
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	unlink(path);
	unlink(sentinel_path);
	unlink(ca_path);
	unlink(key_path);
	return rmdir(folder);
}

static void
write_file(const char *name, const char *text, mode_t mode)
{
	FILE *f = fopen(name, "w");

	assert_non_null(f);
	fputs(text, f);
	fclose(f);
	assert_int_equal(chmod(name, mode), 0);
}

/* What stands in queue.redis; NULL with `why`. The snapshot is kept by what is loaded. */
static struct redis_options *
load(const char *redis)
{
	static struct config_errors errors;
	char text[2048];
	struct buf reason = buf_of(why, sizeof why - 1);

	snprintf(text, sizeof text,
		 "hostname: a.example\nlisteners: [{ address: \"127.0.0.1:2525\" }]\n"
		 "queue: { store: redis, redis: { %s } }\n",
		 redis);
	const struct config *c = config_parse("test.yaml", span_of_string(text), &errors);
	if (c == NULL)
		fail_msg("%s", errors.lines[0]);
	struct redis_options *o = redis_options_load(c, &reason);
	config_put(c);
	why[reason.size] = 0;
	assert_int_equal(o == NULL, reason.size > 0);
	return o;
}

static void
places_and_their_defaults(void **state)
{
	struct redis_options *o = load("server: \"unix:/run/redis.sock\"");

	(void)state;
	assert_int_equal(o->kind, REDIS_SINGLE);
	assert_int_equal(o->address_count, 1);
	assert_true(span_eq(o->addresses[0], SPAN("unix:/run/redis.sock")));
	assert_int_equal(o->durability, REDIS_DISK);
	assert_true(span_eq(o->prefix, SPAN("ringpost")));
	assert_int_equal(o->shards, 16);
	assert_int_equal(o->deadline_ms, 2000);
	assert_int_equal(o->lease_ms, 30000);
	assert_true(o->compress && !o->tls && o->trust == NULL && !o->promises_declared);
	assert_int_equal(o->password.size, 0);
	redis_options_free(o);
	o = load("sentinels: [\"a:26379\", \"b:26379\"], master: post, replicas: 2");
	assert_int_equal(o->kind, REDIS_SENTINEL);
	assert_int_equal(o->address_count, 2);
	assert_true(span_eq(o->addresses[1], SPAN("b:26379")));
	assert_true(span_eq(o->master_name, SPAN("post")));
	assert_int_equal(o->durability, REDIS_REPLICA);
	assert_int_equal(o->replicas, 2);
	redis_options_free(o);
	o = load("cluster: [\"[::1]:7000\"], durability: disk-no-failover, promises: declared");
	assert_int_equal(o->kind, REDIS_CLUSTER);
	assert_int_equal(o->durability, REDIS_DISK_NO_FAILOVER);
	assert_true(o->promises_declared);
	redis_options_free(o);
}

static void
weak_promises_are_told(void **state)
{
	static const struct {
		const char *redis;
		const char *part; /* NULL: nothing */
	} rows[] = {
		{ "server: \"a:1\"", NULL },
		{ "server: \"a:1\", durability: memory", "a crash of Redis loses" },
		{ "cluster: [\"a:1\"]", NULL },
		{ "cluster: [\"a:1\"], durability: disk-no-failover", "a fail-over loses" },
	};

	(void)state;
	for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		char text[200];
		struct buf out = buf_of(text, sizeof text - 1);
		struct redis_options *o = load(rows[i].redis);
		assert_int_equal(redis_options_warn(o, &out), rows[i].part != NULL);
		text[out.size] = 0;
		assert_true(rows[i].part == NULL ? out.size == 0
						 : strstr(text, rows[i].part) != NULL);
		redis_options_free(o);
	}
}

static void
passwords_come_from_private_files(void **state)
{
	char text[512];

	(void)state;
	snprintf(text, sizeof text,
		 "sentinels: [\"a:1\"], master: m, user: post, password_file: %s, "
		 "sentinel_user: watch, sentinel_password_file: %s",
		 path, sentinel_path);
	assert_null(load(text));
	assert_non_null(strstr(why, "queue.redis.password_file: "));
	assert_non_null(strstr(why, "No such file"));
	write_file(path, "secret with blanks \r\nmore\n", 0600);
	write_file(sentinel_path, "pineapple", 0400);
	struct redis_options *o = load(text);
	assert_non_null(o);
	assert_true(span_eq(o->user, SPAN("post")));
	assert_true(span_eq(o->password, SPAN("secret with blanks ")));
	assert_true(span_eq(o->sentinel_user, SPAN("watch")));
	assert_true(span_eq(o->sentinel_password, SPAN("pineapple")));
	redis_options_free(o);
	write_file(sentinel_path, "pineapple", 0640);
	assert_null(load(text));
	assert_non_null(strstr(why, "queue.redis.sentinel_password_file: "));
	assert_non_null(strstr(why, sentinel_path));
	assert_null(strstr(why, "pineapple"));
	write_file(sentinel_path, "\npineapple", 0600);
	assert_null(load(text));
	assert_non_null(strstr(why, "has no password"));
}

static void
authorities_are_read(void **state)
{
	struct certificate_wish wish = { .is_authority = true };
	struct made_certificate ca = certificate_make(&wish);
	char text[256];

	(void)state;
	snprintf(text, sizeof text, "server: \"a:1\", tls: true, ca_file: %s", ca_path);
	assert_null(load(text));
	assert_non_null(strstr(why, "queue.redis.ca_file: "));
	certificate_write(&ca, NULL, ca_path, key_path);
	certificate_drop(&ca);
	struct redis_options *o = load(text);
	assert_non_null(o);
	assert_true(o->tls && o->trust != NULL);
	redis_options_free(o);
	redis_options_free(NULL);
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(places_and_their_defaults),
		TEST(weak_promises_are_told),
		TEST(passwords_come_from_private_files),
		TEST(authorities_are_read),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
