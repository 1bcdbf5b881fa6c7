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

enum {
	KEY_MAX = 800,    /* address, two names, numbers */
	WHY_SHOWN = 140,  /* of the reason, in the text of an outcome */
	ADDRESS_MAX = 64, /* an IP address as text */
};

/* ---- before the connection ---- */

static bool
is_broken(const struct channel *c)
{
	return c->site->hosts[c->host].tls_broken_until_ms > c->flow->worker->now_ms;
}

void
channel_choose_protection(struct channel *c)
{
	enum tls_level level = plan_host_level(&c->plan->policy, &c->peer, &c->tls_source);

	/* A port that is all TLS has nothing else to fall back to. */
	if (c->peer.implicit && level < TLS_ENCRYPT)
		level = TLS_ENCRYPT;
	c->tls_level = level;
	if (level > TLS_MAY)
		c->options.tls = SENDER_TLS_REQUIRED;
	else if (level == TLS_MAY && c->flow->worker->tls != NULL && !is_broken(c))
		c->options.tls = SENDER_TLS_IF_OFFERED;
	else
		c->options.tls = SENDER_TLS_NEVER;
	c->options.require_tls = c->plan->policy.need == TLS_NEED_REQUIRED && !c->peer.is_local;
}

/* ---- the wish ---- */

/* The host's name as it is asked for, and as its certificate must have it; empty by number. MTA-STS
 * and REQUIRETLS mean the name in the MX record, wherever that leads (RFC 8461 4.1, RFC
 * 8689 4.2.1).
 */
static struct span
server_name(const struct channel *c)
{
	if (c->plan->policy.source == TLS_BY_STS && c->tls_source != TLS_BY_DANE)
		return c->peer.name;
	if (c->tls_source == TLS_BY_MAIL)
		return c->peer.name;
	return c->peer.base.size > 0 ? c->peer.base : c->peer.name;
}

static void
add_name(struct tls_wish *w, struct span name)
{
	if (name.size > 0 && w->name_count < TLS_NAMES_MAX)
		w->names[w->name_count++] = name;
}

static uint64_t
hash_of_records(const struct channel *c)
{
	const struct tls_policy *p = &c->plan->policy;
	struct span prints = span_of(p->fingerprints, p->fingerprint_count * TLS_FINGERPRINT_SIZE);
	uint64_t hash = span_hash_nocase(prints, 1);

	for (size_t i = 0; i < c->peer.record_count; i++) {
		const struct tlsa *r = &c->peer.records[i];
		hash = span_hash_nocase(r->data,
					hash + r->usage * 64U + r->selector * 8U + r->matching);
	}
	return hash;
}

/* What was checked once need not be checked again only for who checks the same. */
static void
make_session_key(const struct channel *c, const struct tls_wish *w, struct buf *key)
{
	net_address_show(&c->peer.address, key);
	buf_printf(key, " %d %llx", (int)w->level, (unsigned long long)hash_of_records(c));
	for (unsigned i = 0; i < w->name_count; i++) {
		buf_append_byte(key, ' ');
		buf_append(key, w->names[i]);
	}
}

static void
make_wish(const struct channel *c, struct tls_wish *w, struct buf *address, struct buf *key)
{
	*w = (struct tls_wish){
		.level = c->tls_level,
		.server_name = server_name(c),
		.records = c->peer.records,
		.record_count = c->peer.record_count,
		.fingerprints = c->plan->policy.fingerprints,
		.fingerprint_count = c->plan->policy.fingerprint_count,
	};
	add_name(w, w->server_name);
	if (w->name_count == 0 && c->peer.address.any.sa_family != AF_UNIX) {
		net_address_show_ip(&c->peer.address, address);
		add_name(w, buf_span(address));
	}
	/* RFC 7672 3.2.2; then the site is that domain's alone. */
	if (c->plan->policy.dane_names)
		add_name(w, c->plan->policy.domain);
	make_session_key(c, w, key);
	/* Each session's certificate is looked at where a report is to say what is wrong with it.
	 */
	if (!key->overflow && !c->plan->policy.testing)
		w->session_key = buf_span(key);
}

/* ---- the handshake ---- */

void
channel_start_tls(struct channel *c)
{
	uint8_t address_memory[ADDRESS_MAX], key_memory[KEY_MAX];
	struct buf address = buf_of(address_memory, sizeof address_memory);
	struct buf key = buf_of(key_memory, sizeof key_memory);
	struct tls *tls = c->flow->worker->tls;
	struct tls_wish wish;

	if (tls == NULL) {
		channel_tls_failed(c, SPAN("this relay has no TLS"), NULL);
		return;
	}
	make_wish(c, &wish, &address, &key);
	struct layer *layer = tls_connect(tls, &wish);
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
	bool may_be_plain = c->tls_level == TLS_MAY;
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
		flow_event_peer_tls_failed(c->flow, c, why, type);
	channel_finish(c, CLOSE_TLS_FAILED);
}

void
channel_note_protection(const struct channel *c, struct job *j)
{
	j->tls = c->tls;
	j->tls.known = true;
	j->tls.level = (uint8_t)c->tls_level;
	j->tls.source = (uint8_t)c->tls_source;
}

/* ---- AUTH ---- */

/* Nothing of a secret but its name is told to anybody. */
static bool
fail_auth(struct channel *c, const char *what)
{
	uint8_t memory[160];
	struct buf why = buf_of(memory, sizeof memory);

	buf_printf(&why, "the secret '%.*s' %s", SPAN_ARG(c->plan->auth), what);
	channel_explain(c, "4.7.8", buf_span(&why), "AUTH");
	sender_auth_failed(&c->sender);
	return true;
}

static bool
say_auth(struct channel *c, enum peer_login_step step, struct span answer)
{
	if (step != PEER_LOGIN_SAYS)
		return fail_auth(c, "was asked for in a way that is not the mechanism's, or by one "
				    "that does not know it");
	sender_auth_answer(&c->sender, answer);
	return true;
}

static void
on_derived(struct peer_login *login)
{
	struct channel *c = login->owner;
	struct span answer;

	conn_unhold(&c->conn);
	c->deriving = false;
	if (c->conn.state != CONN_OPEN)
		return;
	say_auth(c, peer_login_derived(&c->flow->peer_logins, login, &answer), answer);
	channel_step(c);
}

bool
channel_answer_auth(struct channel *c, const struct sender_auth *asked)
{
	struct peer_logins *logins = &c->flow->peer_logins;
	struct secrets *secrets = c->routing->secrets;
	const struct secret *secret = secrets_find(secrets, c->plan->auth);
	struct span answer;

	if (secret == NULL)
		return fail_auth(c, "is not in the file of secrets any more");
	if (c->login == NULL)
		c->login = peer_login_new(logins, c, secrets, secret);
	if (c->login == NULL)
		return fail_auth(c, "cannot be used for want of memory");
	enum peer_login_step step = peer_login_answer(logins, c->login, asked, &answer);
	if (step != PEER_LOGIN_DERIVES)
		return say_auth(c, step, answer);
	if (c->flow->worker->helpers == NULL) {
		peer_login_derive_here(c->login);
		return say_auth(c, peer_login_derived(logins, c->login, &answer), answer);
	}
	conn_hold(&c->conn);
	c->deriving = true;
	if (peer_login_derive(c->login, c->flow->worker, on_derived))
		return false;
	conn_unhold(&c->conn);
	c->deriving = false;
	METRIC_ADD_LABEL(c->flow->worker->metrics, POOL_EXHAUSTED, LABEL_POOL_HELPER_JOBS, 1);
	return fail_auth(c, "cannot be used now: the helpers are busy");
}
