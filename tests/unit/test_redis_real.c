/* SPDX-License-Identifier: Apache-2.0 */
/* test: uses queue tls core machine redis_server certificates */
#include "tests/lib/redis_link_rig.h"

#include <signal.h>
#include <unistd.h>

#include "dns/mx.h"
#include "tests/lib/certificates.h"
#include "tests/lib/redis_server.h"
#include "tls/tls.h"

/* A link, and a real server. */

static struct redis_server real;

static int
real_setup(void **state)
{
	redis_server_start(&real, "user post on >secret ~* &* +@all\nuser default off\n");
	return setup(state);
}

static int
real_teardown(void **state)
{
	redis_server_free(&real);
	return teardown(state);
}

static void
a_real_server_keeps_what_it_is_sent(void **state)
{
	struct body_budget budget = { .most_bytes = 16 * 1024 * 1024 };
	struct body *b = new_body(BODY_SIZE, &budget);
	const char *places[] = { real.socket, real.address };

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		struct question set = { 0 }, length = { 0 }, range = { 0 };
		struct redis_link *l = new_link((struct redis_link_options){
			.servers = (struct span[]){ span_of_string(places[i]) },
			.server_count = 1,
			.user = SPAN("post"),
			.password = SPAN("secret"),
			.database = 3,
		});
		UNTIL(redis_link_is_ready(l));
		set.call.on_reply = on_reply;
		redis_send_body(l, &set.call, (struct span[]){ SPAN("SET"), SPAN("key") }, 2,
				SPAN("0"), b, 0, BODY_SIZE);
		ask(l, &length, "STRLEN key");
		ask(l, &range, "GETRANGE key 0 0");
		UNTIL(range.answers == 1);
		assert_string_equal(set.text, "OK");
		assert_int_equal(length.number, BODY_SIZE + 1);
		assert_string_equal(range.text, "0");
		end_link(l);
	}
	body_put(b);
}

static void
a_real_server_refuses_a_wrong_password(void **state)
{
	struct redis_link *l = new_link((struct redis_link_options){
		.servers = (struct span[]){ span_of_string(real.socket) },
		.server_count = 1,
		.user = SPAN("post"),
		.password = SPAN("wrong"),
	});

	(void)state;
	UNTIL(redis_link_problem(l).size > 0);
	assert_memory_equal(redis_link_problem(l).data, "WRONGPASS", 9);
	end_link(l);
}

static void
a_real_server_that_comes_back_is_found(void **state)
{
	struct question q = { 0 };
	struct redis_link *l = new_link((struct redis_link_options){
		.servers = (struct span[]){ span_of_string(real.address) },
		.server_count = 1,
		.user = SPAN("post"),
		.password = SPAN("secret"),
	});

	(void)state;
	UNTIL(redis_link_is_ready(l));
	redis_server_end(&real, SIGKILL);
	UNTIL(downs == 1);
	redis_server_restart(&real);
	UNTIL(redis_link_is_ready(l));
	ask(l, &q, "PING");
	UNTIL(q.answers == 1);
	assert_string_equal(q.text, "PONG");
	end_link(l);
}

/* ---- names: in place of those of dns/ ---- */

static struct mx_lookup *looking;
static struct mx_hosts *found; /* NULL: the lookup stays open */
static unsigned lookups;

static void
run_lookup(struct task *t)
{
	(void)t;
	struct mx_lookup *l = looking;
	looking = NULL;
	l->on_done(l, found);
}

static struct task lookup_task = { .on_run = run_lookup };

void
mx_lookup_host(struct mx_lookup *l, struct resolver *r, struct span name, uint16_t port)
{
	(void)r;
	assert_true(span_eq(name, SPAN("redis.internal")));
	assert_int_equal(port, 6379);
	assert_null(looking);
	lookups++;
	looking = l;
	if (found != NULL)
		worker_soon(&w, &lookup_task);
}

void
mx_lookup_cancel(struct mx_lookup *l)
{
	assert_ptr_equal(l, looking);
	looking = NULL;
}

static struct redis_link *
new_named_link(void)
{
	static const struct span name = SPAN("redis.internal:6379");

	w.resolver = (struct resolver *)&w; /* only that there is one is looked at */
	lookups = 0;
	return new_link((struct redis_link_options){ .servers = &name, .server_count = 1 });
}

/* First it is not known, then at a place where nobody is, then at two. */
static void
a_name_is_looked_up_for_each_attempt(void **state)
{
	struct redis_server there;
	static struct mx_hosts unknown = { .outcome = MX_NO_DOMAIN, .why = SPAN("no such host") };
	static struct mx_hosts known = { .outcome = MX_FOUND, .address_count = 2 };

	(void)state;
	redis_server_start(&there, "");
	assert_true(net_address_parse(SPAN("127.0.0.1:1"), &known.addresses[0]));
	assert_true(net_address_parse(span_of_string(there.address), &known.addresses[1]));
	found = &unknown;
	struct redis_link *l = new_named_link();
	UNTIL(failures == 1);
	assert_memory_equal(redis_link_problem(l).data, "no such host", 12);
	found = &known;
	UNTIL(redis_link_is_ready(l));
	assert_true(lookups == failures + 1 && failures <= 2);
	redis_server_end(&there, SIGKILL);
	UNTIL(downs == 1);
	redis_server_restart(&there);
	UNTIL(redis_link_is_ready(l));
	assert_true(lookups > failures + 1);
	end_link(l);
	redis_server_free(&there);
	w.resolver = NULL;
}

static void
a_lookup_ends_with_its_link(void **state)
{
	(void)state;
	found = NULL;
	struct redis_link *l = new_named_link();
	UNTIL(lookups == 1);
	assert_non_null(looking);
	end_link(l);
	assert_null(looking);
	w.resolver = NULL;
}

/* ---- TLS ---- */

static char folder[32];
static char ca_path[128], other_ca_path[128], key_path[128];
static struct tls_setup *tls_files;

static void
make_certificates(const char *names)
{
	char chain[128], key[128];
	struct made_certificate ca = certificate_make(
		&(struct certificate_wish){ .is_authority = true, .common_name = "authority" });
	struct made_certificate other = certificate_make(
		&(struct certificate_wish){ .is_authority = true, .common_name = "another" });
	struct made_certificate own =
		certificate_make(&(struct certificate_wish){ .names = names, .issuer = &ca });

	snprintf(chain, sizeof chain, "%s/chain.pem", folder);
	snprintf(key, sizeof key, "%s/key.pem", folder);
	snprintf(ca_path, sizeof ca_path, "%s/ca.pem", folder);
	snprintf(other_ca_path, sizeof other_ca_path, "%s/other.pem", folder);
	snprintf(key_path, sizeof key_path, "%s/unused.pem", folder);
	certificate_write(&own, NULL, chain, key);
	certificate_write(&ca, NULL, ca_path, key_path);
	certificate_write(&other, NULL, other_ca_path, key_path);
	certificate_drop(&ca);
	certificate_drop(&other);
	certificate_drop(&own);
}

static void
begin_tls(const char *names)
{
	static struct config_errors errors;
	char extra[512], text[256];
	struct buf why = buf_of(text, sizeof text);

	strcpy(folder, "/tmp/ringpost-link-XXXXXX");
	assert_non_null(mkdtemp(folder));
	make_certificates(names);
	snprintf(server, sizeof server, "127.0.0.1:%u", redis_server_free_port());
	snprintf(extra, sizeof extra,
		 "tls-port %s\ntls-cert-file %s/chain.pem\ntls-key-file %s/key.pem\n"
		 "tls-auth-clients no\nrequirepass secret\n",
		 server + strlen("127.0.0.1:"), folder, folder);
	redis_server_start(&real, extra);
	const struct config *c = config_parse(
		"test.yaml",
		SPAN("hostname: a.example\nlisteners: [{ address: \"127.0.0.1:2525\" }]\n"),
		&errors);
	assert_non_null(c);
	tls_files = tls_setup_load(c, NULL, &why);
	config_put(c);
	assert_non_null(tls_files);
	w.tls = tls_new(tls_files, &why);
	assert_non_null(w.tls);
}

static void
end_tls(void)
{
	char command[128];

	tls_free(w.tls);
	w.tls = NULL;
	tls_setup_put(tls_files);
	redis_server_free(&real);
	snprintf(command, sizeof command, "rm -rf %s", folder);
	assert_int_equal(system(command), 0);
}

static struct redis_link *
new_tls_link(const char *authorities, struct tls_trust **trust)
{
	char text[256];
	struct buf why = buf_of(text, sizeof text);

	*trust = tls_trust_load(span_of_string(authorities), &why);
	assert_non_null(*trust);
	return new_link((struct redis_link_options){
		.password = SPAN("secret"), .tls = true, .trust = *trust, .deadline_ms = 2000 });
}

static void
tls_carries_all_of_it(void **state)
{
	struct body_budget budget = { .most_bytes = 16 * 1024 * 1024 };
	struct body *b = new_body(BODY_SIZE, &budget);
	struct question set = { 0 }, length = { 0 };
	struct tls_trust *trust;

	(void)state;
	begin_tls("IP:127.0.0.1");
	struct redis_link *l = new_tls_link(ca_path, &trust);
	UNTIL(redis_link_is_ready(l));
	set.call.on_reply = on_reply;
	redis_send_body(l, &set.call, (struct span[]){ SPAN("SET"), SPAN("key") }, 2, SPAN("0"), b,
			0, BODY_SIZE);
	ask(l, &length, "STRLEN key");
	UNTIL(length.answers == 1);
	assert_string_equal(set.text, "OK");
	assert_int_equal(length.number, BODY_SIZE + 1);
	end_link(l);
	tls_trust_free(trust);
	body_put(b);
	end_tls();
}

static void
who_cannot_prove_who_it_is_gets_no_password(void **state)
{
	static const struct {
		const char *names;
		bool is_other_ca;
		const char *part;
	} rows[] = {
		{ "IP:127.0.0.1", true, "TLS failed: unable to get local issuer" },
		{ "DNS:redis.example.org", false, "TLS failed: IP address mismatch" },
		{ "IP:127.0.0.2", false, "TLS failed: IP address mismatch" },
	};

	(void)state;
	for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct tls_trust *trust;
		char problem[400];

		begin_tls(rows[i].names);
		struct redis_link *l =
			new_tls_link(rows[i].is_other_ca ? other_ca_path : ca_path, &trust);
		UNTIL(failures > 0);
		snprintf(problem, sizeof problem, "%.*s", SPAN_ARG(redis_link_problem(l)));
		if (strstr(problem, rows[i].part) == NULL)
			fail_msg("%u: %s", i, problem);
		assert_int_equal(logins, 0);
		end_link(l);
		tls_trust_free(trust);
		end_tls();
	}
}

static void
a_server_without_tls_is_not_spoken_to_without_it(void **state)
{
	struct tls_trust *trust;

	(void)state;
	begin_tls("IP:127.0.0.1");
	snprintf(server, sizeof server, "%s", real.address); /* its plain port */
	struct redis_link *l = new_tls_link(ca_path, &trust);
	UNTIL(failures > 0);
	assert_int_equal(logins, 0);
	end_link(l);
	tls_trust_free(trust);
	end_tls();
}

#define PLAIN(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
#define REAL(test)  cmocka_unit_test_setup_teardown(test, real_setup, real_teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		REAL(a_real_server_keeps_what_it_is_sent),
		REAL(a_real_server_refuses_a_wrong_password),
		REAL(a_real_server_that_comes_back_is_found),
		PLAIN(a_name_is_looked_up_for_each_attempt),
		PLAIN(a_lookup_ends_with_its_link),
		PLAIN(tls_carries_all_of_it),
		PLAIN(who_cannot_prove_who_it_is_gets_no_password),
		PLAIN(a_server_without_tls_is_not_spoken_to_without_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
