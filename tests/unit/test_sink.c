/* SPDX-License-Identifier: Apache-2.0 */
/* test: uses bench core machine threads */
/* The sink over loopback, with a client of plain sockets. What the dialogue says is in
 * test_server.c; this is about what the network sees, time, tallies and the track. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "bench/server.h"
#include "bench/sink.h"
#include "core/base/clock.h"

enum { TAG = 0x0123abcd, GIVE_UP_S = 20, CROWD = 300 };

static struct fault_rules faults;
static struct sink_options options;
static struct track *track;
static struct sink *sink;

static void
start_at(const char *address)
{
	uint8_t text[256];
	struct buf why = buf_of(text, sizeof text);

	assert_true(net_address_parse(span_of_string(address), &options.addresses[0]));
	options.address_count = 1;
	sink = sink_start(&options, track, &why);
	if (sink == NULL)
		fail_msg("%.*s", (int)why.size, text);
}

/* With one rule, or none. */
static void
start(const char *rule)
{
	uint8_t text[256];
	struct buf why = buf_of(text, sizeof text);

	if (rule != NULL && !fault_add(&faults, span_of_string(rule), &why))
		fail_msg("%.*s", (int)why.size, text);
	start_at("127.0.0.1:0");
}

static int
set_up(void **state)
{
	(void)state;
	faults = (struct fault_rules){ 0 };
	options = (struct sink_options){ .threads = 1,
					 .connections_max = CROWD,
					 .offers = SERVER_OFFER_ALL,
					 .faults = &faults,
					 .seed = 1 };
	track = track_new(TAG, 100, 1000);
	assert_non_null(track);
	return 0;
}

static int
tear_down(void **state)
{
	(void)state;
	if (sink != NULL)
		sink_stop(sink);
	sink = NULL;
	track_free(track);
	return 0;
}

static int
dial(void)
{
	const struct net_address *a = sink_address(sink, 0);
	const struct timeval give_up = { .tv_sec = GIVE_UP_S };
	int fd = socket(a->head.family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_return_code(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &give_up, sizeof give_up),
			   errno);
	assert_return_code(connect(fd, &a->any, a->size), errno);
	return fd;
}

static void
say_bytes(int fd, const char *bytes, size_t size)
{
	assert_int_equal(send(fd, bytes, size, MSG_NOSIGNAL), size);
}

static void
say(int fd, const char *text)
{
	say_bytes(fd, text, strlen(text));
}

/* A time limit on a socket makes that a stopped and continued process sees EINTR (signal(7)). */
static ssize_t
receive(int fd, void *memory, size_t size)
{
	ssize_t n;

	do
		n = recv(fd, memory, size, 0);
	while (n < 0 && errno == EINTR);
	return n;
}

/* Reads exactly this. */
static void
expect(int fd, const char *text)
{
	char got[4096] = { 0 };
	size_t size = 0;

	assert_true(strlen(text) < sizeof got);
	while (size < strlen(text)) {
		ssize_t n = receive(fd, got + size, strlen(text) - size);
		if (n <= 0)
			fail_msg("%s instead of\n%s behind\n%s", n == 0 ? "end" : strerror(errno),
				 text, got);
		size += (size_t)n;
	}
	assert_string_equal(got, text);
}

#define BANNER "220 sink.test ESMTP ringpost-bench\r\n"
#define OK     "250 ok\r\n"
#define SEND   "354 end with CRLF.CRLF\r\n"
#define TAKEN  "250 taken\r\n"

/* HELO, which has no extensions, keeps the replies short. */
static int
dial_and_greet(void)
{
	int fd = dial();

	expect(fd, BANNER);
	say(fd, "HELO x\r\n");
	expect(fd, "250 sink.test\r\n");
	return fd;
}

static void
expect_end(int fd)
{
	char c;

	assert_int_equal(receive(fd, &c, 1), 0);
	close(fd);
}

static void
expect_reset(int fd)
{
	char c;
	ssize_t n;

	while ((n = receive(fd, &c, 1)) > 0)
		;
	assert_int_equal(n, -1);
	assert_int_equal(errno, ECONNRESET);
	close(fd);
}

/* Offers a mail to the track and sends it for one recipient, all in one group. */
static uint64_t
send_mail(int fd, const char *recipient)
{
	char text[1024];
	struct buf out = buf_of(text, sizeof text);
	uint64_t mail;

	assert_true(track_offer(track, clock_monotonic_us(), &mail));
	buf_printf(&out, "MAIL FROM:<a@b>\r\nRCPT TO:<%s>\r\nDATA\r\nReceived: x\r\n", recipient);
	track_show_field(track, mail, &out);
	buf_append_string(&out, "\r\nhi\r\n.\r\n");
	assert_false(out.overflow);
	say_bytes(fd, text, out.size);
	return mail;
}

static void
expect_numbers(uint64_t mails, uint64_t recipients, uint64_t struck)
{
	struct sink_numbers n;

	sink_count(sink, &n);
	assert_int_equal(n.mails, mails);
	assert_int_equal(n.recipients, recipients);
	assert_int_equal(n.faults, struck);
}

static void
test_mails_are_tracked(void **state)
{
	static struct histogram_view latency;
	struct track_numbers n;
	struct sink_numbers all;
	struct track_verdict verdict;
	bool rejected[100] = { false };

	(void)state;
	options.threads = 2;
	start(NULL);
	for (unsigned i = 0; i < 20; i++) {
		int fd = dial_and_greet();
		uint64_t mail = send_mail(fd, "r0.x@sink.test");
		expect(fd, OK OK SEND TAKEN);
		memset(rejected + 1, true, sizeof rejected - 1);
		track_learn(track, mail, TRACK_ACCEPTED, rejected);
		say(fd, "QUIT\r\n");
		expect(fd, "221 bye\r\n");
		expect_end(fd);
	}
	track_count(track, &n);
	track_judge(track, &verdict);
	assert_int_equal(n.recipients_accepted, 20);
	assert_int_equal(n.recipients_delivered, 20);
	assert_int_equal(n.duplicated + n.foreign, 0);
	assert_int_equal(verdict.lost + verdict.unacknowledged_delivered, 0);
	histogram_view_init(&latency);
	sink_latency(sink, &latency);
	assert_int_equal(latency.count, 20);
	sink_count(sink, &all);
	assert_int_equal(all.connections, 20);
	assert_int_equal(all.mails, 20);
	assert_int_equal(all.bytes, 20 * (sizeof "Received: x\r\n\r\nhi\r\n" - 1 +
					  sizeof TRACK_FIELD - 1 + TRACK_ID_SIZE + 2));
	assert_true(sink_cpu_us(sink) > 0);
}

static void
test_duplicates_and_foreigners(void **state)
{
	struct track_numbers n;

	(void)state;
	start(NULL);
	int fd = dial_and_greet();
	send_mail(fd, "r1.x@sink.test");
	expect(fd, OK OK SEND TAKEN);
	send_mail(fd, "x@sink.test");
	expect(fd, OK OK SEND TAKEN);
	say(fd, "MAIL FROM:<>\r\nRCPT TO:<r1@x>\r\nRCPT TO:<R1.@x>\r\nDATA\r\n"
		"X-Ringpost-Bench: 0123abcd-0000000000\r\n\r\n.\r\n");
	expect(fd, OK OK OK SEND TAKEN);
	say(fd, "MAIL FROM:<>\r\nRCPT TO:<r0@x>\r\nDATA\r\n"
		"X-Ringpost-Bench: 99999999-0000000000\r\n\r\n.\r\n");
	expect(fd, OK OK SEND TAKEN);
	say(fd, "MAIL FROM:<>\r\nRCPT TO:<r0@x>\r\nDATA\r\n.\r\n");
	expect(fd, OK OK SEND TAKEN);
	close(fd);
	track_count(track, &n);
	assert_int_equal(n.recipients_delivered, 1);
	assert_int_equal(n.duplicated, 2);
	assert_int_equal(n.foreign, 3);
	expect_numbers(5, 6, 0);
}

/* So many that the server needs memory of the pool. */
static void
test_many_recipients_by_lmtp(void **state)
{
	struct track_numbers n;
	uint64_t mail;
	char text[256];
	struct buf field = buf_of(text, sizeof text - 1);

	(void)state;
	options.lmtp = true;
	options.offers = 0;
	start(NULL);
	assert_true(track_offer(track, clock_monotonic_us(), &mail));
	int fd = dial();
	expect(fd, "220 sink.test LMTP ringpost-bench\r\n");
	say(fd, "LHLO x\r\nMAIL FROM:<>\r\n");
	expect(fd, "250 sink.test\r\n" OK);
	for (unsigned i = 0; i < 100; i++) {
		char line[64];
		snprintf(line, sizeof line, "RCPT TO:<r%u.x@sink.test>\r\n", i);
		say(fd, line);
		expect(fd, OK);
	}
	say(fd, "DATA\r\n");
	expect(fd, SEND);
	track_show_field(track, mail, &field);
	text[field.size] = 0;
	say(fd, text);
	say(fd, "\r\n.\r\n");
	for (unsigned i = 0; i < 100; i++)
		expect(fd, TAKEN);
	close(fd);
	track_count(track, &n);
	assert_int_equal(n.recipients_delivered, 100);
	assert_int_equal(n.duplicated + n.foreign, 0);
	expect_numbers(1, 100, 0);
}

static void
test_unix_socket(void **state)
{
	char path[64];

	(void)state;
	options.threads = 2;
	snprintf(path, sizeof path, "unix:/tmp/test_sink.%d", (int)getpid());
	start_at(path);
	int fd = dial_and_greet();
	send_mail(fd, "r1.x@sink.test");
	expect(fd, OK OK SEND TAKEN);
	close(fd);
	unlink(path + strlen("unix:"));
}

static void
test_dropped_at_connect(void **state)
{
	(void)state;
	start("100%:drop=connect");
	expect_reset(dial());
	expect_numbers(0, 0, 1);
}

static void
test_dropped_before_the_reply(void **state)
{
	struct track_numbers n;

	(void)state;
	start("*@sink.test:drop=reply");
	int fd = dial_and_greet();
	send_mail(fd, "r1.x@sink.test");
	expect_reset(fd);
	track_count(track, &n);
	assert_int_equal(n.recipients_delivered, 1);
	expect_numbers(1, 1, 1);
}

static void
test_dropped_at_the_end(void **state)
{
	struct track_numbers n;

	(void)state;
	start("*@sink.test:drop=end");
	int fd = dial_and_greet();
	send_mail(fd, "r1.x@sink.test");
	expect_reset(fd);
	track_count(track, &n);
	assert_int_equal(n.recipients_delivered, 0);
	expect_numbers(0, 0, 1);
}

static void
test_closed_in_order(void **state)
{
	(void)state;
	start("*@sink.test:close=data");
	int fd = dial_and_greet();
	send_mail(fd, "r1.x@sink.test");
	expect(fd, OK OK);
	expect_end(fd);
}

/* The reply to MAIL and the stall come from the same step, so nothing can follow. */
static void
test_stalled(void **state)
{
	char c;

	(void)state;
	start("*@sink.test:stall=rcpt");
	int fd = dial_and_greet();
	send_mail(fd, "r1.x@sink.test");
	expect(fd, OK);
	assert_int_equal(recv(fd, &c, 1, MSG_DONTWAIT), -1);
	assert_int_equal(errno, EAGAIN);
	expect_numbers(0, 0, 1);
	/* Others are served meanwhile, and it ends with the sink. */
	int other = dial_and_greet();
	close(other);
	sink_stop(sink);
	sink = NULL;
	assert_int_not_equal(receive(fd, &c, 1), 1);
	close(fd);
}

static void
test_late(void **state)
{
	(void)state;
	start("*@sink.test:late=150ms@rcpt");
	int fd = dial_and_greet();
	uint64_t begun_us = clock_monotonic_us();
	send_mail(fd, "r1.x@sink.test");
	expect(fd, OK OK SEND TAKEN);
	assert_true(clock_monotonic_us() - begun_us >= 149 * 1000);
	close(fd);
	expect_numbers(1, 1, 1);
}

/* What is earned is earned since the connection began, so no pause of this program's matters. */
static void
test_slow(void **state)
{
	static char body[50 * 1000];

	(void)state;
	start("100%:slow=200000");
	uint64_t begun_us = clock_monotonic_us();
	int fd = dial_and_greet();
	say(fd, "MAIL FROM:<>\r\nRCPT TO:<r0@x>\r\nDATA\r\n");
	memset(body, 'x', sizeof body);
	memcpy(body + sizeof body - 5, "\r\n.\r\n", 5);
	say_bytes(fd, body, sizeof body);
	expect(fd, OK OK SEND TAKEN);
	assert_true(clock_monotonic_us() - begun_us >= 249 * 1000);
	close(fd);
	expect_numbers(1, 1, 1);
}

/* A line longer than what one second may read. */
static void
test_slow_line(void **state)
{
	char line[150];

	(void)state;
	memset(line, 'x', sizeof line);
	memcpy(line, "NOOP ", 5);
	memcpy(line + sizeof line - 2, "\r\n", 2);
	start("100%:slow=100");
	uint64_t begun_us = clock_monotonic_us();
	int fd = dial();
	expect(fd, BANNER);
	say_bytes(fd, line, sizeof line);
	expect(fd, OK);
	assert_true(clock_monotonic_us() - begun_us >= 1490 * 1000);
	close(fd);
}

static void
test_end_in_a_line(void **state)
{
	(void)state;
	start(NULL);
	int fd = dial_and_greet();
	say(fd, "NOO");
	shutdown(fd, SHUT_WR);
	expect_end(fd);
	fd = dial_and_greet();
	shutdown(fd, SHUT_WR);
	expect_end(fd);
}

static void
test_crowd(void **state)
{
	static int all[CROWD];
	struct sink_numbers n;
	char c;

	(void)state;
	options.threads = 3;
	start(NULL);
	for (unsigned i = 0; i < CROWD; i++)
		all[i] = dial();
	for (unsigned i = 0; i < CROWD; i++)
		expect(all[i], BANNER);
	sink_count(sink, &n);
	assert_int_equal(n.connections, CROWD);
	assert_int_equal(n.open, CROWD);
	expect_end(dial()); /* one too many */
	for (unsigned i = 0; i < CROWD; i += 2) {
		say(all[i], "HELO x\r\n");
		send_mail(all[i], "r1.x@sink.test");
	}
	for (unsigned i = 0; i < CROWD; i += 2)
		expect(all[i], "250 sink.test\r\n" OK OK SEND TAKEN);
	expect_numbers(CROWD / 2, CROWD / 2, 0);
	/* Its end is theirs. */
	sink_stop(sink);
	sink = NULL;
	for (unsigned i = 0; i < CROWD; i++) {
		assert_int_equal(receive(all[i], &c, 1), 0);
		close(all[i]);
	}
}

static void
test_address_in_use(void **state)
{
	uint8_t text[256];
	struct buf why = buf_of(text, sizeof text - 1);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct net_address a;

	(void)state;
	assert_true(net_address_parse(SPAN("127.0.0.1:0"), &a));
	assert_return_code(bind(fd, &a.any, a.size), errno);
	assert_return_code(listen(fd, 1), errno);
	assert_return_code(getsockname(fd, &a.any, &a.size), errno);
	options.addresses[0] = a;
	options.address_count = 1;
	assert_null(sink_start(&options, NULL, &why));
	text[why.size] = 0;
	assert_non_null(strstr((char *)text, "cannot listen on 127.0.0.1:"));
	assert_non_null(strstr((char *)text, "in use"));
	close(fd);
}

int
main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(test_mails_are_tracked),
		TEST(test_duplicates_and_foreigners),
		TEST(test_many_recipients_by_lmtp),
		TEST(test_unix_socket),
		TEST(test_dropped_at_connect),
		TEST(test_dropped_before_the_reply),
		TEST(test_dropped_at_the_end),
		TEST(test_closed_in_order),
		TEST(test_stalled),
		TEST(test_late),
		TEST(test_slow),
		TEST(test_slow_line),
		TEST(test_end_in_a_line),
		TEST(test_crowd),
		TEST(test_address_in_use),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
