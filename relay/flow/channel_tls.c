/* SPDX-License-Identifier: Apache-2.0
 *
 * How a connection to a next hop is protected, and who we are to it: what the plan's policy wants
 * of the host, the handshake, and what becomes of one that fails.
 *
 * Where TLS may be left out, a host whose handshake fails is talked to in plain text for a while
 * (delivery.tls_broken_for), after hosts of the site that have no such trouble; what is demanded is
 * never given up.
 */
#include "relay/flow/channel_parts.h"
#include "relay/flow/events.h"
#include "relay/flow/flow.h"

enum { WHY_SHOWN = 140 }; /* of the reason, in the text of an outcome */

/* ---- before the connection ---- */

static bool
is_broken(const struct channel *c)
{
	return c->site->hosts[c->host].tls_broken_until_ms > c->flow->worker->now_ms;
}

void
channel_choose_protection(struct channel *c)
{
	bool plain = c->flow->worker->tls == NULL || is_broken(c);

	c->protection = protection_of(c->plan, &c->peer);
	c->options.tls = (uint8_t)protection_stage(c->protection, plain);
	c->options.require_tls = c->plan->policy.need == TLS_NEED_REQUIRED && !c->peer.is_local;
}

/* ---- the handshake ---- */

void
channel_start_tls(struct channel *c)
{
	struct tls *tls = c->flow->worker->tls;

	if (tls == NULL) {
		channel_tls_failed(c, SPAN("this relay has no TLS"), NULL);
		return;
	}
	struct layer *layer = protection_layer(tls, c->plan, &c->peer, c->protection);
	if (layer == NULL) {
		channel_abort(c, CLOSE_NO_MEMORY);
		return;
	}
	c->securing = true;
	conn_secure(&c->conn, layer);
	channel_restart_deadline(c);
}

void
channel_on_secured(struct conn *conn, enum err e)
{
	struct channel *c = CONTAINER_OF(conn, struct channel, conn);
	struct tls_facts facts;

	c->securing = false;
	tls_facts(conn_layer(conn), &facts);
	flow_event_peer_handshake(c->flow, &facts, e);
	if (e != ERR_OK) {
		struct span why = facts.why.size > 0 ? facts.why : span_of_string(err_text(e));
		channel_tls_failed(c, why, facts.result_type);
		return;
	}
	c->tls = (struct job_tls){
		.version = facts.version,
		.cipher = facts.cipher,
		.verified = (uint8_t)facts.verified,
	};
	sender_secured(&c->sender);
	channel_restart_deadline(c);
	channel_step(c);
}

void
channel_tls_failed(struct channel *c, struct span why, const char *result_type)
{
	struct site_host *h = &c->site->hosts[c->host];
	uint64_t now_ms = c->flow->worker->now_ms;
	bool may_be_plain = c->protection.level == TLS_MAY;
	const char *type = result_type != NULL ? result_type : "validation-failure";
	bool known = may_be_plain && h->tls_broken_until_ms > now_ms;

	c->securing = false;
	c->plain_next = may_be_plain;
	/* A certificate that is not the right one. What has other reasons may pass. */
	c->is_unfit = c->options.require_tls && result_type != NULL;
	channel_explain(c, c->is_unfit ? "5.7.10" : "4.7.5", span_first(why, WHY_SHOWN), "TLS");
	if (c->opener != NULL)
		channel_count_failure(c, c->opener, result_type, why);
	if (may_be_plain)
		h->tls_broken_until_ms = now_ms + c->routing->config->delivery.tls_broken_for_ms;
	else if (!c->is_unfit && site_host_failed(c->site, c->host))
		flow_event_host_failed(c->flow, c->site, c->host, "tls", why);
	else
		known = !c->is_unfit;
	if (!known)
		flow_event_peer_tls_failed(c->flow, c->site->name, &c->peer, c->protection, why,
					   type, h->tls_broken_until_ms);
	channel_finish(c, CLOSE_TLS_FAILED);
}

void
channel_note_protection(const struct channel *c, struct job *j)
{
	j->tls = c->tls;
	j->tls.known = true;
	j->tls.level = (uint8_t)c->protection.level;
	j->tls.source = (uint8_t)c->protection.source;
}

/* ---- AUTH ---- */

static struct channel *
channel_of_login(struct peer_auth *a)
{
	return CONTAINER_OF(a, struct channel, auth);
}

static void
on_auth_failed(struct peer_auth *a, struct span why)
{
	channel_explain(channel_of_login(a), "4.7.8", why, "AUTH");
}

static void
on_auth_answered(struct peer_auth *a)
{
	channel_step(channel_of_login(a));
}

void
channel_prepare_auth(struct channel *c)
{
	c->auth = (struct peer_auth){
		.flow = c->flow,
		.conn = &c->conn,
		.sender = &c->sender,
		.secrets = c->routing->secrets,
		.entry = c->plan->auth,
		.on_failed = on_auth_failed,
		.on_answered = on_auth_answered,
	};
	c->options.auth = peer_auth_mechanisms(&c->auth);
}
