/* SPDX-License-Identifier: Apache-2.0
 *
 * What no single row can check, and the tables behind the look-ups. Pure.
 */
#include <stdio.h>

#include "core/base/assert.h"
#include "core/config_table.h"

enum { CHECK_PATH_MAX = 80, CHECK_TEXT_MAX = 256 };

/* One value of each item of an array: the domains of routes, say. */
struct column {
	const char *first;
	size_t stride;
	size_t count;
};

static struct span
column_get(const struct column *c, size_t i)
{
	struct span text;

	ASSERT(i < c->count);
	memcpy(&text, c->first + i * c->stride, sizeof text);
	return text;
}

/* Without items there is no address to count from. */
#define COLUMN(items, items_count, member)                                                     \
	((struct column){ (items_count) == 0 ? NULL                                            \
					     : (const char *)(items) +                         \
						       offsetof(__typeof__(*(items)), member), \
			  sizeof *(items), (items_count) })

/* The place of a domain: where it is, or the empty slot where it belongs. */
static size_t
index_place(const struct domain_index *index, const struct column *c, struct span domain)
{
	size_t at = span_hash_nocase(domain, 0) & index->mask;

	/* At most half of the slots are used, so there is an empty one. */
	while (index->slots[at] != 0 &&
	       !span_eq_nocase(column_get(c, index->slots[at] - 1), domain))
		at = (at + 1) & index->mask;
	return at;
}

/* Index of the item with exactly this text; c->count where there is none. */
static size_t
index_get(const struct domain_index *index, const struct column *c, struct span domain)
{
	if (c->count == 0)
		return 0;
	uint32_t slot = index->slots[index_place(index, c, domain)];
	return slot == 0 ? c->count : slot - 1;
}

/* Index of the item that covers the domain: exact, or the longest ".parent". */
static size_t
index_cover(const struct domain_index *index, const struct column *c, struct span domain)
{
	size_t found = index_get(index, c, domain);

	for (size_t dot = span_find(domain, '.', 0); found == c->count && dot < domain.size;
	     dot = span_find(domain, '.', dot + 1)) {
		if (dot > 0) /* what starts with a dot is no domain */
			found = index_get(index, c, span_after(domain, dot));
	}
	return found;
}

/* Builds the index; reports texts that stand twice. False where memory is short. */
static bool
index_build(struct domain_index *index, const struct column *c, struct arena *arena,
	    const char *path, config_report_fn report, void *context)
{
	size_t slots = 4;

	while (slots < c->count * 2)
		slots *= 2;
	index->mask = slots - 1;
	index->slots = arena_take(arena, slots * sizeof *index->slots);
	if (index->slots == NULL)
		return false;
	for (size_t i = 0; i < c->count; i++) {
		size_t at = index_place(index, c, column_get(c, i));
		if (index->slots[at] == 0) {
			index->slots[at] = (uint32_t)i + 1;
			continue;
		}
		char name[CHECK_PATH_MAX], text[CHECK_TEXT_MAX];
		struct span domain = span_first(column_get(c, i), 100);
		snprintf(name, sizeof name, path, i);
		snprintf(text, sizeof text, "'%.*s' stands twice; remove one", SPAN_ARG(domain));
		report(context, name, text);
	}
	return true;
}

/* Who asks for TLS must have something to show. */
static void
check_tls(const struct config *config, config_report_fn report, void *context)
{
	for (size_t i = 0; i < config->listeners_count; i++) {
		enum config_listener_tls tls = config->listeners[i].tls;
		if (config->tls.certificates_count > 0 || tls == LISTENER_TLS_AUTO ||
		    tls == LISTENER_TLS_NONE)
			continue;
		char name[CHECK_PATH_MAX];
		snprintf(name, sizeof name, "listeners[%zu].tls", i);
		report(context, name, "there is no certificate; add one to tls.certificates");
	}
}

/* Nobody may send anything there who cannot log in, and nobody logs in without TLS. */
static void
check_submission(const struct config *config, config_report_fn report, void *context)
{
	bool has_users =
		config_names_file(config->users.file) || config_names_file(config->users.dovecot);

	for (size_t i = 0; i < config->listeners_count; i++) {
		const struct config_listener *l = &config->listeners[i];
		char name[CHECK_PATH_MAX];
		if (l->role != ROLE_SUBMISSION)
			continue;
		snprintf(name, sizeof name, "listeners[%zu].role", i);
		if (!has_users)
			report(context, name,
			       "submission needs users who can log in; name users.file or "
			       "users.dovecot");
		else if (l->tls == LISTENER_TLS_NONE || config->tls.certificates_count == 0)
			report(context, name,
			       "submission needs TLS, behind which users log in; add a certificate "
			       "to tls.certificates, and leave out tls: none");
	}
}

/* What users send is not checked for where it comes from: they have logged in. */
static void
check_spf(const struct config *config, config_report_fn report, void *context)
{
	for (size_t i = 0; i < config->listeners_count; i++) {
		struct config_listener *l = (struct config_listener *)&config->listeners[i];
		char name[CHECK_PATH_MAX];
		snprintf(name, sizeof name, "listeners[%zu].spf", i);
		if (l->role == ROLE_RELAY)
			l->spf.given = true; /* in effect, by its defaults */
		else if (l->spf.given)
			report(context, name,
			       "SPF is for listeners with the role relay; remove it here, or make "
			       "the role relay");
	}
}

static void
check_listeners(const struct config *config, config_report_fn report, void *context)
{
	for (size_t i = 0; i < config->listeners_count; i++) {
		for (size_t j = 0; j < i; j++) {
			if (!net_address_eq(&config->listeners[i].address,
					    &config->listeners[j].address))
				continue;
			char name[CHECK_PATH_MAX];
			snprintf(name, sizeof name, "listeners[%zu].address", i);
			report(context, name, "is bound twice; remove one or choose another port");
			break;
		}
	}
}

/* A domain that anyone may send to must lead somewhere, or its mail is refused only later. */
static void
check_domains(const struct config *config, config_report_fn report, void *context)
{
	for (size_t i = 0; i < config->relay.domains_count; i++) {
		struct span domain = config->relay.domains[i].name;
		/* ".example.org" is covered by itself, by shorter parents and by "*". */
		if (config_route_find(config, domain) != NULL)
			continue;
		char name[CHECK_PATH_MAX], text[CHECK_TEXT_MAX];
		domain = span_first(domain, 100);
		snprintf(name, sizeof name, "relay.domains[%zu].name", i);
		snprintf(text, sizeof text,
			 "'%.*s' has no route; add one to routes, or one for \"*\"",
			 SPAN_ARG(domain));
		report(context, name, text);
	}
}

/* Asking needs somebody of ours to ask. */
static void
refuse_callout(size_t domain, struct span route, config_report_fn report, void *context)
{
	char name[CHECK_PATH_MAX], text[CHECK_TEXT_MAX];

	route = span_first(route, 100);
	snprintf(name, sizeof name, "relay.domains[%zu].recipients", domain);
	snprintf(text, sizeof text,
		 "callout cannot ask where the route of '%.*s' leads; name a server of your own "
		 "there (lmtp://HOST:PORT), or use a file",
		 SPAN_ARG(route));
	report(context, name, text);
}

static void
check_callouts(const struct config *config, config_report_fn report, void *context)
{
	for (size_t i = 0; i < config->relay.domains_count; i++) {
		const struct config_domain *d = &config->relay.domains[i];
		const struct config_route *route = config_route_find(config, d->name);
		if (d->recipients.kind == RECIPIENTS_CALLOUT && route != NULL &&
		    route->to.hosts_count == 0)
			refuse_callout(i, route->domain, report, context);
	}
	/* Below ".example.org" there may be domains with a route of their own. */
	for (size_t i = 0; i < config->routes_count; i++) {
		const struct config_route *route = &config->routes[i];
		const struct config_domain *d = config_domain_find(config, route->domain);
		if (d != NULL && d->recipients.kind == RECIPIENTS_CALLOUT &&
		    route->to.hosts_count == 0 && config_route_find(config, d->name) != route)
			refuse_callout((size_t)(d - config->relay.domains), route->domain, report,
				       context);
	}
}

/* A password goes to somebody in particular, and to nobody else who listens. */
static void
check_auth(const struct config *config, config_report_fn report, void *context)
{
	for (size_t i = 0; i < config->routes_count; i++) {
		const struct config_route *route = &config->routes[i];
		char name[CHECK_PATH_MAX];

		if (route->auth.size == 0)
			continue;
		snprintf(name, sizeof name, "routes[%zu].auth", i);
		if (route->to.hosts_count == 0)
			report(context, name, "needs a next hop of its own; name it in `to`");
		else if (route->tls < ROUTE_TLS_ENCRYPT)
			report(context, name,
			       "would send a password in the clear; add tls: verify (or encrypt)");
		else if (span_eq(config->secrets, SPAN("none")))
			report(context, name,
			       "has no file of passwords; add secrets: /path/to/file");
	}
}

/* A host that speaks TLS from the first byte on understands nothing else. */
static void
check_implicit(const struct config *config, config_report_fn report, void *context)
{
	for (size_t i = 0; i < config->routes_count; i++) {
		const struct config_route *route = &config->routes[i];
		bool implicit = false;
		char name[CHECK_PATH_MAX];

		for (size_t k = 0; k < route->to.hosts_count; k++)
			implicit |= route->to.hosts[k].tls;
		if (!implicit || route->tls != ROUTE_TLS_NONE)
			continue;
		snprintf(name, sizeof name, "routes[%zu].tls", i);
		report(context, name,
		       "is none, but smtps:// is TLS; write smtp:// or another word");
	}
}

/* Fingerprints and the word that asks for them belong together. */
static void
check_fingerprints(const struct config *config, config_report_fn report, void *context)
{
	for (size_t i = 0; i < config->routes_count; i++) {
		const struct config_route *route = &config->routes[i];
		bool wanted = route->tls == ROUTE_TLS_FINGERPRINT;
		char name[CHECK_PATH_MAX];

		if (wanted == (route->fingerprints_count > 0))
			continue;
		snprintf(name, sizeof name, "routes[%zu].%s", i, wanted ? "tls" : "fingerprints");
		report(context, name,
		       wanted ? "has no fingerprint to compare with; add fingerprints: [\"…\"]"
			      : "is not used; add tls: fingerprint, or remove it");
	}
}

/* TLSA records are published for names, and prove something only where answers are validated. */
static void
check_dane(const struct config *config, config_report_fn report, void *context)
{
	for (size_t i = 0; i < config->routes_count; i++) {
		const struct config_route *route = &config->routes[i];
		bool by_name = route->to.kind == TARGET_SMTP || route->to.kind == TARGET_MX;
		char name[CHECK_PATH_MAX];

		if (route->tls != ROUTE_TLS_DANE)
			continue;
		for (size_t n = 0; n < route->to.hosts_count; n++)
			by_name &= route->to.hosts[n].name.size > 0;
		snprintf(name, sizeof name, "routes[%zu].tls", i);
		if (!by_name)
			report(context, name,
			       "is dane, which needs next hops by SMTP and by name; name them in "
			       "to, or demand verify or a fingerprint");
		if (span_eq(config->dns.trust_anchors, SPAN("none")))
			report(context, name,
			       "is dane, which needs validated answers; give dns.trust_anchors a "
			       "file, or demand verify or a fingerprint");
	}
}

static void
check_retry(const struct config *config, config_report_fn report, void *context)
{
	for (size_t i = 0; i < config->retry.schedule_count; i++) {
		if (config->retry.schedule_ms[i] <= config->retry.lifetime_ms)
			continue;
		report(context, "retry.schedule",
		       "has a pause longer than retry.lifetime; shorten it or lengthen the "
		       "lifetime");
		return;
	}
}

bool
config_finish(struct snapshot *s, config_report_fn report, void *context)
{
	struct config *c = &s->config;
	struct column routes = COLUMN(c->routes, c->routes_count, domain);
	struct column domains = COLUMN(c->relay.domains, c->relay.domains_count, name);
	struct column senders = COLUMN(c->senders, c->senders_count, domain);

	if (!index_build(&s->senders, &senders, &s->arena, "senders[%zu].domain", report, context))
		return false;
	if (!index_build(&s->routes, &routes, &s->arena, "routes[%zu].domain", report, context) ||
	    !index_build(&s->domains, &domains, &s->arena, "relay.domains[%zu].name", report,
			 context))
		return false;
	check_listeners(c, report, context);
	check_tls(c, report, context);
	check_submission(c, report, context);
	check_spf(c, report, context);
	check_domains(c, report, context);
	check_callouts(c, report, context);
	check_implicit(c, report, context);
	check_auth(c, report, context);
	check_fingerprints(c, report, context);
	check_dane(c, report, context);
	check_retry(c, report, context);
	config_check_queue(c, report, context);
	return true;
}

const struct config_route *
config_route_find(const struct config *config, struct span domain)
{
	const struct snapshot *s = CONTAINER_OF(config, struct snapshot, config);
	struct column routes = COLUMN(config->routes, config->routes_count, domain);

	OBJ_CHECK(s, SNAPSHOT_MAGIC);
	size_t found = index_cover(&s->routes, &routes, domain);
	if (found == routes.count)
		found = index_get(&s->routes, &routes, SPAN("*"));
	return found == routes.count ? NULL : &config->routes[found];
}

const struct config_domain *
config_domain_find(const struct config *config, struct span domain)
{
	const struct snapshot *s = CONTAINER_OF(config, struct snapshot, config);
	struct column domains = COLUMN(config->relay.domains, config->relay.domains_count, name);

	OBJ_CHECK(s, SNAPSHOT_MAGIC);
	size_t found = index_cover(&s->domains, &domains, domain);
	return found == domains.count ? NULL : &config->relay.domains[found];
}

bool
config_network_contains(const struct network_list *list, const struct sockaddr *client)
{
	struct ip ip;

	return ip_of_sockaddr(client, &ip) && network_list_contains(list, &ip);
}

const struct config_sender *
config_sender_find(const struct config *config, struct span domain)
{
	const struct snapshot *s = CONTAINER_OF(config, struct snapshot, config);
	struct column senders = COLUMN(config->senders, config->senders_count, domain);

	size_t found = index_cover(&s->senders, &senders, domain);
	return found == senders.count ? NULL : &config->senders[found];
}
