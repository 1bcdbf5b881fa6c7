/* SPDX-License-Identifier: Apache-2.0
 *
 * How the connection of a line is protected, and who we are to its host: as for mail on the same
 * route. A handshake that fails where TLS may be left out is followed by a connection without it.
 */
#include "relay/flow/callout_parts.h"
#include "relay/flow/events.h"
#include "relay/flow/flow.h"

enum { WHY_MAX = 400 }; /* bytes of a reason, before it is cut */

/* ---- hosts whose handshakes fail ---- */

static bool
is_broken(const struct callout_line *l, unsigned host)
{
	return l->tls_broken_until_ms > l->flow->worker->now_ms &&
	       (l->tls_broken & (1U << host)) != 0;
}

static void
note_broken(struct callout_line *l, unsigned host, uint64_t for_ms)
{
	uint64_t now_ms = l->flow->worker->now_ms;

	if (l->tls_broken_until_ms <= now_ms)
		l->tls_broken = 0;
	l->tls_broken |= 1U << host;
	l->tls_broken_until_ms = now_ms + for_ms;
}

void
callout_keep_broken(struct callout_line *l, const struct plan *old)
{
	uint32_t kept = 0;

	for (unsigned i = 0; old != NULL && l->plan != NULL && i < l->plan->host_count; i++) {
		for (unsigned n = 0; n < old->host_count; n++) {
			if (is_broken(l, n) &&
			    net_address_eq(&l->plan->hosts[i].address, &old->hosts[n].address))
				kept |= 1U << i;
		}
	}
	l->tls_broken = kept;
}

/* ---- AUTH ---- */

static struct callout_conn *
conn_of_login(struct peer_auth *a)
{
	return CONTAINER_OF(a, struct callout_conn, auth);
}

static void
on_auth_failed(struct peer_auth *a, struct span why)
{
	callout_explain(conn_of_login(a)->line, why);
}

static void
on_auth_answered(struct peer_auth *a)
{
	callout_step(conn_of_login(a));
}

/* ---- the connection ---- */

void
callout_prepare(struct callout_conn *c)
{
	bool plain = c->flow->worker->tls == NULL || is_broken(c->line, c->host);

	c->protection = protection_of(c->plan, &c->plan->hosts[c->host]);
	c->options.session.tls = (uint8_t)protection_stage(c->protection, plain);
	c->auth = (struct peer_auth){
		.flow = c->flow,
		.conn = &c->conn,
		.secrets = c->routing->secrets,
		.entry = c->plan->auth,
		.on_failed = on_auth_failed,
		.on_answered = on_auth_answered,
	};
	c->options.session.auth = peer_auth_mechanisms(&c->auth);
	probe_init(&c->probe, &c->options, &c->flow->scratch);
	c->auth.sender = probe_session(&c->probe);
}

void
callout_start_tls(struct callout_conn *c)
{
	const struct plan_host *host = &c->plan->hosts[c->host];
	struct worker *w = c->flow->worker;

	if (w->tls == NULL) {
		callout_tls_failed(c, SPAN("this relay has no TLS"), NULL);
		return;
	}
	struct layer *layer = protection_layer(w->tls, c->plan, host, c->protection);
	if (layer == NULL) {
		callout_give_up(c, CLOSE_NO_MEMORY, false);
		return;
	}
	c->securing = true;
	conn_secure(&c->conn, layer);
	/* The half that is left is for the same question in plain text, or to another host. */
	conn_deadline(&c->conn, w->now_ms + c->routing->config->relay.callout.deadline_ms / 2);
}

void
callout_on_secured(struct conn *conn, enum err e)
{
	struct callout_conn *c = CONTAINER_OF(conn, struct callout_conn, conn);
	struct tls_facts facts;

	c->securing = false;
	tls_facts(conn_layer(conn), &facts);
	flow_event_peer_handshake(c->flow, &facts, e);
	if (e != ERR_OK) {
		struct span why = facts.why.size > 0 ? facts.why : span_of_string(err_text(e));
		callout_tls_failed(c, why, facts.result_type);
		return;
	}
	probe_secured(&c->probe);
	callout_step(c);
}

void
callout_tls_failed(struct callout_conn *c, struct span why, const char *result_type)
{
	struct callout_line *l = c->line;
	uint8_t memory[WHY_MAX];
	struct buf text = buf_of(memory, sizeof memory);

	c->securing = false;
	c->plain_next = c->protection.level == TLS_MAY;
	if (c->plain_next)
		note_broken(l, c->host, c->routing->config->delivery.tls_broken_for_ms);
	buf_append_string(&text, "TLS: ");
	buf_append(&text, span_first(why, buf_room(&text)));
	callout_explain(l, buf_span(&text));
	flow_event_peer_tls_failed(
		c->flow, l->target->text, &c->plan->hosts[c->host], c->protection, why,
		result_type != NULL ? result_type : "validation-failure", l->tls_broken_until_ms);
	callout_give_up(c, CLOSE_TLS_FAILED, true);
}
