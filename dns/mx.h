/* SPDX-License-Identifier: Apache-2.0
 *
 * mx: the hosts that take mail for a domain, or for a name of the configuration.
 *
 * The way of RFC 5321 5.1: MX records by preference, shuffled among equals; without any, the
 * domain's own addresses (implicit MX); a single "." refuses mail (RFC 7505); a host that is
 * ourselves cuts off itself and all that are not preferred to it. Address literals need no DNS.
 * Both address families, IPv6 and IPv4 alternating within a host. Where some hosts cannot be
 * resolved, the others serve; only where none can does their failure count.
 *
 * A lookup that says `dane` also asks for the TLSA records of the hosts (RFC 7672 2.2): only of
 * those to which the way is secure, from the MX records to the addresses, since others' could be
 * forged, and since there are name servers that fail for them. Of a host whose addresses come by
 * CNAME the records may stand where that leads, or at its own name, in this order; where only the
 * CNAME itself is secure, at its own name. They are not judged here: what there is of records, or
 * that they could not be had, is in mx_host.tlsa, and never makes the lookup fail.
 *
 * The selection (mx_select, in mx.c) is pure: answers in, hosts out. mx_lookup.c asks for them.
 * Runs on the resolver's worker; the result is immutable, counted atomically, and may be read by
 * all.
 */
#ifndef DNS_MX_H
#define DNS_MX_H

#include "dns/resolver.h"

enum { MX_HOSTS_MAX = 16, MX_ADDRESSES_MAX = 32, MX_HOST_ADDRESSES_MAX = 8 };

enum mx_outcome {
	MX_FOUND,
	MX_NO_DOMAIN, /* 5.1.2 no such domain */
	MX_NULL,      /* 5.1.10 RFC 7505 */
	MX_NO_HOST,   /* 5.4.4 neither MX nor address, or MX hosts without any address */
	MX_LOOP,      /* 5.4.6 we are the best MX, and no route says where its mail goes */
	MX_FAILED,    /* 4.4.3 */
	MX_BOGUS,     /* 4.4.3 */
	/* 4.7.5 there are hosts, but none to which the way can be protected as it must be. Never of
	 * a lookup: whoever knows the policy says so. */
	MX_UNPROTECTED,
};

struct mx_host {
	struct span name; /* lower case; of a literal: its text */
	uint16_t preference;
	bool addresses_secure; /* its A and AAAA (or the lack of one) were validated: for DANE */
	unsigned first;        /* of its addresses in mx_hosts.addresses */
	unsigned count;
	struct dns_answer *tlsa; /* NULL: not asked for. FAILED also where there was none in time */
	struct span tlsa_base;   /* whose records they are, or would be (RFC 7671 7) */
};

struct mx_hosts {
	atomic_uint references;
	enum mx_outcome outcome;
	bool is_implicit;       /* no MX records: the domain's own addresses */
	bool is_literal;        /* no DNS was asked */
	bool mx_secure;         /* the MX answer (or its validated absence) was SECURE */
	uint64_t expires_at_ms; /* monotonic; of failures, too: a while that they are remembered */
	struct span domain;
	/* The site: all domains with the same hosts at the same ranks have the same, in whatever
	 * order the equals were shuffled. "mx1.example.net=mx2.example.net,backup.example.net" */
	struct span site;
	struct span why; /* not FOUND: for people, which question failed and how */
	unsigned host_count;
	struct mx_host hosts[MX_HOSTS_MAX];
	unsigned address_count;
	struct net_address addresses[MX_ADDRESSES_MAX]; /* with the port, in order of preference */
	uint8_t host_of[MX_ADDRESSES_MAX];              /* index in hosts */
};

struct mx_hosts *mx_hosts_get(struct mx_hosts *h);
void mx_hosts_put(struct mx_hosts *h);

const char *mx_outcome_label(enum mx_outcome o);
const char *mx_outcome_status(enum mx_outcome o); /* "5.1.2"; 2.0.0 of FOUND */
bool mx_outcome_is_temporary(enum mx_outcome o);

/* Who we are, for the loop check: names (hostname and options) and addresses (listeners). */
struct mx_self {
	const struct span *names;
	unsigned name_count;
	const struct net_address *addresses; /* compared without port */
	unsigned address_count;
};

/* Embedded in the caller's object, and zeroed but for on_done and dane; like struct dns_query. */
struct mx_lookup {
	bool dane; /* TLSA records are wanted */
	struct list_node link;
	struct resolver *resolver;
	void *work; /* while it is under way */
	struct mx_hosts *result;
	void (*on_done)(struct mx_lookup *l, struct mx_hosts *h); /* `h` is lent: mx_hosts_get */
};

/* The hosts of a mail domain (A-labels, or an address literal with its brackets). Never uses the
 * hosts file nor search. */
void mx_lookup_domain(struct mx_lookup *l, struct resolver *r, struct span domain,
		      const struct mx_self *self);
/* The addresses of a name of the configuration: numbers, hosts file, search, DNS. `port` goes into
 * the addresses. */
void mx_lookup_host(struct mx_lookup *l, struct resolver *r, struct span name, uint16_t port);
void mx_lookup_cancel(struct mx_lookup *l);

#endif
