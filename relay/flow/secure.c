/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/flow/secure.h"

#include "core/base/clock.h"
#include "relay/flow/events.h"
#include "relay/flow/flow.h"
#include "relay/message/trace.h"
#include "tls/tls.h"

static const struct config_timeouts_receive *
timeouts_of(const struct session *s)
{
	return &s->routing->config->timeouts.receive;
}

bool
secure_is_possible(const struct session *s)
{
	return tls_can_accept(s->flow->worker->tls);
}

bool
secure_start(struct session *s, bool unread_is_tls)
{
	struct worker *w = s->flow->worker;
	struct tls_accept_options options = {
		.ask_certificate = s->listener->client_certificates == CLIENT_CERTIFICATES_ASK,
	};
	struct layer *layer = secure_is_possible(s) ? tls_accept(w->tls, &options) : NULL;

	if (layer == NULL) {
		conn_close(&s->conn, CLOSE_NO_MEMORY);
		return false;
	}
	s->securing = true;
	s->secure_started_us = clock_monotonic_us();
	conn_deadline(&s->conn, w->now_ms + timeouts_of(s)->handshake_ms);
	if (unread_is_tls)
		conn_secure_unread(&s->conn, layer);
	else
		conn_secure(&s->conn, layer);
	return true;
}

bool
secure_ended(struct session *s, enum err e)
{
	struct tls_facts facts;

	ASSERT(s->securing);
	s->securing = false;
	tls_facts(conn_layer(&s->conn), &facts);
	if (e == ERR_OK) {
		flow_event_tls_started(s->flow, s, &facts);
		return true;
	}
	if (e == ERR_TLS)
		flow_event_tls_failed(s->flow, s, (unsigned)facts.failure, facts.why);
	else
		flow_event_tls_failed(s->flow, s, LABEL_TLS_FAILURE_CLOSED,
				      SPAN("the client went away in the middle"));
	conn_finish(&s->conn, e == ERR_TLS ? CLOSE_TLS_FAILED : CLOSE_PEER_CLOSED);
	return false;
}

void
secure_timed_out(struct session *s)
{
	ASSERT(s->securing);
	s->securing = false;
	flow_event_tls_failed(s->flow, s, LABEL_TLS_FAILURE_TIMEOUT,
			      SPAN("the client did not go on in time"));
	conn_finish(&s->conn, CLOSE_TIMEOUT);
}

const char *
secure_version(const struct session *s, const char **cipher)
{
	const struct layer *layer = conn_layer(&s->conn);
	struct tls_facts facts = { 0 };

	if (layer != NULL && !s->securing)
		tls_facts(layer, &facts);
	if (cipher != NULL)
		*cipher = facts.cipher;
	return facts.version;
}

unsigned
secure_trace_flags(const struct session *s)
{
	return secure_version(s, NULL) == NULL ? 0U : TRACE_TLS;
}
