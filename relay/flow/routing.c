/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/flow/routing.h"

#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/assert.h"
#include "core/net.h"

/* A refused body is read to its end so that the client sees our reply; this bounds the patience. */
enum {
	DISCARD_FACTOR = 2,
	INTERFACES_MAX = 64,
	TEXTS_CHUNK = 4096,
	NAME_MAX_TRIED = 64 * 300, /* a route's list of hosts */
};

/* Dovecot can be asked whether a password is right; whether it does SCRAM, it says itself, and
 * login_withheld() knows. */
static uint8_t
mechanisms(const struct config *c)
{
	unsigned passwords = SASL_BIT(SASL_PLAIN) | SASL_BIT(SASL_LOGIN);

	if (config_names_file(c->users.dovecot) || config_names_file(c->users.file))
		return (uint8_t)(passwords | SASL_BIT(SASL_EXTERNAL) |
				 SASL_BIT(SASL_SCRAM_SHA_256));
	return 0;
}

enum config_listener_tls
routing_listener_tls(const struct config *c, size_t listener)
{
	enum config_listener_tls tls = c->listeners[listener].tls;

	if (tls != LISTENER_TLS_AUTO)
		return tls;
	return c->tls.certificates_count > 0 ? LISTENER_TLS_STARTTLS : LISTENER_TLS_NONE;
}

/* What one listener offers. */
static struct receiver_options
receiver_options(const struct config *c, size_t listener)
{
	enum config_role role = c->listeners[listener].role;

	return (struct receiver_options){
		.hostname = c->hostname,
		.size_max = c->limits.message_size_max,
		.discard_max = (uint64_t)c->limits.message_size_max * DISCARD_FACTOR,
		.recipients_max = c->limits.recipients_max,
		.mails_max = c->limits.mails_max,
		.errors_max = c->limits.errors_max,
		.junk_max = c->limits.junk_max,
		.line_max = (uint32_t)c->limits.command_size_max,
		.bare_newline = c->bare_newline == NEWLINE_NORMALIZE ? BODY_NORMALIZE : BODY_REJECT,
		.auth = role == ROLE_SUBMISSION ? mechanisms(c) : 0,
		.auth_required = role == ROLE_SUBMISSION,
		.require_tls = c->relay.requiretls,
		.starttls = routing_listener_tls(c, listener) == LISTENER_TLS_STARTTLS,
	};
}

static bool
fill_options(struct routing *r)
{
	const struct config *c = r->config;
	uint32_t workers_mails = c->delivery.mails_per_connection;

	r->receivers = calloc(c->listeners_count, sizeof *r->receivers);
	if (r->receivers == NULL)
		return false;
	for (size_t i = 0; i < c->listeners_count; i++)
		r->receivers[i] = receiver_options(c, i);
	for (unsigned lmtp = 0; lmtp < 2; lmtp++) {
		r->sender[lmtp] = (struct sender_options){
			.hello_name = c->hostname,
			.lmtp = lmtp == 1,
			.no_pipelining = !c->delivery.pipelining,
			.no_chunking = !c->delivery.chunking,
			.eight_bit_fails = c->eight_bit == EIGHT_BIT_BOUNCE,
			.recipients_max = c->delivery.recipients_max,
			.mails_max = workers_mails,
			.piece_max = (uint32_t)c->delivery.chunk_size,
		};
	}
	return true;
}

static struct tls_policy
policy_of(const struct config_route *route)
{
	static const enum tls_level levels[] = {
		[ROUTE_TLS_AUTO] = TLS_MAY,
		[ROUTE_TLS_NONE] = TLS_NONE,
		[ROUTE_TLS_MAY] = TLS_MAY,
		[ROUTE_TLS_ENCRYPT] = TLS_ENCRYPT,
		[ROUTE_TLS_VERIFY] = TLS_VERIFY,
		[ROUTE_TLS_DANE] = TLS_DANE,
		[ROUTE_TLS_FINGERPRINT] = TLS_FINGERPRINT,
	};

	_Static_assert(TLS_FINGERPRINT_SIZE == CONFIG_FINGERPRINT_SIZE, "both are SHA-256");
	return (struct tls_policy){
		.level = levels[route->tls],
		.source = route->tls == ROUTE_TLS_AUTO ? TLS_BY_DEFAULT : TLS_BY_ROUTE,
		.fingerprints = route->fingerprints,
		.fingerprint_count = route->fingerprints_count,
	};
}

/* Of MX hosts the site has a name of its own; here all of them are "mx". */
static struct span
name_way(struct routing *r, const struct config_route *route, const struct tls_policy *policy)
{
	uint8_t memory[PLAN_KEY_MAX];
	struct buf key = buf_of(memory, sizeof memory);

	plan_key(policy, route->auth, &key);
	ASSERT(!key.overflow);
	if (key.size == 0 || route->to.hosts_count == 0)
		return route->to.text;
	size_t size = route->to.text.size + key.size;
	struct buf name = buf_of(arena_take(&r->texts, size), size);
	if (name.data == NULL)
		return span_none();
	buf_append(&name, route->to.text);
	buf_append(&name, buf_span(&key));
	return buf_span(&name);
}

static bool
know_ways(struct routing *r)
{
	size_t count = r->config->routes_count;

	arena_init(&r->texts, TEXTS_CHUNK, SIZE_MAX);
	r->ways = calloc(count + 1, sizeof *r->ways);
	for (size_t i = 0; r->ways != NULL && i < count; i++) {
		struct routing_way *way = &r->ways[i];
		way->policy = policy_of(&r->config->routes[i]);
		way->auth = r->config->routes[i].auth;
		way->name = name_way(r, &r->config->routes[i], &way->policy);
		if (way->name.data == NULL)
			return false;
	}
	return r->ways != NULL;
}

/* The slot of a name: of its first route, or an empty one. */
static uint32_t *
slot_of(const struct routing *r, struct span name)
{
	size_t at = span_hash_nocase(name, 0) & r->targets_mask;

	while (r->targets[at] != 0 && !span_eq(r->ways[r->targets[at] - 1].name, name))
		at = (at + 1) & r->targets_mask;
	return &r->targets[at];
}

/* Routes to the same destination share the least of their limits: that of the first one is it. */
static bool
index_targets(struct routing *r)
{
	size_t count = r->config->routes_count;
	size_t size = 4;

	while (size < 2 * count)
		size *= 2;
	r->targets_mask = size - 1;
	r->targets = calloc(size, sizeof *r->targets);
	r->connections = calloc(count + 1, sizeof *r->connections);
	if (r->targets == NULL || r->connections == NULL)
		return false;
	for (size_t i = 0; i < count; i++) {
		const struct config_route *route = &r->config->routes[i];
		uint32_t *slot = slot_of(r, r->ways[i].name);
		if (*slot == 0)
			*slot = (uint32_t)i + 1;
		uint32_t *least = &r->connections[*slot - 1];
		if (*least == 0 || route->connections < *least)
			*least = route->connections;
	}
	return true;
}

static bool
is_wildcard(const struct net_address *a)
{
	static const struct in6_addr any6 = IN6ADDR_ANY_INIT;

	if (a->any.sa_family == AF_INET)
		return ((const struct sockaddr_in *)(const void *)a->bytes)->sin_addr.s_addr ==
		       htonl(INADDR_ANY);
	return a->any.sa_family == AF_INET6 &&
	       memcmp(&((const struct sockaddr_in6 *)(const void *)a->bytes)->sin6_addr, &any6,
		      sizeof any6) == 0;
}

/* Mail that would come back to ourselves is not sent: our name, and the addresses that we listen
 * on; one that stands for all addresses is all that the host has now. */
static bool
know_ourselves(struct routing *r)
{
	const struct config *c = r->config;
	unsigned most = (unsigned)c->listeners_count + INTERFACES_MAX;
	struct net_address *addresses = calloc(most, sizeof *addresses);
	unsigned count = 0;

	if (addresses == NULL)
		return false;
	for (size_t i = 0; i < c->listeners_count; i++) {
		const struct net_address *a = &c->listeners[i].address;
		if (is_wildcard(a))
			count += net_own_addresses(a->any.sa_family, addresses + count,
						   most - count);
		else if (count < most)
			addresses[count++] = *a;
	}
	r->self = (struct mx_self){
		.names = &c->hostname,
		.name_count = 1,
		.addresses = addresses,
		.address_count = count,
	};
	return true;
}

struct routing *
routing_new(const struct config *config, const struct routing *old, struct buf *why)
{
	struct routing *r = calloc(1, sizeof *r);

	if (r == NULL) {
		buf_append_string(why, "out of memory for the routes");
		return NULL;
	}
	atomic_init(&r->references, 1);
	r->config = config_get(config);
	if (!fill_options(r) || !know_ways(r) || !index_targets(r) || !know_ourselves(r)) {
		buf_append_string(why, "out of memory for the routes");
		routing_put(r);
		return NULL;
	}
	r->recipients = recipients_load(config, old == NULL ? NULL : old->recipients, why);
	if (r->recipients != NULL)
		r->users = users_load(config, old == NULL ? NULL : old->users, why);
	if (r->users != NULL)
		r->secrets = secrets_load(config, old == NULL ? NULL : old->secrets, why);
	if (r->secrets == NULL) {
		routing_put(r);
		return NULL;
	}
	return r;
}

/* Takes a whole word with its blank out of the text. */
static void
take_out(struct buf *text, struct span word)
{
	uint8_t *at = memmem(text->data, text->size, word.data, word.size);

	if (at == NULL)
		return;
	size_t behind = (size_t)(text->data + text->size - at) - word.size;
	if (behind > 0 && at[word.size] != ' ')
		return;
	memmove(at, at + word.size, behind);
	text->size -= word.size;
}

/* Of a site's name, what does not come from a route. */
static uint32_t
slot_of_site(const struct routing *r, struct span name)
{
	uint8_t memory[NAME_MAX_TRIED];
	struct buf rest = buf_of(memory, sizeof memory);

	buf_append(&rest, name);
	if (rest.overflow)
		return 0;
	take_out(&rest, SPAN(" requiretls"));
	take_out(&rest, SPAN(" tls=optional"));
	uint32_t slot = *slot_of(r, buf_span(&rest));
	if (slot == 0) {
		take_out(&rest, SPAN(" tls=dane"));
		slot = *slot_of(r, buf_span(&rest));
	}
	return slot;
}

uint32_t
routing_connections(const struct routing *r, struct span name)
{
	uint32_t slot = *slot_of(r, name);

	/* What the hosts publish (DANE) and what a mail wants makes another site of it, not another
	 * route. */
	if (slot == 0)
		slot = slot_of_site(r, name);
	return slot == 0 ? 1 : r->connections[slot - 1];
}

struct routing *
routing_get(struct routing *r)
{
	atomic_fetch_add_explicit(&r->references, 1, memory_order_relaxed);
	return r;
}

void
routing_put(struct routing *r)
{
	/* Release and acquire: whoever frees has seen what every other holder did with it. */
	if (atomic_fetch_sub_explicit(&r->references, 1, memory_order_acq_rel) != 1)
		return;
	recipients_free(r->recipients);
	users_put(r->users);
	secrets_put(r->secrets);
	tls_setup_put(r->tls);
	config_put(r->config);
	free((struct net_address *)(uintptr_t)r->self.addresses);
	free(r->receivers);
	free(r->ways);
	arena_reset(&r->texts);
	free(r->targets);
	free(r->connections);
	free(r->templates);
	free(r);
}

struct span
address_domain(struct span address)
{
	/* A quoted local part may hold an '@', a domain never does: the last one counts. */
	for (size_t i = address.size; i > 0; i--) {
		if (address.data[i - 1] == '@')
			return span_after(address, i);
	}
	return span_none();
}

struct routing_step
routing_find(const struct routing *r, struct span address)
{
	struct span domain = address_domain(address);

	return routing_find_domain(r, domain.size > 0 ? domain : r->config->hostname);
}

struct routing_step
routing_find_domain(const struct routing *r, struct span domain)
{
	static const enum site_kind kinds[] = {
		[TARGET_SMTP] = SITE_SMTP,
		[TARGET_LMTP] = SITE_LMTP,
		[TARGET_MX] = SITE_SMTP,
		[TARGET_DISCARD] = SITE_DISCARD,
	};
	const struct config_route *route = config_route_find(r->config, domain);
	if (route == NULL)
		return (struct routing_step){ .kind = SITE_NOWHERE, .domain = domain };
	return (struct routing_step){
		.kind = kinds[route->to.kind],
		.by_mx = route->to.kind == TARGET_MX,
		.target = &route->to,
		.way = &r->ways[route - r->config->routes],
		.domain = domain,
	};
}
