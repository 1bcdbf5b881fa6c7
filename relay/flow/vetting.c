/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/flow/vetting.h"

#include "core/base/clock.h"
#include "relay/flow/events.h"
#include "relay/flow/flow.h"
#include "relay/message/authres.h"
#include "relay/message/received_spf.h"

enum {
	PROBLEM_MAX = 200,
	MECHANISM_MAX = 200,
	COMMENT_MAX = 600,
	MORE_MAX = RECEIVER_MORE_MAX,
	PATIENCE_MS = 2000,    /* with the client's name, once SPF is done */
	DOMAIN_SHOWN_MAX = 64, /* of a domain in the first line of a reply */
};

static const struct config_listener_spf *
options_of(const struct session *s)
{
	return &s->listener->spf;
}

static bool
is_loopback(const struct net_address *a)
{
	static const uint8_t v6[16] = { [15] = 1 };
	uint8_t ip[16];
	size_t size = net_address_ip(a, ip);

	return size == 4 ? ip[0] == 127 : size == 16 && memcmp(ip, v6, sizeof v6) == 0;
}

bool
vetting_is_wanted(const struct session *s)
{
	const struct config_listener_spf *o = options_of(s);
	uint8_t ip[16];

	if (s->listener->role != ROLE_RELAY || !o->enabled || s->flow->worker->resolver == NULL)
		return false;
	if (s->user != NULL || s->certified != NULL || net_address_ip(&s->peer, ip) == 0)
		return false;
	return !is_loopback(&s->peer) &&
	       !config_network_contains(&s->routing->config->relay.networks, &s->peer.any) &&
	       !config_network_contains(&o->except, &s->peer.any);
}

/* ---- what follows from a result ---- */

static enum config_spf_action
action_of(const struct config_listener_spf *o, enum spf_result r)
{
	switch (r) {
	case SPF_NONE:
		return o->none;
	case SPF_NEUTRAL:
		return o->neutral;
	case SPF_PASS:
		return o->pass;
	case SPF_FAIL:
		return o->fail;
	case SPF_SOFTFAIL:
		return o->softfail;
	case SPF_TEMPERROR:
		return o->temperror;
	case SPF_PERMERROR:
		return o->permerror;
	}
	return SPF_ACTION_MARK;
}

static bool
is_refusal(enum config_spf_action a)
{
	return a == SPF_ACTION_REFUSE || a == SPF_ACTION_DEFER;
}

/* RFC 7372 3: X.7.23 is for what failed, X.7.24 for what could not be evaluated. */
static enum reply_row
row_of(enum spf_result r, bool later)
{
	switch (r) {
	case SPF_FAIL:
	case SPF_SOFTFAIL:
		return later ? REPLY_SPF_FAIL_LATER : REPLY_SPF_FAIL;
	case SPF_TEMPERROR:
	case SPF_PERMERROR:
		return later ? REPLY_SPF_ERROR_LATER : REPLY_SPF_ERROR;
	default:
		return later ? REPLY_SPF_POLICY_LATER : REPLY_SPF_POLICY;
	}
}

/* "SPF fail: 192.0.2.1 may not send mail of example.com", in ASCII. */
static void
write_text(struct transaction *t, const struct spf_outcome *o)
{
	struct vetting *v = &t->vetting;
	struct buf text = buf_of(v->text, sizeof v->text);
	struct span domain = span_first(o->domain, DOMAIN_SHOWN_MAX);

	buf_append_string(&text, "SPF ");
	buf_append_string(&text, spf_result_label(o->result));
	if (o->result == SPF_FAIL || o->result == SPF_SOFTFAIL) {
		buf_append_string(&text, ": ");
		buf_append(&text, t->envelope.client);
		buf_append_string(&text, o->identity == SPF_HELO ? " may not call itself "
								 : " may not send mail of ");
	} else {
		buf_append_string(&text, " of ");
	}
	for (size_t i = 0; i < domain.size; i++)
		buf_append_byte(&text, domain.data[i] < 0x80 ? domain.data[i] : '?');
	v->text_size = (uint8_t)text.size;
}

/* The domain's explanation, or what is wrong with its records. */
static struct span
more_of(struct transaction *t, const struct spf_outcome *o)
{
	uint8_t memory[MORE_MAX];
	struct buf more = buf_of(memory, sizeof memory);
	struct span text = o->result == SPF_FAIL ? o->explanation : o->problem;

	if (text.size == 0)
		return span_none();
	if (o->result == SPF_FAIL) {
		buf_append(&more, o->domain);
		buf_append_string(&more, " explains: ");
	}
	buf_append(&more, span_first(text, buf_room(&more)));
	return arena_copy(&t->memory, buf_span(&more));
}

static void
judge(struct transaction *t, const struct spf_outcome *o, enum config_spf_action action)
{
	struct vetting *v = &t->vetting;

	v->row = row_of(o->result, action == SPF_ACTION_DEFER);
	v->more = more_of(t, o);
	write_text(t, o);
}

/* ---- the checks ---- */

static void take_outcome(struct transaction *t, const struct spf_outcome *lent);

/* Is all known that is waited for? */
static bool
settle(struct transaction *t)
{
	struct vetting *v = &t->vetting;
	struct worker *w = t->session->flow->worker;

	ASSERT(v->state == VETTING_OPEN);
	if (v->spf_is_open)
		return false;
	if (v->iprev_is_open && v->row == REPLY_NONE) {
		/* Nothing hangs on the client's name, and many have none that can be looked up. */
		if (v->deadline.deadline_ms > w->now_ms + PATIENCE_MS)
			timer_set(&w->timers, &v->deadline, w->now_ms + PATIENCE_MS);
		return false;
	}
	iprev_cancel(&v->iprev);
	v->iprev_is_open = false;
	v->state = VETTING_DONE;
	timer_stop(&w->timers, &v->deadline);
	return true;
}

static void
go_on(struct transaction *t)
{
	if (settle(t))
		t->vetting.on_done(t);
}

static void
start_spf(struct transaction *t, enum spf_identity identity)
{
	struct session *s = t->session;
	struct worker *w = s->flow->worker;
	struct vetting *v = &t->vetting;
	struct span sender = t->envelope.sender;
	struct span domain = address_domain(sender);
	struct spf_inputs in = {
		.identity = identity,
		.client = s->peer,
		.helo = span_of(s->hello, s->hello_size),
		.domain = domain,
		.receiver = s->routing->config->hostname,
		.now_s = w->now_wall_ms / 1000,
	};

	if (domain.size > 0)
		in.local = span_first(sender, sender.size - domain.size - 1);
	v->started_us = clock_monotonic_us();
	v->spf_is_open = true;
	const struct spf_outcome *o = spf_check_try(&v->spf, w->resolver, &in);
	if (o != NULL)
		take_outcome(t, o);
}

/* What of the outcome is told later. Without memory for it less is told. */
static void
keep(struct transaction *t, const struct spf_outcome *o, enum config_spf_action action)
{
	struct vetted *k = &t->vetting.of[o->identity];

	*k = (struct vetted){
		.is_known = true,
		.result = o->result,
		.action = action,
		.domain = arena_copy(&t->memory, o->domain),
		.mechanism = arena_copy(&t->memory, span_first(o->mechanism, MECHANISM_MAX)),
		.mechanism_domain = arena_copy(&t->memory, o->mechanism_domain),
		.problem = arena_copy(&t->memory, span_first(o->problem, PROBLEM_MAX)),
	};
}

static void
take_outcome(struct transaction *t, const struct spf_outcome *lent)
{
	struct vetting *v = &t->vetting;
	struct spf_outcome copy = *lent, *o = &copy;
	const struct config_listener_spf *options = options_of(t->session);
	enum config_spf_action action = action_of(options, o->result);
	if (t->envelope.sender.size == 0)
		o->identity = SPF_HELO; /* also where there was no room for a check */
	bool is_beside = o->identity == SPF_HELO && t->envelope.sender.size > 0;

	/* A name beside a sender is refused where it is forged, and else only told of. */
	if (is_beside && o->result != SPF_FAIL && is_refusal(action))
		action = SPF_ACTION_MARK;
	v->spf_is_open = false;
	keep(t, o, action);
	flow_event_spf(t->session->flow, t, o, action, clock_monotonic_us() - v->started_us);
	if (is_refusal(action))
		judge(t, o, action);
	else if (is_beside)
		start_spf(t, SPF_MAIL_FROM);
}

static void
on_outcome(struct spf_check *c, const struct spf_outcome *o)
{
	struct transaction *t = CONTAINER_OF(c, struct vetting, spf)->transaction;

	take_outcome(t, o);
	go_on(t);
}

static void
take_name(struct vetting *v, const struct iprev_outcome *o)
{
	struct transaction *t = v->transaction;

	v->iprev_is_open = false;
	v->iprev_is_known = true;
	v->iprev_result = o->result;
	if (o->name.size > 0)
		v->client_name = arena_copy(&t->memory, o->name);
	flow_count_iprev(t->session->flow, o->result);
}

static void
on_name(struct iprev *i, const struct iprev_outcome *o)
{
	struct vetting *v = CONTAINER_OF(i, struct vetting, iprev);

	take_name(v, o);
	go_on(v->transaction);
}

/* Whatever is open is a temperror. */
static void
on_deadline(struct timer *timer)
{
	struct vetting *v = CONTAINER_OF(timer, struct vetting, deadline);
	struct transaction *t = v->transaction;

	spf_check_cancel(&v->spf);
	iprev_cancel(&v->iprev);
	if (v->iprev_is_open)
		take_name(v, &(struct iprev_outcome){ .result = IPREV_TEMPERROR });
	if (v->spf_is_open) {
		bool is_helo = t->envelope.sender.size == 0 ||
			       (options_of(t->session)->helo == SPF_HELO_ALWAYS &&
				!v->of[SPF_HELO].is_known);
		struct spf_outcome o = {
			.result = SPF_TEMPERROR,
			.identity = is_helo ? SPF_HELO : SPF_MAIL_FROM,
			.domain = is_helo ? span_of(t->session->hello, t->session->hello_size)
					  : address_domain(t->envelope.sender),
			.problem = SPAN("the DNS has not answered in time"),
		};
		take_outcome(t, &o);
		if (v->spf_is_open) { /* the sender's, for which no time is left */
			spf_check_cancel(&v->spf);
			o.identity = SPF_MAIL_FROM;
			o.domain = address_domain(t->envelope.sender);
			take_outcome(t, &o);
		}
	}
	go_on(t);
}

bool
vetting_start(struct transaction *t, void (*on_done)(struct transaction *t))
{
	struct session *s = t->session;
	struct worker *w = s->flow->worker;
	struct vetting *v = &t->vetting;
	const struct config_listener_spf *o = options_of(s);
	bool helo = o->helo == SPF_HELO_ALWAYS || t->envelope.sender.size == 0;

	ASSERT(v->state == VETTING_DUE);
	v->state = VETTING_OPEN;
	v->transaction = t;
	v->on_done = on_done;
	v->spf.on_done = on_outcome;
	v->iprev.on_done = on_name;
	v->iprev_is_open = o->iprev;
	timer_init(&v->deadline, on_deadline);
	const struct iprev_outcome *name =
		o->iprev ? iprev_start(&v->iprev, w->resolver, &s->peer) : NULL;
	if (name != NULL)
		take_name(v, name);
	start_spf(t, helo ? SPF_HELO : SPF_MAIL_FROM);
	if (v->spf_is_open || v->iprev_is_open)
		timer_set(&w->timers, &v->deadline, w->now_ms + o->deadline_ms);
	return settle(t);
}

void
vetting_cancel(struct transaction *t)
{
	struct vetting *v = &t->vetting;

	if (v->state != VETTING_OPEN)
		return;
	timer_stop(&t->session->flow->worker->timers, &v->deadline);
	spf_check_cancel(&v->spf);
	iprev_cancel(&v->iprev);
	v->spf_is_open = v->iprev_is_open = false;
	v->state = VETTING_DONE;
}

const struct vetted *
vetting_of(const struct transaction *t)
{
	const struct vetted *of = t->vetting.of;

	return of[SPF_MAIL_FROM].is_known ? &of[SPF_MAIL_FROM]
	       : of[SPF_HELO].is_known    ? &of[SPF_HELO]
					  : NULL;
}

/* ---- the header ---- */

/* "example.net: include:other.example" */
static void
write_comment(const struct vetted *k, struct buf *out)
{
	if (k->mechanism.size == 0)
		return;
	buf_append(out, k->mechanism_domain);
	buf_append_string(out, ": ");
	buf_append(out, k->mechanism);
}

static void
write_method(const struct transaction *t, const struct vetted *k, enum spf_identity identity,
	     struct authres_writer *w)
{
	const struct session *s = t->session;
	uint8_t memory[COMMENT_MAX];
	struct buf comment = buf_of(memory, sizeof memory);

	write_comment(k, &comment);
	authres_method(w, SPAN("spf"), AUTHRES_VERSION,
		       span_of_string(spf_result_label(k->result)));
	if (comment.size > 0)
		authres_comment(w, buf_span(&comment));
	if (k->problem.size > 0)
		authres_reason(w, k->problem);
	if (identity == SPF_HELO)
		authres_property(w, SPAN("smtp"), SPAN("helo"), span_of(s->hello, s->hello_size));
	else
		authres_property(w, SPAN("smtp"), SPAN("mailfrom"), t->envelope.sender);
}

static void
write_iprev(const struct transaction *t, struct authres_writer *w)
{
	const struct vetting *v = &t->vetting;

	authres_method(w, SPAN("iprev"), AUTHRES_VERSION,
		       span_of_string(iprev_result_label(v->iprev_result)));
	if (v->client_name.size > 0)
		authres_comment(w, v->client_name);
	authres_property(w, SPAN("policy"), SPAN("iprev"), t->envelope.client);
}

static void
write_received_spf(const struct transaction *t, const struct vetted *k, enum spf_identity identity,
		   struct buf *out)
{
	const struct session *s = t->session;
	uint8_t memory[COMMENT_MAX];
	struct buf comment = buf_of(memory, sizeof memory);

	write_comment(k, &comment);
	bool fits = received_spf_write(
		out, &(struct received_spf){
			     .result = span_of_string(spf_result_label(k->result)),
			     .comment = buf_span(&comment),
			     .receiver = s->routing->config->hostname,
			     .client_ip = t->envelope.client,
			     .envelope_from = t->envelope.sender,
			     .helo = span_of(s->hello, s->hello_size),
			     .identity = span_of_string(spf_identity_label(identity)),
			     .mechanism = k->mechanism,
			     .problem = k->problem,
			     .utf8 = (t->envelope.flags & MAIL_UTF8) != 0,
		     });
	ASSERT(fits);
}

void
vetting_write(const struct transaction *t, struct buf *out)
{
	/* What was found first comes first, as it was found. */
	static const enum spf_identity order[] = { SPF_HELO, SPF_MAIL_FROM };
	const struct vetting *v = &t->vetting;
	const struct vetted *told[2];
	unsigned count = 0;
	struct authres_writer w;

	for (unsigned i = 0; i < 2; i++) {
		const struct vetted *k = &v->of[order[i]];
		told[i] = k->is_known && k->action != SPF_ACTION_ACCEPT ? k : NULL;
		count += told[i] != NULL;
	}
	if (count == 0 && !v->iprev_is_known)
		return;
	authres_begin(&w, out, routing_authserv_id(t->session->routing->config),
		      (t->envelope.flags & MAIL_UTF8) != 0);
	for (unsigned i = 0; i < 2; i++) {
		if (told[i] != NULL)
			write_method(t, told[i], order[i], &w);
	}
	if (v->iprev_is_known)
		write_iprev(t, &w);
	bool fits = authres_end(&w);
	ASSERT(fits);
	for (unsigned i = 0; i < 2; i++) {
		if (told[i] != NULL && options_of(t->session)->received_spf)
			write_received_spf(t, told[i], order[i], out);
	}
}
