/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/session.h"

#include <errno.h>
#include <openssl/evp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "bench/progress.h"
#include "bench/relay.h"
#include "bench/server.h"
#include "core/base/assert.h"
#include "core/base/clock.h"

enum {
	EXIT_LOST = 1,
	EXIT_USAGE = 2,
	WHY_SIZE = 1024,
	LOOK_MS = 20,
	GREETING_SECONDS = 10,
	/* The last sample of a run counts from this part of an interval on. */
	LAST_SAMPLE_PARTS = 10,
	/* Cells are reserved, not used: this bounds a run by time. */
	MAILS_MOST = 256 * 1000 * 1000,
	FIELD_SIZE = sizeof TRACK_FIELD - 1 + TRACK_ID_SIZE + 2,
};

/* What is watched while it runs. */
struct session {
	const struct bench_options *o;
	enum client_mode mode;
	enum source_tls tls;
	struct tls_setup *tls_setup;
	struct buf login; /* of AUTH PLAIN, in base64 */
	uint8_t login_memory[CLIENT_LOGIN_MAX + 1];
	struct letters *letters;
	struct domains *domains;
	struct fault_rules faults;
	struct relay relay;
	sigset_t signals;
	unsigned interrupts;
	bool relay_gone; /* it ended while it was loaded */
	struct buf *why;

	/* Of the load that runs now. */
	struct track *track;
	struct source *source;
	struct sink *sink;
	struct result *result;
	struct progress progress;
	uint64_t began_us;
	uint64_t sampled_us;
	struct track_numbers seen;
	uint64_t seen_errors;
	uint64_t seen_caught;
	uint64_t seen_cpu_us[3]; /* relay, source, sink */
	struct histogram_view seen_accept, seen_end_to_end;
	uint64_t arrivals;   /* as last seen, for the wait at the end */
	uint64_t arrived_us; /* when that changed */
	double expected_s;   /* of the load; 0: known by mails */
};

/* ---- what the parts are told ---- */

static bool
sends_mail(enum client_mode mode)
{
	return mode == CLIENT_PIPELINED || mode == CLIENT_LOCKSTEP;
}

static struct source_options
source_options(const struct session *s, uint64_t duration_us)
{
	const struct bench_options *o = s->o;

	return (struct source_options){
		.relay = o->relay,
		.tls = s->tls,
		.tls_setup = s->tls_setup,
		.threads = (unsigned)o->source_threads,
		.connections = (unsigned)o->connections,
		.recipients = (uint32_t)o->recipients,
		.duration_us = duration_us,
		.rate = o->rate,
		.timeout_ms = o->timeout_ms,
		.seed = o->seed,
		.client = {
			.hello = span_of_string(o->hello),
			.sender = span_of_string(o->from),
			.mode = s->mode,
			.starttls = s->tls == SOURCE_STARTTLS,
			.login = buf_span(&s->login),
			.bdat = o->bdat,
			.lmtp = o->command == BENCH_SOURCE && o->lmtp,
			.mails_max = sends_mail(s->mode) ? o->per_connection : 1,
		},
		.sender_domains = (uint32_t)o->from_domains,
		.proxy = o->proxy,
		.letters = s->letters,
		.domains = s->domains,
	};
}

static struct sink_options
sink_options(const struct session *s, bool faults)
{
	const struct bench_options *o = s->o;
	struct sink_options k = {
		.threads = (unsigned)o->sink_threads,
		.connections_max = (unsigned)o->sink_connections,
		.lmtp = o->lmtp,
		.offers = SERVER_OFFER_ALL,
		.faults = faults ? &s->faults : NULL,
		.seed = o->seed,
	};

	for (unsigned i = 0; i < o->sinks.count && i < SINK_ADDRESSES_MAX; i++)
		k.addresses[k.address_count++] = o->sinks.items[i];
	for (unsigned i = 0; i < o->without.count; i++)
		k.offers &= ~server_offer_of(span_of_string(o->without.items[i]));
	return k;
}

/* ---- waiting ---- */

/* Until the next look, or a signal. */
static void
wait_a_while(struct session *s)
{
	struct timespec t = { .tv_nsec = LOOK_MS * 1000000 };
	int signal = sigtimedwait(&s->signals, NULL, &t);

	if (signal == SIGINT || signal == SIGTERM)
		s->interrupts++;
}

/* ---- samples ---- */

static uint64_t
errors_of(const struct session *s, const struct track_numbers *now)
{
	struct source_numbers numbers = { 0 };

	if (s->source != NULL)
		source_count(s->source, &numbers);
	return now->mails[TRACK_REFUSED] + now->mails[TRACK_IN_DOUBT] + numbers.connection_errors;
}

static void
read_latencies(const struct session *s, struct histogram_view *accept,
	       struct histogram_view *end_to_end)
{
	histogram_view_init(accept);
	histogram_view_init(end_to_end);
	if (s->source != NULL)
		source_latency(s->source, accept);
	if (s->sink != NULL)
		sink_latency(s->sink, end_to_end);
}

static void
sample_latencies(struct session *s, struct result_sample *out)
{
	struct histogram_view accept, end_to_end, part;

	read_latencies(s, &accept, &end_to_end);
	histogram_since(&accept, &s->seen_accept, &part);
	out->accept_p50_us = part.count > 0 ? histogram_at(&part, 0.5) : RESULT_NONE;
	out->accept_p99_us = part.count > 0 ? histogram_at(&part, 0.99) : RESULT_NONE;
	histogram_since(&end_to_end, &s->seen_end_to_end, &part);
	out->end_to_end_p50_us = part.count > 0 ? histogram_at(&part, 0.5) : RESULT_NONE;
	out->end_to_end_p99_us = part.count > 0 ? histogram_at(&part, 0.99) : RESULT_NONE;
	s->seen_accept = accept;
	s->seen_end_to_end = end_to_end;
}

static void
sample_cpu(struct session *s, struct result_sample *out)
{
	struct meter m = { 0 };
	uint64_t now_us[3];

	if (s->result->has_relay)
		meter_read(s->relay.pid, true, &m);
	now_us[0] = m.user_us + m.system_us;
	now_us[1] = s->source != NULL ? source_cpu_us(s->source) : 0;
	now_us[2] = s->sink != NULL ? sink_cpu_us(s->sink) : 0;
	uint64_t *const fields[] = { &out->relay_cpu_us, &out->source_cpu_us, &out->sink_cpu_us };
	for (unsigned i = 0; i < 3; i++) {
		*fields[i] = now_us[i] > s->seen_cpu_us[i] ? now_us[i] - s->seen_cpu_us[i] : 0;
		s->seen_cpu_us[i] = now_us[i];
	}
	out->relay_pss_bytes = m.pss_bytes;
	if (m.pss_bytes > s->result->relay_pss_peak_bytes)
		s->result->relay_pss_peak_bytes = m.pss_bytes;
}

/* Since the last look. A sink alone tracks no mail: it has caught what it has. */
static uint64_t
delivered_of(struct session *s, const struct track_numbers *now)
{
	struct sink_numbers caught;

	if (s->o->command != BENCH_SINK)
		return now->recipients_delivered - s->seen.recipients_delivered;
	sink_count(s->sink, &caught);
	uint64_t since = caught.recipients - s->seen_caught;
	s->seen_caught = caught.recipients;
	return since;
}

/* What came since the last one. */
static void
sample(struct session *s, uint64_t now_us, struct result_sample *out)
{
	struct track_numbers now;
	uint64_t errors;

	track_count(s->track, &now);
	errors = errors_of(s, &now);
	*out = (struct result_sample){
		.t_s = (double)(now_us - s->began_us) / 1e6,
		.seconds = (double)(now_us - s->sampled_us) / 1e6,
		.offered = now.mails[TRACK_OFFERED] - s->seen.mails[TRACK_OFFERED],
		.accepted = now.recipients_accepted - s->seen.recipients_accepted,
		.delivered = delivered_of(s, &now),
		.errors = errors - s->seen_errors,
		.queued = s->sink != NULL && now.recipients_accepted > now.recipients_settled
				  ? now.recipients_accepted - now.recipients_settled
				  : 0,
	};
	sample_latencies(s, out);
	sample_cpu(s, out);
	s->seen = now;
	s->seen_errors = errors;
	s->sampled_us = now_us;
}

/* How far the load is, 0 to 1; below 0 where nothing says so. */
static double
how_far(const struct session *s, uint64_t now_us)
{
	if (s->expected_s > 0)
		return (double)(now_us - s->began_us) / 1e6 / s->expected_s;
	if (s->o->messages == 0 || s->source == NULL)
		return -1;
	uint64_t seen = s->sink != NULL ? s->seen.recipients_delivered / s->o->recipients
					: s->seen.mails[TRACK_ACCEPTED];
	return (double)seen / (double)s->o->messages;
}

/* A relay that was started here and has ended will not take the rest. */
static void
look_after_relay(struct session *s, const struct result_sample *now)
{
	if (!s->result->has_relay || now->accepted + now->delivered > 0 ||
	    !relay_is_gone(&s->relay, &s->o->relay))
		return;
	s->relay_gone = true;
	s->interrupts += 2;
}

static void
look(struct session *s)
{
	struct result_sample now;
	uint64_t now_us = clock_monotonic_us();

	if (now_us - s->sampled_us < s->o->interval_ms * 1000)
		return;
	sample(s, now_us, &now);
	if (!result_add_sample(s->result, &now))
		s->interrupts += 2; /* no memory for it: end with what there is */
	progress_show(&s->progress, &now, how_far(s, now_us));
	look_after_relay(s, &now);
}

/* What came since the last whole interval. */
static void
look_last(struct session *s)
{
	struct result_sample now;
	uint64_t now_us = clock_monotonic_us();

	if ((now_us - s->sampled_us) * LAST_SAMPLE_PARTS < s->o->interval_ms * 1000)
		return;
	sample(s, now_us, &now);
	result_add_sample(s->result, &now);
}

/* ---- one load ---- */

static void
watch_source(struct session *s)
{
	while (!source_is_done(s->source)) {
		wait_a_while(s);
		look(s);
		if (s->interrupts == 1)
			source_cut(s->source);
		if (s->interrupts > 1)
			return;
	}
}

/* Until nothing has arrived for as long as --drain says or, where everything accepted has, for
 * settle_ms, in which duplicates and mails in doubt may come; they cannot make it longer than
 * --drain. */
static void
watch_arrivals(struct session *s, uint64_t settle_ms)
{
	uint64_t settled_us = 0;

	s->arrived_us = clock_monotonic_us();
	while (s->interrupts < 2) {
		struct track_numbers now;
		track_count(s->track, &now);
		uint64_t arrivals = now.recipients_delivered + now.duplicated + now.foreign;
		uint64_t now_us = clock_monotonic_us();
		bool all = now.recipients_settled >= now.recipients_accepted;
		if (arrivals != s->arrivals)
			s->arrived_us = now_us;
		s->arrivals = arrivals;
		if (!all || settled_us == 0)
			settled_us = now_us;
		if (now_us - s->arrived_us >= (all ? settle_ms : s->o->drain_ms) * 1000 ||
		    now_us - settled_us > s->o->drain_ms * 1000)
			return;
		wait_a_while(s);
		look(s);
	}
}

static void
begin(struct session *s, struct result *r, struct track *track, const char *what)
{
	s->result = r;
	s->track = track;
	s->began_us = s->sampled_us = clock_monotonic_us();
	s->seen = (struct track_numbers){ 0 };
	s->seen_errors = s->seen_caught = s->arrivals = 0;
	memset(s->seen_cpu_us, 0, sizeof s->seen_cpu_us);
	if (r->has_relay) {
		struct meter m;
		meter_read(s->relay.pid, false, &m);
		s->seen_cpu_us[0] = m.user_us + m.system_us;
	}
	histogram_view_init(&s->seen_accept);
	histogram_view_init(&s->seen_end_to_end);
	progress_init(&s->progress, what);
}

static void
read_times(struct result *r)
{
	uint64_t first_us = r->source.first_offer_us;
	uint64_t last_us = r->track.last_arrival_us > first_us ? r->track.last_arrival_us
							       : r->source.last_reply_us;

	if (first_us == 0)
		return;
	if (r->source.last_reply_us > first_us)
		r->offer_s = (double)(r->source.last_reply_us - first_us) / 1e6;
	if (last_us > first_us)
		r->total_s = (double)(last_us - first_us) / 1e6;
}

/* Stops what runs and takes what it knows. */
static void
end(struct session *s)
{
	struct result *r = s->result;

	progress_end(&s->progress);
	if (s->source != NULL)
		source_stop(s->source);
	look_last(s);
	read_latencies(s, &r->accept, &r->end_to_end);
	if (s->sink != NULL) {
		sink_count(s->sink, &r->sink);
		r->sink_cpu_us = sink_cpu_us(s->sink);
		sink_stop(s->sink);
		s->sink = NULL;
	}
	if (s->source != NULL) {
		source_count(s->source, &r->source);
		r->source_cpu_us = source_cpu_us(s->source);
		r->reason_count = source_reasons(s->source, r->reasons);
		source_free(s->source);
		s->source = NULL;
	}
	track_count(s->track, &r->track);
	track_judge(s->track, &r->verdict);
	read_times(r);
}

static bool
new_track(const struct session *s, struct track **out, struct buf *why)
{
	uint64_t mails = s->o->messages != 0 ? s->o->messages : MAILS_MOST / s->o->recipients;

	*out = track_new((uint32_t)random_u64(), (uint32_t)s->o->recipients, mails);
	if (*out == NULL)
		buf_append_string(why, "no memory for the table of mails");
	return *out != NULL;
}

/* Source to sink without anything between them: what this machine allows. */
static bool
measure_without(struct session *s, const char *what, double *per_s)
{
	struct result r = { .options = s->o, .has_source = true, .has_sink = true };
	struct sink_options sink = sink_options(s, false);
	struct source_options source = source_options(s, s->o->baseline_ms * 1000);
	struct track *track;

	source.relay = s->o->sinks.items[0];
	source.rate = 0;
	source.client.lmtp = s->o->lmtp;
	/* The sink knows none of it: what they cost is seen against the same baseline as without.
	 */
	source.tls = SOURCE_PLAIN;
	source.client.starttls = false;
	source.client.login = span_none();
	source.proxy.size = 0;
	track = track_new((uint32_t)random_u64(), (uint32_t)s->o->recipients,
			  MAILS_MOST / s->o->recipients);
	if (track == NULL)
		return false;
	begin(s, &r, track, what);
	s->expected_s = (double)s->o->baseline_ms / 1e3;
	s->sink = sink_start(&sink, track, s->why);
	s->source = s->sink != NULL ? source_start(&source, track, s->why) : NULL;
	bool good = s->source != NULL;
	if (good) {
		watch_source(s);
		watch_arrivals(s, 0);
	}
	if (s->sink != NULL)
		end(s);
	*per_s = s->interrupts == 0 ? result_delivered_per_s(&r) : 0;
	if (good && s->interrupts == 0 && *per_s == 0) {
		buf_printf(s->why, "without the relay nothing arrives: %s",
			   r.reason_count > 0 ? r.reasons[0].text : "no reason is known");
		good = false;
	}
	result_free(&r);
	track_free(track);
	return good;
}

/* What processes that left the tree had used is missing afterwards. */
static void
take_off(uint64_t *after, uint64_t before)
{
	*after = *after > before ? *after - before : 0;
}

static void
subtract(struct meter *after, const struct meter *before)
{
	take_off(&after->user_us, before->user_us);
	take_off(&after->system_us, before->system_us);
	take_off(&after->context_switches, before->context_switches);
	take_off(&after->bytes_written, before->bytes_written);
	for (unsigned i = 0; i < after->name_count; i++) {
		for (unsigned k = 0; k < before->name_count; k++) {
			if (strcmp(after->names[i].name, before->names[k].name) != 0)
				continue;
			take_off(&after->names[i].user_us, before->names[k].user_us);
			take_off(&after->names[i].system_us, before->names[k].system_us);
		}
	}
}

/* The load that is the purpose of the command. */
static bool
measure(struct session *s, struct result *r)
{
	struct sink_options sink = sink_options(s, true);
	struct source_options source = source_options(s, s->o->duration_ms * 1000);
	struct meter before = { 0 };
	struct track *track;

	if (!new_track(s, &track, s->why))
		return false;
	begin(s, r, track, s->o->command == BENCH_SOURCE ? "source" : "run");
	s->expected_s = (double)s->o->duration_ms / 1e3;
	if (r->has_relay)
		meter_read(s->relay.pid, false, &before);
	bool good = true;
	if (r->has_sink)
		good = (s->sink = sink_start(&sink, track, s->why)) != NULL;
	if (good)
		good = (s->source = source_start(&source, track, s->why)) != NULL;
	if (good) {
		watch_source(s);
		if (r->has_sink)
			watch_arrivals(s, s->o->settle_ms);
		if (r->has_relay) {
			meter_read(s->relay.pid, true, &r->relay);
			subtract(&r->relay, &before);
			if (r->relay.pss_bytes > r->relay_pss_peak_bytes)
				r->relay_pss_peak_bytes = r->relay.pss_bytes;
		}
	}
	if (s->source != NULL || s->sink != NULL)
		end(s);
	track_free(track);
	return good;
}

/* ---- the commands ---- */

static bool
run_sink(struct session *s, struct result *r)
{
	struct sink_options sink = sink_options(s, true);
	struct track *track = track_new(0, 1, 1);

	if (track == NULL)
		return false;
	begin(s, r, track, "sink");
	s->sink = sink_start(&sink, NULL, s->why);
	if (s->sink == NULL) {
		track_free(track);
		return false;
	}
	while (s->interrupts == 0) {
		wait_a_while(s);
		look(s);
	}
	end(s);
	track_free(track);
	return true;
}

static bool
run_around(struct session *s, struct result *r)
{
	const struct bench_options *o = s->o;

	if (o->baseline_ms > 0 && !measure_without(s, "before", &r->before_per_s))
		return false;
	if (s->interrupts > 0) {
		buf_append_string(s->why, "interrupted before the relay was loaded");
		return false;
	}
	s->relay.pid = (pid_t)o->relay_pid;
	if (o->rest_count > 0 && !relay_start(&s->relay, o->rest, &o->relay, s->why))
		return false;
	r->has_relay = s->relay.pid > 0;
	bool good = (o->rest_count > 0 ||
		     relay_await(&s->relay, &o->relay, GREETING_SECONDS, s->why)) &&
		    measure(s, r);
	relay_stop(&s->relay);
	if (good && o->baseline_ms > 0 && s->interrupts == 0)
		good = measure_without(s, "after", &r->after_per_s);
	return good;
}

/* Better told now than after an hour of load. */
static bool
can_write(const char *file, struct buf *why)
{
	bool is_new = access(file, F_OK) != 0;
	FILE *f = fopen(file, "ae");

	if (f != NULL) {
		fclose(f);
		if (is_new)
			unlink(file);
		return true;
	}
	buf_printf(why, "--json %s: %s", file, strerror(errno));
	return false;
}

enum { PASSWORD_MAX = 256 };

/* The first line of the file. */
static bool
read_password(const char *file, char *out, size_t size, struct buf *why)
{
	FILE *f = fopen(file, "re");

	if (f == NULL || fgets(out, (int)size, f) == NULL) {
		buf_printf(why, "--login: %s: %s", file,
			   f == NULL ? strerror(errno) : "it is empty");
		if (f != NULL)
			fclose(f);
		return false;
	}
	fclose(f);
	out[strcspn(out, "\r\n")] = '\0';
	return true;
}

/* "\0user\0password" (RFC 4616), in base64. */
static bool
prepare_login(struct session *s)
{
	char password[PASSWORD_MAX];
	uint8_t plain[PASSWORD_MAX + CLIENT_ADDRESS_MAX + 2];
	struct buf text = buf_of(plain, sizeof plain);

	s->login = buf_of(s->login_memory, sizeof s->login_memory);
	if (s->o->login == NULL)
		return true;
	const char *file = strchr(s->o->login, ':') + 1;
	if (!read_password(file, password, sizeof password, s->why))
		return false;
	buf_append_byte(&text, 0);
	buf_append(&text, span_of(s->o->login, (size_t)(file - s->o->login) - 1));
	buf_append_byte(&text, 0);
	buf_append_string(&text, password);
	if (text.overflow || text.size / 3 * 4 + 4 > CLIENT_LOGIN_MAX) {
		buf_append_string(s->why,
				  "--login: name and password are too long together; 380 bytes "
				  "are the limit");
		return false;
	}
	int size = EVP_EncodeBlock(s->login_memory, text.data, (int)text.size);
	s->login.size = (size_t)size;
	return true;
}

/* What the source needs of a setup: contexts of a client, which trust nobody, since certificates
 * are not judged. */
static struct tls_setup *
load_tls(struct buf *why)
{
	static const char text[] = "hostname: bench.test\n"
				   "listeners: [{ address: \"127.0.0.1:25\" }]\n"
				   "tls: { ca_file: none }\n";
	struct config_errors errors = { 0 };
	const struct config *config = config_parse("bench", span_of_string(text), &errors);

	ASSERT(config != NULL);
	struct tls_setup *setup = tls_setup_load(config, NULL, why);
	config_put(config);
	return setup;
}

static bool
prepare_security(struct session *s)
{
	bool known = options_mode(s->o, &s->mode);

	ASSERT(known);
	if (strcmp(s->o->tls, "starttls") == 0)
		s->tls = SOURCE_STARTTLS;
	else if (strcmp(s->o->tls, "implicit") == 0)
		s->tls = SOURCE_IMPLICIT;
	s->relay.silent = s->tls == SOURCE_IMPLICIT || s->o->proxy.size > 0;
	if (s->tls != SOURCE_PLAIN)
		s->tls_setup = load_tls(s->why);
	return (s->tls == SOURCE_PLAIN || s->tls_setup != NULL) && prepare_login(s);
}

/* What all commands need, from the options. */
static bool
prepare(struct session *s)
{
	const struct bench_options *o = s->o;

	for (unsigned i = 0; i < o->faults.count; i++)
		if (!fault_add(&s->faults, span_of_string(o->faults.items[i]), s->why))
			return false;
	for (unsigned i = 0; i < o->without.count; i++) {
		if (server_offer_of(span_of_string(o->without.items[i])) != 0)
			continue;
		buf_printf(s->why, "--without '%s': the sink offers no such keyword",
			   o->without.items[i]);
		return false;
	}
	if (o->command == BENCH_SINK)
		return true;
	s->domains = domains_new(span_of_string(o->domain), (uint32_t)o->domains, o->zipf);
	s->letters = o->corpus != NULL ? letters_of_folder(o->corpus, FIELD_SIZE, s->why)
				       : letters_of_sizes(span_of_string(o->size), FIELD_SIZE,
							  o->seed, s->why);
	return s->domains != NULL && s->letters != NULL && prepare_security(s);
}

/* Sockets of source and sink, a few for each more. */
static void
raise_descriptors(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
		return;
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
}

static void
take_signals(struct session *s)
{
	sigemptyset(&s->signals);
	sigaddset(&s->signals, SIGINT);
	sigaddset(&s->signals, SIGTERM);
	sigprocmask(SIG_BLOCK, &s->signals, NULL); /* the threads inherit it */
	signal(SIGPIPE, SIG_IGN);
}

static bool
run(struct session *s, struct result *r)
{
	time_t now = time(NULL);
	struct tm utc;

	gmtime_r(&now, &utc);
	strftime(r->started, sizeof r->started, "%Y-%m-%dT%H:%M:%SZ", &utc);
	if (s->o->json != NULL && !can_write(s->o->json, s->why))
		return false;
	switch (s->o->command) {
	case BENCH_SOURCE:
		r->has_source = true;
		return relay_await(&s->relay, &s->o->relay, GREETING_SECONDS, s->why) &&
		       measure(s, r);
	case BENCH_SINK:
		r->has_sink = true;
		return run_sink(s, r);
	case BENCH_RUN:
		r->has_source = r->has_sink = true;
		return run_around(s, r);
	case BENCH_REPORT:
		break;
	}
	return false;
}

int
session_command(const struct bench_options *options)
{
	uint8_t memory[WHY_SIZE];
	struct buf why = buf_of(memory, sizeof memory);
	struct session s = { .o = options, .why = &why };
	struct result r = { .options = options };

	raise_descriptors();
	take_signals(&s);
	bool understood = prepare(&s);
	bool good = understood && run(&s, &r);
	if (good)
		result_print(&r, stdout);
	if (good && options->json != NULL)
		good = result_write(&r, options->json, &why);
	if (!good)
		fprintf(stderr, "ringpost-bench: %.*s\n", SPAN_ARG(buf_span(&why)));
	if (s.relay_gone)
		fputs("ringpost-bench: the relay has ended under the load; see its output\n",
		      stderr);
	bool lost = s.relay_gone || (r.has_source && r.track.mails[TRACK_OFFERED] == 0) ||
		    (r.has_source && r.has_sink && r.verdict.lost > 0);
	result_free(&r);
	letters_free(s.letters);
	domains_free(s.domains);
	tls_setup_put(s.tls_setup);
	return !understood ? EXIT_USAGE : !good || lost ? EXIT_LOST : 0;
}
