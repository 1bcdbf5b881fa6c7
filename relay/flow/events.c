/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/flow/events.h"

#include "core/base/clock.h"
#include "core/config.h"
#include "core/log.h"
#include "relay/flow/channel.h"
#include "relay/flow/flow.h"
#include "relay/flow/report.h"
#include "relay/flow/secure.h"
#include "core/base/id.h"
#include "relay/message/dsn.h"
#include "relay/message/trace.h"

enum { PEER_TEXT_MAX = 128, TLS_TEXT_MAX = 96, FROM_SHOWN_MAX = 512 };

static struct span
id_text(struct mail_id id, uint8_t memory[ID_TEXT_SIZE])
{
	struct buf b = buf_of(memory, ID_TEXT_SIZE);

	id_write(&b, id.high, id.low);
	return buf_span(&b);
}

static struct span
peer_text(const struct net_address *e, uint8_t memory[PEER_TEXT_MAX])
{
	struct buf b = buf_of(memory, PEER_TEXT_MAX);

	if (e->size == 0)
		return span_none();
	net_address_show(e, &b);
	return buf_span(&b);
}

/* A local problem that an operator should see. */
static void
problem(struct flow *f, struct span what, enum err e, const char *remedy)
{
	/* The disk has nothing to do with it. */
	if (e == ERR_AWAY)
		remedy = "see the event redis_down; it is tried again";
	event_problem(f->worker->log, &(struct event_problem){
					      .what = what,
					      .error = span_of_string(err_text(e)),
					      .remedy = span_of_string(remedy),
				      });
}

/* ---- clients ---- */

void
flow_event_accepted(struct flow *f, const struct session *s)
{
	uint8_t memory[PEER_TEXT_MAX], listener_memory[PEER_TEXT_MAX];

	METRIC_ADD(f->worker->metrics, CONNECTIONS_ACCEPTED, 1);
	METRIC_SET_LABEL(f->worker->metrics, CONNECTIONS, LABEL_SIDE_RECEIVE, f->session_count);
	if (log_wants(f->worker->log, LEVEL_DEBUG))
		event_connected(f->worker->log, &(struct event_connected){
							.peer = peer_text(&s->peer, memory),
							.listener = peer_text(&s->listener->address,
									      listener_memory),
						});
}

void
flow_event_accept_failed(struct flow *f, enum err e)
{
	METRIC_ADD_LABEL(f->worker->metrics, CONNECTIONS_REFUSED, LABEL_REFUSAL_DESCRIPTORS, 1);
	problem(f, SPAN("accept a connection"), e,
		"raise the limit of open files, or lower limits.connections");
}

void
flow_event_refused(struct flow *f, const struct session *s, unsigned refusal_label)
{
	static const char *const reasons[] = {
		[LABEL_REFUSAL_CONNECTIONS] = "connections",
		[LABEL_REFUSAL_CONNECTIONS_PER_CLIENT] = "connections_per_client",
		[LABEL_REFUSAL_CONNECTION_RATE_PER_CLIENT] = "connection_rate_per_client",
		[LABEL_REFUSAL_DESCRIPTORS] = "descriptors",
		[LABEL_REFUSAL_MEMORY] = "memory",
		[LABEL_REFUSAL_SHUTDOWN] = "shutdown",
		[LABEL_REFUSAL_LOCKED_OUT] = "locked_out",
	};
	uint8_t memory[PEER_TEXT_MAX];

	METRIC_ADD_LABEL(f->worker->metrics, CONNECTIONS_REFUSED, refusal_label, 1);
	event_connection_refused(f->worker->log,
				 &(struct event_connection_refused){
					 .peer = peer_text(&s->peer, memory),
					 .reason = span_of_string(reasons[refusal_label]),
				 });
}

void
flow_event_proxy_refused(struct flow *f, const struct session *s, struct span why)
{
	uint8_t memory[PEER_TEXT_MAX], listener_memory[PEER_TEXT_MAX];

	METRIC_ADD_LABEL(f->worker->metrics, CONNECTIONS_REFUSED, LABEL_REFUSAL_PROXY_HEADER, 1);
	event_proxy_refused(f->worker->log,
			    &(struct event_proxy_refused){
				    .peer = peer_text(&s->peer, memory),
				    .listener = peer_text(&s->listener->address, listener_memory),
				    .error = why,
			    });
}

void
flow_event_session_end(struct flow *f, const struct session *s)
{
	uint8_t memory[PEER_TEXT_MAX];

	METRIC_ADD_LABEL(f->worker->metrics, CONNECTIONS_CLOSED, (unsigned)s->conn.reason, 1);
	METRIC_SET_LABEL(f->worker->metrics, CONNECTIONS, LABEL_SIDE_RECEIVE, f->session_count - 1);
	if (s->conn.reason == CLOSE_TLS_HELLO)
		flow_event_tls_failed(
			f, s, LABEL_TLS_FAILURE_UNEXPECTED,
			SPAN("the client speaks TLS where plain text is expected; give "
			     "the listener tls: implicit, or let the client use "
			     "STARTTLS"));
	if (log_wants(f->worker->log, LEVEL_DEBUG))
		event_disconnected(f->worker->log,
				   &(struct event_disconnected){
					   .peer = peer_text(&s->peer, memory),
					   .reason = span_of_string(close_label(s->conn.reason)),
					   .mails = s->mail_count,
					   .tls = span_of_string(secure_version(s, NULL)),
					   .duration = f->worker->now_ms - s->started_ms,
				   });
}

static unsigned
class_label(unsigned code)
{
	return code < 300   ? LABEL_REPLY_2XX
	       : code < 400 ? LABEL_REPLY_3XX
	       : code < 500 ? LABEL_REPLY_4XX
			    : LABEL_REPLY_5XX;
}

/* Limits that are told in a reply. Those on connections are counted by policy. */
static void
count_limit(struct flow *f, enum reply_row row)
{
	switch (row) {
	case REPLY_TOO_BIG:
		FLOW_LIMIT_HIT(f, MESSAGE_SIZE);
		break;
	case REPLY_HEADER_TOO_BIG:
		FLOW_LIMIT_HIT(f, HEADER_SIZE);
		break;
	case REPLY_LINES_TOO_LONG:
		FLOW_LIMIT_HIT(f, LINE_SIZE);
		break;
	case REPLY_LINE_TOO_LONG:
		FLOW_LIMIT_HIT(f, COMMAND_SIZE);
		break;
	case REPLY_TOO_MANY_RECIPIENTS:
		FLOW_LIMIT_HIT(f, RECIPIENTS);
		break;
	case REPLY_TOO_MANY_MAILS:
		FLOW_LIMIT_HIT(f, MAILS);
		break;
	case REPLY_TOO_MANY_ERRORS:
		FLOW_LIMIT_HIT(f, ERRORS);
		break;
	case REPLY_TOO_MUCH_JUNK:
		FLOW_LIMIT_HIT(f, JUNK);
		break;
	case REPLY_TOO_MANY_HOPS:
		FLOW_LIMIT_HIT(f, HOPS);
		break;
	case REPLY_NO_MEMORY:
		FLOW_LIMIT_HIT(f, MEMORY_BUDGET);
		break;
	case REPLY_NO_ROOM:
		FLOW_LIMIT_HIT(f, QUEUE_DISK);
		break;
	case REPLY_QUEUE_FULL:
		FLOW_LIMIT_HIT(f, QUEUE_MAILS);
		break;
	default:
		break;
	}
}

void
flow_count_reply(struct flow *f, enum reply_row row)
{
	METRIC_ADD_LABEL(f->worker->metrics, REPLIES, class_label(reply_row_code(row)), 1);
	if (reply_row_code(row) < 400)
		return;
	count_limit(f, row);
	if (row == REPLY_OUT_OF_SYNC || row == REPLY_EARLY_INPUT)
		METRIC_ADD(f->worker->metrics, PIPELINING_VIOLATIONS, 1);
}

/* `text` empty: the row's. */
static void
command_refused(struct flow *f, const struct session *s, const struct buf *command,
		enum reply_row row, struct span text)
{
	const struct transaction *t = s->transaction;
	uint8_t memory[PEER_TEXT_MAX];
	struct span line = reply_row_line(row);

	event_command_refused(
		f->worker->log,
		&(struct event_command_refused){
			.peer = peer_text(&s->peer, memory),
			.helo = span_of(s->hello, s->hello_size),
			.command = buf_span(command),
			.sender = t != NULL ? t->envelope.sender : span_none(),
			.code = reply_row_code(row),
			.reply = text.size > 0 ? text : span_first(line, line.size - 2),
			.user = s->user != NULL ? s->user->name : span_none(),
		});
}

void
flow_event_recipient(struct flow *f, const struct session *s, const struct address *path,
		     enum reply_row row, struct span text)
{
	uint8_t memory[ADDRESS_PATH_MAX + 16];
	struct buf command = buf_of(memory, sizeof memory);

	if (row == REPLY_NONE)
		return;
	METRIC_ADD_LABEL(f->worker->metrics, RECIPIENTS_REFUSED, class_label(reply_row_code(row)),
			 1);
	if (!log_wants(f->worker->log, LEVEL_INFO))
		return;
	buf_append(&command, SPAN("RCPT TO:"));
	address_show(path, &command);
	command_refused(f, s, &command, row, text);
}

void
flow_event_sender(struct flow *f, const struct session *s, const struct address *path,
		  enum reply_row row)
{
	uint8_t memory[ADDRESS_PATH_MAX + 16];
	struct buf command = buf_of(memory, sizeof memory);

	if (row == REPLY_NONE || !log_wants(f->worker->log, LEVEL_INFO))
		return;
	buf_append(&command, SPAN("MAIL FROM:"));
	address_show(path, &command);
	command_refused(f, s, &command, row, span_none());
}

void
flow_event_sender_vetted(struct flow *f, const struct transaction *t, struct span text)
{
	uint8_t memory[ADDRESS_PATH_MAX + 16];
	struct buf command = buf_of(memory, sizeof memory);

	if (t->vetting.row == REPLY_NONE || !log_wants(f->worker->log, LEVEL_INFO))
		return;
	buf_append(&command, SPAN("MAIL FROM:<"));
	buf_append(&command, t->envelope.sender);
	buf_append_byte(&command, '>');
	command_refused(f, t->session, &command, t->vetting.row, text);
}

void
flow_event_from_refused(struct flow *f, const struct session *s, struct span value,
			enum reply_row row)
{
	uint8_t memory[FROM_SHOWN_MAX + 8];
	struct buf command = buf_of(memory, sizeof memory);

	buf_append(&command, SPAN("From: "));
	buf_append(&command, span_first(value, FROM_SHOWN_MAX));
	command_refused(f, s, &command, row, span_none());
}

_Static_assert(LABEL_LIMIT_USER_CONNECTIONS - LABEL_LIMIT_USER_MAILS_PER_HOUR ==
		       (int)USER_CONNECTIONS - (int)USER_MAILS_PER_HOUR,
	       "limits of users are labels");

void
flow_event_user_limit(struct flow *f, const struct session *s, enum user_limit which, uint32_t most)
{
	/* As the file of users calls them. */
	static const char *const names[USER_LIMITS] = {
		[USER_MAILS_PER_HOUR] = "mails_per_hour",
		[USER_MAILS_PER_DAY] = "mails_per_day",
		[USER_RECIPIENTS_PER_HOUR] = "recipients_per_hour",
		[USER_RECIPIENTS_PER_DAY] = "recipients_per_day",
		[USER_CONNECTIONS] = "connections",
	};
	uint8_t memory[PEER_TEXT_MAX];

	METRIC_ADD_LABEL(f->worker->metrics, LIMIT_HITS,
			 LABEL_LIMIT_USER_MAILS_PER_HOUR + (unsigned)which, 1);
	event_user_limit(f->worker->log, &(struct event_user_limit){
						 .user = s->user->name,
						 .limit = span_of_string(names[which]),
						 .most = most,
						 .peer = peer_text(&s->peer, memory),
					 });
}

_Static_assert((int)LABEL_MECHANISM_COUNT == (int)SASL_MECHANISM_COUNT,
	       "labels are the mechanisms");

void
flow_event_auth_ok(struct flow *f, const struct session *s, enum sasl_mechanism m)
{
	uint8_t memory[PEER_TEXT_MAX];

	METRIC_ADD_LABEL(f->worker->metrics, AUTH_OK, (unsigned)m, 1);
	event_auth_ok(f->worker->log, &(struct event_auth_ok){
					      .peer = peer_text(&s->peer, memory),
					      .helo = span_of(s->hello, s->hello_size),
					      .user = s->user->name,
					      .mechanism = sasl_name(m),
				      });
}

void
flow_event_dovecot_failed(struct flow *f, struct span error)
{
	METRIC_ADD(f->worker->metrics, DOVECOT_FAILURES, 1);
	event_dovecot_failed(f->worker->log, &(struct event_dovecot_failed){
						     .socket = f->routing->config->users.dovecot,
						     .error = error,
					     });
}

void
flow_event_auth_failed(struct flow *f, const struct session *s, enum sasl_mechanism m,
		       const struct user *user, const char *reason)
{
	uint8_t memory[PEER_TEXT_MAX];

	METRIC_ADD_LABEL(f->worker->metrics, AUTH_FAILED, (unsigned)m, 1);
	event_auth_failed(f->worker->log, &(struct event_auth_failed){
						  .peer = peer_text(&s->peer, memory),
						  .helo = span_of(s->hello, s->hello_size),
						  .user = user == NULL ? span_none() : user->name,
						  .mechanism = sasl_name(m),
						  .reason = span_of_string(reason),
					  });
}

static void
count_need(struct metrics *m, const struct mail_envelope *e)
{
	enum tls_need need = destination_need(e->flags);

	if (need == TLS_NEED_REQUIRED)
		METRIC_ADD_LABEL(m, MAILS_NEED, LABEL_NEED_REQUIRED, 1);
	else if (need == TLS_NEED_OPTIONAL)
		METRIC_ADD_LABEL(m, MAILS_NEED, LABEL_NEED_OPTIONAL, 1);
}

_Static_assert((int)LABEL_SPF_PERMERROR == (int)SPF_PERMERROR &&
		       (int)LABEL_SPF_NONE == (int)SPF_NONE && (int)LABEL_SPF_FAIL == (int)SPF_FAIL,
	       "labels are the results of dns/spf.h");
_Static_assert((int)LABEL_IPREV_PERMERROR == (int)IPREV_PERMERROR &&
		       (int)LABEL_IPREV_PASS == (int)IPREV_PASS,
	       "labels are the results of dns/iprev.h");

void
flow_event_spf(struct flow *f, const struct transaction *t, const struct spf_outcome *o,
	       enum config_spf_action action, uint64_t duration_us)
{
	static const char *const words[] = {
		[SPF_ACTION_ACCEPT] = "accept",
		[SPF_ACTION_MARK] = "mark",
		[SPF_ACTION_REFUSE] = "refuse",
		[SPF_ACTION_DEFER] = "defer",
	};
	const struct session *s = t->session;
	uint8_t id_memory[ID_TEXT_SIZE], memory[PEER_TEXT_MAX];

	METRIC_ADD_LABEL(f->worker->metrics, SPF_RESULTS, (unsigned)o->result, 1);
	METRIC_OBSERVE(f->worker->metrics, SPF_TIME, duration_us);
	if (!log_wants(f->worker->log, LEVEL_INFO))
		return;
	event_spf(f->worker->log,
		  &(struct event_spf){
			  .id = id_text(t->envelope.id, id_memory),
			  .peer = peer_text(&s->peer, memory),
			  .helo = span_of(s->hello, s->hello_size),
			  .sender = t->envelope.sender,
			  .identity = span_of_string(spf_identity_label(o->identity)),
			  .domain = o->domain,
			  .result = span_of_string(spf_result_label(o->result)),
			  .action = span_of_string(words[action]),
			  .mechanism = o->mechanism,
			  .record = o->mechanism_domain,
			  .problem = o->problem,
			  .explanation = o->explanation,
			  .lookups = o->lookups,
			  .voids = o->voids,
			  .dnssec = o->security == DNS_SECURE ? SPAN("secure") : SPAN("insecure"),
			  .duration = duration_us / 1000,
		  });
}

void
flow_count_iprev(struct flow *f, enum iprev_result r)
{
	METRIC_ADD_LABEL(f->worker->metrics, IPREV_RESULTS, (unsigned)r, 1);
}

void
flow_event_received(struct flow *f, const struct session *s, const struct transaction *t,
		    enum err e)
{
	struct metrics *m = f->worker->metrics;
	uint8_t id_memory[ID_TEXT_SIZE];
	uint8_t memory[PEER_TEXT_MAX];
	const struct mail_envelope *envelope = &t->envelope;

	METRIC_ADD_LABEL(m, QUEUE_PUTS, (unsigned)e, 1);
	if (e != ERR_OK) {
		METRIC_ADD_LABEL(m, MAILS_REFUSED, LABEL_REPLY_4XX, 1);
		return;
	}
	uint64_t commit_us = clock_monotonic_us() - t->complete_us;
	METRIC_ADD(m, MAILS_ACCEPTED, 1);
	METRIC_ADD(m, RECIPIENTS_ACCEPTED, envelope->recipient_count);
	count_need(m, envelope);
	METRIC_ADD_LABEL(m, MAIL_BYTES, LABEL_SIDE_RECEIVE, envelope->body_size);
	METRIC_OBSERVE(m, COMMIT_TIME, commit_us);
	if (t->fixup.taken > 0)
		METRIC_ADD(m, AUTHRES_REMOVED, t->fixup.taken);
	const struct vetted *vetted = vetting_of(t);
	const char *cipher;
	const char *version = secure_version(s, &cipher);
	unsigned flags = (s->esmtp ? TRACE_ESMTP : 0U) | (s->user != NULL ? TRACE_AUTH : 0U) |
			 secure_trace_flags(s) |
			 ((envelope->flags & MAIL_UTF8) != 0 ? TRACE_UTF8 : 0U);
	event_received(f->worker->log,
		       &(struct event_received){
			       .id = id_text(envelope->id, id_memory),
			       .peer = peer_text(&s->peer, memory),
			       .helo = span_of(s->hello, s->hello_size),
			       .protocol = span_of_string(trace_protocol(flags)),
			       .user = s->user == NULL ? span_none() : s->user->name,
			       .sender = envelope->sender,
			       .recipients = envelope->recipient_count,
			       .size = envelope->body_size,
			       .commit = commit_us / 1000,
			       .tls = span_of_string(version),
			       .cipher = span_of_string(cipher),
			       .require_tls = report_tls_need(envelope->flags),
			       .client = t->vetting.client_name,
			       .spf = vetted == NULL
					      ? span_none()
					      : span_of_string(spf_result_label(vetted->result)),
		       });
}

/* ---- TLS with clients ---- */

_Static_assert((int)LABEL_TLS_FAILURE_PLAIN_TEXT == (int)TLS_FAILURE_PLAIN_TEXT &&
		       (int)LABEL_TLS_FAILURE_MEMORY == (int)TLS_FAILURE_MEMORY,
	       "labels are the failures of tls.h");

static uint64_t
since_us(uint64_t started_us)
{
	return started_us == 0 ? 0 : clock_monotonic_us() - started_us;
}

void
flow_event_tls_started(struct flow *f, const struct session *s, const struct tls_facts *t)
{
	struct metrics *m = f->worker->metrics;
	uint64_t us = since_us(s->secure_started_us);
	uint8_t memory[PEER_TEXT_MAX], print_memory[3 * TLS_FINGERPRINT_SIZE];
	struct buf print = buf_of(print_memory, sizeof print_memory);
	struct span version = span_of_string(t->version);

	METRIC_ADD_LABEL(
		m, TLS_RECEIVE_HANDSHAKES,
		span_eq(version, SPAN("TLSv1.3")) ? LABEL_TLS_VERSION_13 : LABEL_TLS_VERSION_12, 1);
	if (t->resumed)
		METRIC_ADD(m, TLS_RECEIVE_RESUMED, 1);
	METRIC_OBSERVE(m, TLS_RECEIVE_TIME, us);
	struct span peer = peer_text(&s->peer, memory);
	if (log_wants(f->worker->log, LEVEL_DEBUG))
		event_tls_started(f->worker->log, &(struct event_tls_started){
							  .peer = peer,
							  .tls = version,
							  .cipher = span_of_string(t->cipher),
							  .group = span_of_string(t->group),
							  .server_name = t->server_name,
							  .resumed = t->resumed,
							  .duration = us / 1000,
						  });
	if (!t->has_certificate)
		return;
	tls_fingerprint_show(t->fingerprint, &print);
	event_tls_client(f->worker->log, &(struct event_tls_client){
						 .peer = peer,
						 .fingerprint = buf_span(&print),
						 .subject = t->subject,
					 });
}

void
flow_event_tls_failed(struct flow *f, const struct session *s, unsigned reason, struct span why)
{
	static const char *const ends[] = {
		[LABEL_TLS_FAILURE_CLOSED] = "closed",
		[LABEL_TLS_FAILURE_TIMEOUT] = "timeout",
		[LABEL_TLS_FAILURE_UNEXPECTED] = "unexpected",
	};
	uint8_t memory[PEER_TEXT_MAX], listener_memory[PEER_TEXT_MAX];
	const struct layer *layer = conn_layer(&s->conn);
	struct tls_facts facts = { 0 };

	METRIC_ADD_LABEL(f->worker->metrics, TLS_RECEIVE_FAILURES, reason, 1);
	if (layer != NULL)
		tls_facts(layer, &facts);
	event_tls_failed(f->worker->log,
			 &(struct event_tls_failed){
				 .peer = peer_text(&s->peer, memory),
				 .listener = peer_text(&s->listener->address, listener_memory),
				 .reason = span_of_string(
					 reason < LABEL_TLS_FAILURE_CLOSED
						 ? tls_failure_label((enum tls_failure)reason)
						 : ends[reason]),
				 .error = why,
				 .server_name = facts.server_name,
				 .duration = since_us(s->secure_started_us) / 1000,
			 });
}

void
flow_event_client_timeout(struct flow *f, const struct session *s)
{
	unsigned label = LABEL_TIMEOUT_RECEIVE_COMMAND;

	if (s->awaits_proxy) {
		METRIC_ADD_LABEL(f->worker->metrics, TIMEOUTS, LABEL_TIMEOUT_RECEIVE_PROXY, 1);
		return;
	}
	switch (receiver_phase(&s->receiver)) {
	case RECEIVER_PHASE_DATA:
		label = s->transaction != NULL && s->transaction->deadline_ms <= f->worker->now_ms
				? LABEL_TIMEOUT_RECEIVE_MESSAGE
				: LABEL_TIMEOUT_RECEIVE_DATA;
		break;
	case RECEIVER_PHASE_OURS:
	case RECEIVER_PHASE_CLOSED:
		label = LABEL_TIMEOUT_RECEIVE_REPLY;
		break;
	case RECEIVER_PHASE_COMMAND:
	case RECEIVER_PHASE_HANDSHAKE:
		break;
	}
	if (s->securing)
		label = LABEL_TIMEOUT_RECEIVE_HANDSHAKE;
	METRIC_ADD_LABEL(f->worker->metrics, TIMEOUTS, label, 1);
}

_Static_assert((int)LABEL_LOCK_USER == (int)LOCKOUT_USER, "kinds are labels");

void
flow_event_locked(struct flow *f, const struct session *s, enum lockout_kind kind, struct span name,
		  uint32_t failures)
{
	uint8_t memory[PEER_TEXT_MAX];

	METRIC_ADD_LABEL(f->worker->metrics, LOGIN_LOCKS, (unsigned)kind, 1);
	/* A name that no user has may be a password in the wrong place. */
	if (kind == LOCKOUT_USER &&
	    (f->routing == NULL || users_find(f->routing->users, name) == NULL))
		name = span_none();
	event_login_locked(
		f->worker->log,
		&(struct event_login_locked){
			.kind = kind == LOCKOUT_USER ? SPAN("user") : SPAN("address"),
			.name = name,
			.peer = s == NULL ? span_none() : peer_text(&s->peer, memory),
			.failures = failures,
			.duration =
				(s == NULL ? f->routing : s->routing)->config->lockout.duration_ms,
		});
}

void
flow_count_locked_out(struct flow *f, enum lockout_kind kind)
{
	METRIC_ADD_LABEL(f->worker->metrics, LOGINS_LOCKED_OUT, (unsigned)kind, 1);
}

/* ---- next hops ---- */

void
flow_event_host_failed(struct flow *f, struct site *s, unsigned host, const char *phase,
		       struct span error)
{
	uint8_t memory[PEER_TEXT_MAX];
	uint64_t until_ms = s->hosts[host].failed_until_ms;

	report_failure(s, host, phase, error);
	event_host_failed(
		f->worker->log,
		&(struct event_host_failed){
			.destination = s->name,
			.host = s->hosts[host].host.name,
			.peer = peer_text(&s->hosts[host].host.address, memory),
			.phase = span_of_string(phase),
			.error = error,
			.pause = until_ms > f->worker->now_ms ? until_ms - f->worker->now_ms : 0,
		});
}

void
flow_event_peer_handshake(struct flow *f, const struct tls_facts *facts, enum err e)
{
	METRIC_ADD_LABEL(f->worker->metrics, PEER_HANDSHAKES,
			 e != ERR_OK      ? LABEL_HANDSHAKE_FAILED
			 : facts->resumed ? LABEL_HANDSHAKE_RESUMED
					  : LABEL_HANDSHAKE_FULL,
			 1);
}

void
flow_event_peer_tls_failed(struct flow *f, struct span destination, const struct plan_host *h,
			   struct protection p, struct span why, const char *result_type,
			   uint64_t plain_until_ms)
{
	uint8_t memory[PEER_TEXT_MAX];
	uint64_t now_ms = f->worker->now_ms;
	bool plain = p.level == TLS_MAY && plain_until_ms > now_ms;

	event_peer_tls_failed(f->worker->log,
			      &(struct event_peer_tls_failed){
				      .destination = destination,
				      .host = h->name,
				      .peer = peer_text(&h->address, memory),
				      .policy = span_of_string(tls_level_label(p.level)),
				      .source = span_of_string(tls_source_label(p.source)),
				      .why = why,
				      .result = span_of_string(result_type),
				      .plain = plain ? plain_until_ms - now_ms : 0,
			      });
}

void
flow_event_callout_failed(struct flow *f, struct span destination, const struct plan_host *h,
			  struct span error)
{
	uint8_t memory[PEER_TEXT_MAX];

	event_callout_failed(f->worker->log, &(struct event_callout_failed){
						     .destination = destination,
						     .host = h->name,
						     .peer = peer_text(&h->address, memory),
						     .error = error,
					     });
}

void
flow_event_unresolved(struct flow *f, const struct destination *d)
{
	uint64_t now_ms = f->worker->now_ms;

	event_unresolved(f->worker->log,
			 &(struct event_unresolved){
				 .destination = d->name,
				 .result = span_of_string(mx_outcome_label(d->outcome)),
				 .error = span_of_string(d->why != NULL ? d->why : ""),
				 .pause = d->expires_at_ms > now_ms ? d->expires_at_ms - now_ms : 0,
			 });
}

void
flow_event_no_socket(struct flow *f, enum err e)
{
	problem(f, SPAN("open a connection"), e, "raise the limit of open files");
}

void
flow_event_load_failed(struct flow *f, struct mail_id id, enum err e)
{
	uint8_t id_memory[ID_TEXT_SIZE];
	uint8_t memory[64];
	struct buf what = buf_of(memory, sizeof memory);

	buf_append_string(&what, "read the body of ");
	buf_append(&what, id_text(id, id_memory));
	problem(f, buf_span(&what), e == ERR_OK ? ERR_CORRUPT : e, "look at the spool's disk");
}

void
flow_count_outcome(struct flow *f, const struct job *j, const struct sender_outcome *o)
{
	uint8_t id_memory[ID_TEXT_SIZE];

	if (o->reply != NULL)
		METRIC_ADD_LABEL(f->worker->metrics, PEER_REPLIES, class_label(o->reply->code), 1);
	if (!o->in_doubt)
		return;
	METRIC_ADD_LABEL(f->worker->metrics, DUPLICATES_POSSIBLE, LABEL_DUPLICATE_OUTCOME_LOST, 1);
	event_duplicate_possible(f->worker->log,
				 &(struct event_duplicate_possible){
					 .id = id_text(j->mail->id, id_memory),
					 .recipient = j->recipients[o->index].address,
					 .cause = SPAN("outcome_not_durable"),
				 });
}

/* ---- the queue ---- */

struct outcome_shape {
	unsigned label;
	const char *name;
};

static struct outcome_shape
shape_of(uint8_t state)
{
	switch ((enum recipient_state)state) {
	case RECIPIENT_DELIVERED:
		return (struct outcome_shape){ LABEL_RESULT_DELIVERED, "delivered" };
	case RECIPIENT_DISCARDED:
		return (struct outcome_shape){ LABEL_RESULT_DISCARDED, "discarded" };
	case RECIPIENT_FAILED:
	case RECIPIENT_REMOVED:
		return (struct outcome_shape){ LABEL_RESULT_FAILED, "failed" };
	case RECIPIENT_PENDING:
		break;
	}
	return (struct outcome_shape){ LABEL_RESULT_DEFERRED, "deferred" };
}

/* "550 5.1.1 no such user" → code, enhanced code, text. */
static void
split_reply(struct span reply, struct event_delivery *event)
{
	uint64_t code = 0;

	event->reply = reply;
	if (reply.size >= 3 && span_to_u64(span_first(reply, 3), &code))
		event->code = code;
	else
		return;
	struct span rest = span_after(reply, 4);
	size_t end = span_find(rest, ' ', 0);
	if (end >= 5 && rest.data[1] == '.' && rest.data[0] >= '2' && rest.data[0] <= '5') {
		event->enhanced = span_first(rest, end);
		rest = span_after(rest, end + 1);
	}
	event->reply = rest;
}

static uint64_t
since(uint64_t from_ms, uint64_t to_ms)
{
	return from_ms != 0 && to_ms > from_ms ? to_ms - from_ms : 0;
}

static void
observe_delays(struct flow *f, const struct event_delivery *e)
{
	struct metrics *m = f->worker->metrics;

	METRIC_OBSERVE(m, DELAY_RECEIVE, e->delay_a * 1000);
	METRIC_OBSERVE(m, DELAY_QUEUE, e->delay_b * 1000);
	METRIC_OBSERVE(m, DELAY_CONNECT, e->delay_c * 1000);
	METRIC_OBSERVE(m, DELAY_SEND, e->delay_d * 1000);
}

static unsigned
protection_label(const struct job_tls *t)
{
	static const unsigned labels[] = {
		[TLS_UNVERIFIED] = LABEL_PROTECTION_ENCRYPTED,
		[TLS_BY_CA] = LABEL_PROTECTION_CA,
		[TLS_BY_DANE_TA] = LABEL_PROTECTION_DANE,
		[TLS_BY_DANE_EE] = LABEL_PROTECTION_DANE,
		[TLS_BY_FINGERPRINT] = LABEL_PROTECTION_FINGERPRINT,
	};

	return t->version == NULL ? LABEL_PROTECTION_PLAIN : labels[t->verified];
}

static void
show_protection(const struct job_tls *t, struct buf *memory, struct event_delivery *event)
{
	if (!t->known)
		return;
	event->tls_policy = span_of_string(tls_level_label(t->level));
	event->tls_source = span_of_string(tls_source_label(t->source));
	if (t->version == NULL)
		return;
	buf_printf(memory, "%s %s", t->version, t->cipher);
	event->tls = buf_span(memory);
	event->tls_verified = span_of_string(tls_verified_label(t->verified));
}

void
flow_event_outcomes(struct flow *f, const struct job *j)
{
	const struct mail_envelope *e = j->mail->envelope;
	uint8_t tls_memory[TLS_TEXT_MAX];
	struct buf tls = buf_of(tls_memory, sizeof tls_memory);
	uint8_t id_memory[ID_TEXT_SIZE];
	uint8_t memory[PEER_TEXT_MAX];
	struct event_delivery event = {
		.id = id_text(e->id, id_memory),
		.sender = e->sender,
		.destination = j->destination->name,
		.site = j->destination->site != NULL ? j->destination->site->name : span_none(),
		.host = j->host_name,
		.peer = peer_text(&j->peer, memory),
		.size = e->body_size,
		.require_tls = report_tls_need(e->flags),
		.delay_a = j->times.receive_ms,
		.delay_b = since(e->accepted_at_ms, j->times.taken_wall_ms),
		.delay_c = since(j->times.taken_ms, j->times.started_ms),
		.delay_d = since(j->times.started_ms, j->times.done_ms),
	};

	show_protection(&j->tls, &tls, &event);
	for (uint32_t i = 0; i < j->result_count; i++) {
		const struct queue_result *r = &j->results[i];
		const struct mail_recipient *recipient = &e->recipients[r->recipient];
		struct outcome_shape shape = shape_of(r->state);
		if (!r->tried)
			continue;
		event.result = span_of_string(shape.name);
		event.recipient = recipient->address;
		event.attempts = j->attempts[i] + 1U;
		event.retry_at = r->state == RECIPIENT_PENDING ? r->retry_at_ms : 0;
		event.phase = span_of_string(
			j->phases[i] == JOB_PHASE_DNS ? "dns" : sender_phase_label(j->phases[i]));
		split_reply(r->reply, &event);
		event_delivery(f->worker->log, &event);
		METRIC_ADD_LABEL(f->worker->metrics, RECIPIENTS, shape.label, 1);
		if (j->no_way && r->state == RECIPIENT_FAILED)
			METRIC_ADD(f->worker->metrics, RECIPIENTS_NO_WAY, 1);
		if (r->state != RECIPIENT_DELIVERED)
			continue;
		METRIC_ADD_LABEL(f->worker->metrics, MAIL_BYTES, LABEL_SIDE_SEND, e->body_size);
		METRIC_ADD_LABEL(f->worker->metrics, RECIPIENTS_PROTECTED,
				 protection_label(&j->tls), 1);
	}
	observe_delays(f, &event);
}

void
flow_event_notice(struct flow *f, const struct job *j, const struct mail_envelope *notice,
		  const uint32_t *counts, const char *attached)
{
	/* The labels are the actions. */
	_Static_assert((int)LABEL_ACTION_FAILED == (int)DSN_FAILED &&
			       (int)LABEL_ACTION_DELAYED == (int)DSN_DELAYED &&
			       (int)LABEL_ACTION_RELAYED == (int)DSN_RELAYED &&
			       (int)LABEL_ACTION_DELIVERED == (int)DSN_DELIVERED,
		       "labels.def and dsn.h");
	uint8_t memory[ID_TEXT_SIZE];
	uint8_t original_memory[ID_TEXT_SIZE];

	for (unsigned a = 0; a < DSN_ACTIONS; a++)
		METRIC_ADD_LABEL(f->worker->metrics, NOTICES, a, counts[a]);
	METRIC_ADD_LABEL(f->worker->metrics, QUEUE_PUTS, (unsigned)ERR_OK, 1);
	event_notice(f->worker->log, &(struct event_notice){
					     .id = id_text(notice->id, memory),
					     .original = id_text(j->mail->id, original_memory),
					     .recipient = notice->recipients[0].address,
					     .failed = counts[DSN_FAILED],
					     .delayed = counts[DSN_DELAYED],
					     .relayed = counts[DSN_RELAYED],
					     .delivered = counts[DSN_DELIVERED],
					     .attached = span_of_string(attached),
					     .size = notice->body_size,
					     .require_tls = report_tls_need(notice->flags),
				     });
}

void
flow_event_notice_suppressed(struct flow *f, const struct job *j, struct span recipient)
{
	const struct mail_envelope *e = j->mail->envelope;
	bool is_null = e->sender.size == 0;
	uint8_t memory[ID_TEXT_SIZE];

	METRIC_ADD_LABEL(f->worker->metrics, NOTICES_SUPPRESSED,
			 is_null ? LABEL_SUPPRESSED_NULL_SENDER : LABEL_SUPPRESSED_NOTIFY, 1);
	event_notice_suppressed(f->worker->log,
				&(struct event_notice_suppressed){
					.id = id_text(e->id, memory),
					.sender = e->sender,
					.recipient = recipient,
					.reason = is_null ? SPAN("null_sender") : SPAN("notify"),
				});
}

void
flow_event_taken_over(struct flow *f, const struct job *j, uint32_t delivered)
{
	uint8_t memory[ID_TEXT_SIZE];

	METRIC_ADD(f->worker->metrics, TAKEN_OVER, 1);
	event_taken_over(f->worker->log, &(struct event_taken_over){
						 .id = id_text(j->mail->id, memory),
						 .recipients = j->result_count,
						 .delivered = delivered,
					 });
}

void
flow_event_record_failed(struct flow *f, const struct job *j, enum err e)
{
	(void)j;
	METRIC_ADD_LABEL(f->worker->metrics, SPOOL_ERRORS, (unsigned)e, 1);
	problem(f, SPAN("record an outcome"), e, "make room on the spool's disk");
}

static void
tell_unrecorded(struct flow *f, const struct job *j, uint32_t i, enum err e)
{
	const struct mail_envelope *envelope = j->mail->envelope;
	const struct queue_result *r = &j->results[i];
	uint8_t id_memory[ID_TEXT_SIZE];

	if (!r->tried)
		return;
	event_outcome_unrecorded(f->worker->log,
				 &(struct event_outcome_unrecorded){
					 .id = id_text(envelope->id, id_memory),
					 .sender = envelope->sender,
					 .recipient = envelope->recipients[r->recipient].address,
					 .result = span_of_string(shape_of(r->state).name),
					 .reply = r->reply,
					 .error = span_of_string(err_text(e)),
				 });
}

void
flow_event_outcomes_unknown(struct flow *f, const struct job *j, enum err e)
{
	for (uint32_t i = 0; i < j->result_count; i++)
		if (j->results[i].state != RECIPIENT_DELIVERED)
			tell_unrecorded(f, j, i, e);
}

void
flow_event_outcome_given_up(struct flow *f, const struct job *j, enum err e)
{
	uint64_t delivered = 0;

	for (uint32_t i = 0; i < j->result_count; i++) {
		delivered += j->results[i].state == RECIPIENT_DELIVERED;
		tell_unrecorded(f, j, i, e);
	}
	METRIC_ADD_LABEL(f->worker->metrics, DUPLICATES_POSSIBLE, LABEL_DUPLICATE_OUTCOME_LOST,
			 delivered);
	METRIC_ADD_LABEL(f->worker->metrics, SPOOL_ERRORS, (unsigned)e, 1);
}

void
flow_event_claim_failed(struct flow *f, struct span destination, enum err e)
{
	METRIC_ADD_LABEL(f->worker->metrics, SPOOL_ERRORS, (unsigned)e, 1);
	problem(f, destination, e, "look at the spool's disk: mails could not be read");
}

void
flow_event_held(struct flow *f, struct mail_id id, unsigned starts, enum err e)
{
	uint8_t memory[ID_TEXT_SIZE];

	if (e != ERR_OK) {
		problem(f, SPAN("put a mail on hold"), e, "look at the spool's disk");
		return;
	}
	event_mail_held(f->worker->log,
			&(struct event_mail_held){ .id = id_text(id, memory), .starts = starts });
}
