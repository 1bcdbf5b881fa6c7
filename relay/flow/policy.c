/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/flow/policy.h"

#include "core/limits.h"
#include "relay/flow/events.h"
#include "relay/flow/flow.h"
#include "relay/flow/quota.h"

/* The key of the one count over all clients. */
static const uint64_t all_clients_key = 1;

enum reply_row
policy_row_of_err(struct flow *f, enum err e)
{
	switch (e) {
	case ERR_NO_ROOM:
		FLOW_LIMIT_HIT(f, QUEUE_DISK);
		return REPLY_NO_ROOM;
	case ERR_NO_MEMORY:
		FLOW_LIMIT_HIT(f, MEMORY_BUDGET);
		return REPLY_NO_MEMORY;
	case ERR_TOO_MANY:
		return REPLY_QUEUE_FULL;
	case ERR_SHUTTING_DOWN:
		return REPLY_SHUTTING_DOWN;
	case ERR_DRAINING:
		return REPLY_DRAINED;
	case ERR_AWAY:
		return REPLY_QUEUE_AWAY;
	case ERR_STORAGE:
	case ERR_IN_DOUBT:
		return REPLY_STORAGE_FAILED;
	default:
		return REPLY_TRY_LATER;
	}
}

uint64_t
policy_client_key(const struct session *s)
{
	return net_address_hash_ip(&s->peer, s->flow->key_seed);
}

static bool
is_exempt(const struct session *s)
{
	return config_network_contains(&s->routing->config->limits.exempt, &s->peer.any);
}

enum reply_row
policy_client(struct session *s, enum close_reason *reason)
{
	const struct config_limits *limits = &s->routing->config->limits;
	struct limits *shared = s->flow->worker->limits;

	if (s->flow->draining) {
		*reason = CLOSE_SHUTDOWN;
		flow_event_refused(s->flow, s, LABEL_REFUSAL_SHUTDOWN);
		return REPLY_SHUTTING_DOWN;
	}
	if (s->flow->rests) {
		*reason = CLOSE_DRAINED;
		flow_event_refused(s->flow, s, LABEL_REFUSAL_DRAINED);
		return REPLY_DRAINED;
	}
	s->counted_all = limits_take(shared, all_clients_key, limits->connections);
	if (!s->counted_all) {
		*reason = CLOSE_CONNECTION_LIMIT;
		FLOW_LIMIT_HIT(s->flow, CONNECTIONS);
		flow_event_refused(s->flow, s, LABEL_REFUSAL_CONNECTIONS);
		return REPLY_BUSY;
	}
	if (s->listener->role == ROLE_SUBMISSION && lockout_has_address(s)) {
		*reason = CLOSE_LOCKED_OUT;
		flow_count_locked_out(s->flow, LOCKOUT_ADDRESS);
		flow_event_refused(s->flow, s, LABEL_REFUSAL_LOCKED_OUT);
		return REPLY_ADDRESS_LOCKED;
	}
	if (is_exempt(s))
		return REPLY_NONE;
	if (limits->connections_per_client != 0) {
		s->counted = limits_take(shared, s->limit_key, limits->connections_per_client);
		if (!s->counted) {
			*reason = CLOSE_CONNECTION_LIMIT;
			FLOW_LIMIT_HIT(s->flow, CONNECTIONS_PER_CLIENT);
			flow_event_refused(s->flow, s, LABEL_REFUSAL_CONNECTIONS_PER_CLIENT);
			return REPLY_CONNECTION_LIMIT;
		}
	}
	uint32_t rate = limits->connection_rate_per_client;
	if (rate != 0 && !limits_rate(shared, s->limit_key, rate, rate, s->flow->worker->now_ms)) {
		*reason = CLOSE_RATE_LIMIT;
		FLOW_LIMIT_HIT(s->flow, CONNECTION_RATE_PER_CLIENT);
		flow_event_refused(s->flow, s, LABEL_REFUSAL_CONNECTION_RATE_PER_CLIENT);
		return REPLY_RATE_LIMIT;
	}
	return REPLY_NONE;
}

/* The row of a domain of ours, in the newest configuration where it is there, not in that of the
 * session: a client that keeps its connection for hours would be told 550 for who is new. */
static const struct config_domain *
own_domain(const struct session *s, const struct address *path, struct routing **r)
{
	const struct config_domain *domain;

	*r = s->flow->routing;
	domain = config_domain_find((*r)->config, path->domain);
	if (domain != NULL)
		return domain;
	*r = s->routing;
	return config_domain_find((*r)->config, path->domain);
}

/* RFC 5321 4.5.1: postmaster is always taken. */
static bool
is_known_anyway(const struct config_domain *domain, const struct address *path)
{
	return domain == NULL || address_is_postmaster(path);
}

/* Does our domain have it? Where only the next hop knows, *ask is set. */
static enum reply_row
look_up(const struct session *s, const struct address *path, struct routing **ask)
{
	struct routing *r;
	const struct config_domain *domain = own_domain(s, path, &r);

	if (is_known_anyway(domain, path) || domain->recipients.kind == RECIPIENTS_ANY)
		return REPLY_NONE;
	if (domain->recipients.kind == RECIPIENTS_CALLOUT) {
		const struct config_route *route = config_route_find(r->config, path->domain);
		if (route != NULL &&
		    (route->to.kind == TARGET_SMTP || route->to.kind == TARGET_LMTP))
			*ask = r;
		return REPLY_NONE;
	}
	bool found = recipients_has(r->recipients, r->config, domain, path);
	METRIC_ADD_LABEL(s->flow->worker->metrics, RECIPIENTS_LOOKED_UP,
			 found ? LABEL_FOUND_KNOWN : LABEL_FOUND_UNKNOWN, 1);
	return found ? REPLY_NONE : REPLY_NO_SUCH_RECIPIENT;
}

enum reply_row
policy_of_callout(const struct session *s, enum callout_answer answer)
{
	switch (answer) {
	case CALLOUT_KNOWN:
		return REPLY_NONE;
	case CALLOUT_UNKNOWN:
		return REPLY_NO_SUCH_RECIPIENT;
	default:
		return s->flow->routing->config->relay.callout.failure == FAILURE_ACCEPT
			       ? REPLY_NONE
			       : REPLY_RECIPIENT_UNCERTAIN;
	}
}

/* Users may send anywhere; networks may, where mail does not come from users alone. */
static bool
may_relay(const struct session *s)
{
	if (s->user != NULL || s->listener->role == ROLE_SUBMISSION)
		return s->user != NULL;
	if (s->certified != NULL)
		return true;
	return config_network_contains(&s->routing->config->relay.networks, &s->peer.any);
}

/* Who may send to whom: those to anywhere, everyone to our domains. */
enum reply_row
policy_recipient(const struct session *s, const struct address *path, struct routing **ask)
{
	const struct config *config = s->routing->config;
	struct span domain = path->domain.size > 0 ? path->domain : config->hostname;

	if (!may_relay(s) && path->kind != ADDRESS_POSTMASTER &&
	    config_domain_find(config, domain) == NULL)
		return REPLY_RELAY_DENIED;
	if (config_route_find(config, domain) == NULL)
		return REPLY_NO_ROUTE;
	return look_up(s, path, ask);
}

void
policy_release(struct session *s)
{
	quota_disconnect(s);
	if (s->counted)
		limits_give(s->flow->worker->limits, s->limit_key);
	if (s->counted_all)
		limits_give(s->flow->worker->limits, all_clients_key);
	s->counted = s->counted_all = false;
}
