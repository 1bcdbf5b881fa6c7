/* SPDX-License-Identifier: Apache-2.0 */
/* test: uses bench core machine threads */
/*
 * Source and sink in one process, with nothing between them: whatever the sink does, what the
 * source has learnt and what the sink has seen fit together.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/server.h"
#include "bench/sink.h"
#include "bench/source.h"
#include "core/base/clock.h"

enum { TAG = 0x5eed, FIELD_SIZE = sizeof TRACK_FIELD - 1 + TRACK_ID_SIZE + 2 };

struct load {
	struct sink_options sink_options;
	struct source_options source_options;
	uint64_t mails;
	struct fault_rules faults;
	const char *size;

	struct track *track;
	struct sink *sink;
	struct source *source;
	struct letters *letters;
	struct domains *domains;

	struct track_numbers numbers;
	struct track_verdict verdict;
	struct source_numbers sent;
	struct sink_numbers caught;
	struct histogram_view accept, end_to_end;
	struct source_reason reasons[SOURCE_REASONS_MAX];
	unsigned reason_count;
};

static uint8_t why_memory[1024];

static struct load *
new_load(void)
{
	struct load *l = calloc(1, sizeof *l);

	assert_non_null(l);
	l->mails = 500;
	l->size = "1KiB";
	l->sink_options = (struct sink_options){
		.address_count = 1,
		.threads = 1,
		.connections_max = 100,
		.offers = SERVER_OFFER_ALL,
		.faults = &l->faults,
		.seed = 1,
	};
	assert_true(net_address_parse(SPAN("127.0.0.1:0"), &l->sink_options.addresses[0]));
	l->source_options = (struct source_options){
		.threads = 1,
		.connections = 5,
		.recipients = 1,
		.timeout_ms = 100 * 1000, /* of a machine that is busy with others */
		.seed = 1,
		.client = { .hello = SPAN("me"),
			    .sender = SPAN("s@x.test"),
			    .mode = CLIENT_PIPELINED },
	};
	return l;
}

static void
add_fault(struct load *l, const char *rule)
{
	struct buf why = buf_of(why_memory, sizeof why_memory);

	if (!fault_add(&l->faults, span_of_string(rule), &why))
		fail_msg("%.*s", SPAN_ARG(buf_span(&why)));
}

static void
begin(struct load *l)
{
	struct buf why = buf_of(why_memory, sizeof why_memory);

	l->track = track_new(TAG, l->source_options.recipients, l->mails);
	l->letters = letters_of_sizes(span_of_string(l->size), FIELD_SIZE, 1, &why);
	l->domains = domains_new(SPAN("sink.test"), 10, 1);
	assert_true(l->track != NULL && l->letters != NULL && l->domains != NULL);
	l->sink_options.lmtp = l->source_options.client.lmtp;
	l->sink = sink_start(&l->sink_options, l->track, &why);
	if (l->sink == NULL)
		fail_msg("%.*s", SPAN_ARG(buf_span(&why)));
	l->source_options.relay = *sink_address(l->sink, 0);
	l->source_options.letters = l->letters;
	l->source_options.domains = l->domains;
	l->source = source_start(&l->source_options, l->track, &why);
	if (l->source == NULL)
		fail_msg("%.*s", SPAN_ARG(buf_span(&why)));
}

/* Stops both and takes what they know. The sink has counted all that it has acknowledged. */
static void
end(struct load *l)
{
	source_stop(l->source);
	histogram_view_init(&l->accept);
	histogram_view_init(&l->end_to_end);
	source_latency(l->source, &l->accept);
	sink_latency(l->sink, &l->end_to_end);
	sink_count(l->sink, &l->caught);
	assert_true(source_cpu_us(l->source) > 0 && sink_cpu_us(l->sink) > 0);
	sink_stop(l->sink);
	source_count(l->source, &l->sent);
	l->reason_count = source_reasons(l->source, l->reasons);
	source_free(l->source);
	track_count(l->track, &l->numbers);
	track_judge(l->track, &l->verdict);
}

static void
run(struct load *l)
{
	begin(l);
	while (!source_is_done(l->source))
		sched_yield();
	end(l);
	const uint64_t *mails = l->numbers.mails;
	assert_int_equal(mails[TRACK_ACCEPTED] + mails[TRACK_REFUSED] + mails[TRACK_IN_DOUBT],
			 mails[TRACK_OFFERED]);
	assert_int_equal(l->accept.count, mails[TRACK_ACCEPTED]);
	assert_int_equal(l->end_to_end.count, l->numbers.recipients_delivered);
	/* The sink lies to nobody. */
	assert_int_equal(l->verdict.lost, 0);
	assert_int_equal(l->numbers.duplicated, 0);
	assert_int_equal(l->numbers.foreign, 0);
}

static void
free_load(struct load *l)
{
	track_free(l->track);
	letters_free(l->letters);
	domains_free(l->domains);
	free(l);
}

static uint64_t
count_of(const struct load *l, const char *part)
{
	for (unsigned i = 0; i < l->reason_count; i++)
		if (strstr(l->reasons[i].text, part) != NULL)
			return l->reasons[i].count;
	return 0;
}

/* ---- no faults ---- */

static void
expect_all(const struct load *l)
{
	uint64_t recipients = l->mails * l->source_options.recipients;

	for (unsigned i = 0; i < l->reason_count; i++)
		print_error("%lu times: %s\n", (unsigned long)l->reasons[i].count,
			    l->reasons[i].text);
	assert_int_equal(l->numbers.mails[TRACK_ACCEPTED], l->mails);
	assert_int_equal(l->numbers.recipients_accepted, recipients);
	assert_int_equal(l->numbers.recipients_settled, recipients);
	assert_int_equal(l->caught.mails, l->mails);
	assert_int_equal(l->caught.recipients, recipients);
	assert_int_equal(l->caught.bytes, l->sent.bytes);
	assert_int_equal(l->caught.connections, l->sent.connections);
	assert_int_equal(l->sent.connection_errors, 0);
	assert_int_equal(l->reason_count, 0);
	assert_true(l->sent.first_offer_us > 0);
	assert_true(l->sent.last_reply_us >= l->sent.first_offer_us);
}

static void
every_way_of_speaking_delivers_all(void **state)
{
	(void)state;
	for (unsigned way = 0; way < 32; way++) {
		struct load *l = new_load();
		struct client_options *c = &l->source_options.client;
		c->mode = (way & 1) != 0 ? CLIENT_PIPELINED : CLIENT_LOCKSTEP;
		c->bdat = (way & 2) != 0;
		c->lmtp = (way & 4) != 0;
		l->source_options.recipients = way & 8 ? 20 : 1;
		/* Larger than is copied, than the socket's buffer, and than the sink reads at once.
		 */
		l->size = way & 16 ? "512B:8,5000B:1,40KiB:1,300KiB..2MiB:1" : "1KiB";
		l->mails = way & 16 ? 60 : 200;
		run(l);
		expect_all(l);
		assert_int_equal(l->sent.connections, 5);
		free_load(l);
	}
}

static void
threads_of_source_and_sink_share_the_load(void **state)
{
	struct load *l = new_load();

	(void)state;
	l->source_options.threads = 3;
	l->source_options.connections = 7;
	l->sink_options.threads = 2;
	l->mails = 3000;
	run(l);
	expect_all(l);
	assert_int_equal(l->sent.connections, 7);
	free_load(l);
}

static void
connections_end_after_their_share_of_mails(void **state)
{
	struct load *l = new_load();

	(void)state;
	l->source_options.client.mails_max = 10;
	run(l);
	expect_all(l);
	assert_in_range(l->sent.connections, l->mails / 10, l->mails / 10 + 5);
	free_load(l);
}

static void
a_sink_without_pipelining_gets_all_in_lockstep(void **state)
{
	struct load *l = new_load();

	(void)state;
	l->sink_options.offers &= ~(uint32_t)SERVER_OFFER_PIPELINING;
	run(l);
	expect_all(l);
	free_load(l);
}

static void
a_thousand_recipients_go_in_one_group(void **state)
{
	struct load *l = new_load();

	(void)state;
	l->source_options.recipients = 1000;
	l->mails = 10;
	run(l);
	expect_all(l);
	free_load(l);
}

static void
a_time_ends_the_offering(void **state)
{
	struct load *l = new_load();
	uint64_t began_us = clock_monotonic_us();

	(void)state;
	l->mails = 10 * 1000 * 1000;
	l->source_options.duration_us = 300 * 1000;
	run(l);
	assert_true(clock_monotonic_us() - began_us >= 300 * 1000);
	assert_true(l->numbers.mails[TRACK_OFFERED] < l->mails);
	assert_int_equal(l->numbers.mails[TRACK_OFFERED], l->numbers.mails[TRACK_ACCEPTED]);
	assert_int_equal(l->sent.not_offered, 0); /* closed loop */
	free_load(l);
}

static void
a_cut_ends_the_offering(void **state)
{
	struct load *l = new_load();
	struct track_numbers now;

	(void)state;
	l->mails = 10 * 1000 * 1000;
	begin(l);
	do
		track_count(l->track, &now);
	while (now.mails[TRACK_ACCEPTED] < 100);
	source_cut(l->source);
	while (!source_is_done(l->source))
		sched_yield();
	end(l);
	assert_true(l->numbers.mails[TRACK_OFFERED] < l->mails);
	assert_int_equal(l->numbers.mails[TRACK_OFFERED], l->numbers.mails[TRACK_ACCEPTED]);
	assert_int_equal(l->reason_count, 0);
	free_load(l);
}

/* ---- faults ---- */

static void
refusals_are_counted_with_their_reply(void **state)
{
	struct load *l = new_load();

	(void)state;
	l->source_options.recipients = 2;
	add_fault(l, "r0.*:refuse");
	add_fault(l, "10%:defer-data");
	run(l);
	uint64_t accepted = l->numbers.mails[TRACK_ACCEPTED];
	assert_in_range(accepted, l->mails * 80 / 100, l->mails * 97 / 100);
	assert_int_equal(l->numbers.mails[TRACK_REFUSED], l->mails - accepted);
	assert_int_equal(l->numbers.recipients_accepted, accepted);
	assert_int_equal(l->numbers.recipients_settled, accepted);
	assert_int_equal(count_of(l, "451"), l->mails - accepted);
	free_load(l);
}

static void
a_mail_without_recipients_is_refused(void **state)
{
	struct load *l = new_load();

	(void)state;
	for (unsigned way = 0; way < 4; way++) {
		if (way > 0)
			l = new_load();
		l->source_options.client.mode = (way & 1) != 0 ? CLIENT_PIPELINED : CLIENT_LOCKSTEP;
		l->source_options.client.bdat = (way & 2) != 0;
		add_fault(l, "30%:refuse");
		run(l);
		assert_int_equal(l->caught.mails, l->numbers.mails[TRACK_ACCEPTED]);
		assert_in_range(l->numbers.mails[TRACK_REFUSED], l->mails * 20 / 100,
				l->mails * 40 / 100);
		assert_int_equal(l->sent.connections, 5); /* RSET keeps them */
		free_load(l);
	}
}

static void
lmtp_faults_strike_single_recipients(void **state)
{
	struct load *l = new_load();

	(void)state;
	l->source_options.client.lmtp = true;
	l->source_options.recipients = 4;
	add_fault(l, "20%:refuse");
	add_fault(l, "20%:defer-data");
	run(l);
	assert_int_equal(l->numbers.recipients_accepted, l->numbers.recipients_delivered);
	assert_int_equal(l->numbers.recipients_settled, l->numbers.recipients_delivered);
	assert_int_equal(l->verdict.unacknowledged_delivered, 0);
	assert_in_range(l->numbers.recipients_accepted, l->mails * 4 * 55 / 100,
			l->mails * 4 * 72 / 100);
	free_load(l);
}

/* Where the connection is dropped, and what a mail is then. */
static void
drops_leave_refused_or_in_doubt(void **state)
{
	static const struct {
		const char *rule;
		bool in_doubt; /* may be */
		bool unacknowledged;
	} rows[] = {
		{ "5%:drop=connect", false, false }, { "5%:drop=hello", false, false },
		{ "2%:drop=mail", false, false },    { "2%:drop=rcpt", false, false },
		{ "2%:close=data", false, false },   { "2%:drop=body", true, false },
		{ "2%:drop=end", true, false },      { "2%:close=end", true, false },
		{ "2%:drop=reply", true, true },     { "2%:close=reply", true, true },
	};

	(void)state;
	for (size_t i = 0; i < 2 * (sizeof rows / sizeof rows[0]); i++) {
		struct load *l = new_load();
		l->source_options.client.mode = i % 2 == 0 ? CLIENT_PIPELINED : CLIENT_LOCKSTEP;
		l->source_options.client.mails_max = 20;
		add_fault(l, rows[i / 2].rule);
		run(l);
		assert_int_equal(l->numbers.mails[TRACK_OFFERED], l->mails);
		if (i / 2 > 1 && l->sent.connection_errors == 0)
			fail_msg("%s: nothing happened", rows[i / 2].rule);
		/* In a group the reset may take the reply to the mail in front with it. */
		bool may =
			rows[i / 2].in_doubt || l->source_options.client.mode == CLIENT_PIPELINED;
		if (l->numbers.mails[TRACK_IN_DOUBT] > 0 ? !may : rows[i / 2].in_doubt)
			fail_msg("%s: %lu in doubt", rows[i / 2].rule,
				 (unsigned long)l->numbers.mails[TRACK_IN_DOUBT]);
		if (rows[i / 2].unacknowledged)
			assert_true(l->verdict.unacknowledged_delivered > 0);
		/* What was acknowledged has arrived, all else that has was in doubt. */
		assert_int_equal(l->numbers.recipients_settled, l->numbers.mails[TRACK_ACCEPTED]);
		assert_true(l->verdict.unacknowledged_delivered <=
			    l->numbers.mails[TRACK_IN_DOUBT]);
		free_load(l);
	}
}

static void
a_server_that_says_nothing_is_given_up(void **state)
{
	static const char *const rules[] = { "stall=connect", "stall=hello", "stall=mail",
					     "stall=end" };

	(void)state;
	for (size_t i = 0; i < sizeof rules / sizeof rules[0]; i++) {
		struct load *l = new_load();
		char rule[64];
		snprintf(rule, sizeof rule, "100%%:%s", rules[i]);
		add_fault(l, rule);
		l->source_options.timeout_ms = 100;
		l->source_options.duration_us = 250 * 1000;
		run(l);
		assert_int_equal(l->numbers.mails[TRACK_ACCEPTED], 0);
		assert_true(l->sent.connection_errors >= 5);
		assert_true(count_of(l, "no reply in time") > 0);
		assert_true((l->numbers.mails[TRACK_IN_DOUBT] > 0) == (i == 3));
		free_load(l);
	}
}

static void
nobody_there_is_told_and_tried_again(void **state)
{
	struct load *l = new_load();
	struct source_numbers now;

	(void)state;
	begin(l);
	/* Nobody listens at port 1 of this address. */
	source_stop(l->source);
	source_free(l->source);
	assert_true(net_address_parse(SPAN("127.77.66.55:1"), &l->source_options.relay));
	struct buf why = buf_of(why_memory, sizeof why_memory);
	l->source = source_start(&l->source_options, l->track, &why);
	assert_non_null(l->source);
	do {
		sched_yield();
		source_count(l->source, &now);
	} while (now.connection_errors < 15);
	assert_false(source_is_done(l->source));
	end(l);
	assert_int_equal(l->sent.connections, 0);
	assert_int_equal(l->reason_count, 1);
	free_load(l);
}

static void
a_stop_leaves_what_is_open_in_doubt(void **state)
{
	struct load *l = new_load();
	struct track_numbers now;

	(void)state;
	add_fault(l, "100%:stall=end");
	begin(l);
	do
		track_count(l->track, &now);
	while (now.mails[TRACK_OFFERED] < 5);
	end(l);
	assert_true(l->numbers.mails[TRACK_ACCEPTED] == 0);
	assert_int_equal(l->numbers.mails[TRACK_OFFERED],
			 l->numbers.mails[TRACK_REFUSED] + l->numbers.mails[TRACK_IN_DOUBT]);
	assert_int_equal(l->verdict.lost + l->numbers.recipients_delivered, 0);
	free_load(l);
}

/* ---- open loop ---- */

static void
an_open_loop_keeps_its_rate(void **state)
{
	struct load *l = new_load();

	(void)state;
	l->mails = 1000 * 1000;
	l->source_options.rate = 500;
	l->source_options.threads = 2;
	l->source_options.duration_us = 1000 * 1000;
	run(l);
	/* Exactly, whatever the machine does meanwhile: what was late is offered or counted. */
	assert_in_range(l->numbers.mails[TRACK_OFFERED] + l->sent.not_offered, 499, 502);
	assert_true(l->numbers.mails[TRACK_OFFERED] > 0);
	free_load(l);
}

static void
latency_counts_from_when_a_mail_was_due(void **state)
{
	struct load *l = new_load();

	(void)state;
	/* One connection, which is busy with each mail for 50 ms: of 100 mails a second every
	 * second one is late, the last by half of the time that all of them take. */
	l->mails = 20;
	l->source_options.rate = 100;
	l->source_options.connections = 1;
	l->source_options.client.mode = CLIENT_LOCKSTEP;
	add_fault(l, "100%:late=50ms@end");
	run(l);
	expect_all(l);
	assert_true(l->accept.most >= 20 * 50 * 1000 - 20 * 10 * 1000);
	assert_true(l->end_to_end.most >= 20 * 50 * 1000 - 20 * 10 * 1000);
	assert_true(histogram_at(&l->accept, 0.5) >= 10 * 50 * 1000 - 10 * 10 * 1000);
	free_load(l);
}

static void
what_was_due_and_found_no_connection_is_counted(void **state)
{
	struct load *l = new_load();

	(void)state;
	l->mails = 1000 * 1000;
	l->source_options.rate = 1000;
	l->source_options.connections = 1;
	l->source_options.client.mode = CLIENT_LOCKSTEP;
	l->source_options.duration_us = 500 * 1000;
	add_fault(l, "100%:late=100ms@end");
	run(l);
	assert_in_range(l->numbers.mails[TRACK_OFFERED], 1, 6);
	assert_in_range(l->numbers.mails[TRACK_OFFERED] + l->sent.not_offered, 499, 502);
	free_load(l);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_way_of_speaking_delivers_all),
		cmocka_unit_test(threads_of_source_and_sink_share_the_load),
		cmocka_unit_test(connections_end_after_their_share_of_mails),
		cmocka_unit_test(a_sink_without_pipelining_gets_all_in_lockstep),
		cmocka_unit_test(a_thousand_recipients_go_in_one_group),
		cmocka_unit_test(a_time_ends_the_offering),
		cmocka_unit_test(a_cut_ends_the_offering),
		cmocka_unit_test(refusals_are_counted_with_their_reply),
		cmocka_unit_test(a_mail_without_recipients_is_refused),
		cmocka_unit_test(lmtp_faults_strike_single_recipients),
		cmocka_unit_test(drops_leave_refused_or_in_doubt),
		cmocka_unit_test(a_server_that_says_nothing_is_given_up),
		cmocka_unit_test(nobody_there_is_told_and_tried_again),
		cmocka_unit_test(a_stop_leaves_what_is_open_in_doubt),
		cmocka_unit_test(an_open_loop_keeps_its_rate),
		cmocka_unit_test(latency_counts_from_when_a_mail_was_due),
		cmocka_unit_test(what_was_due_and_found_no_connection_is_counted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
