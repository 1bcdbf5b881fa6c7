/* SPDX-License-Identifier: Apache-2.0
 *
 * mx_select: from answers to hosts (RFC 5321 5.1). Pure: no question is asked, time and chance are
 * arguments. The bodies are in mx.c; mx_lookup.c asks the questions between the two steps.
 *
 * mx_plan() reads the MX answer into the hosts whose addresses are to be asked for: sorted by
 * preference and name, each once, cut at ourselves and at MX_HOSTS_MAX. Where that decides the
 * outcome already, nothing is to be asked. mx_select() reads the addresses: it cuts at a host that
 * has an address of ours, shuffles equals, and alternates the families within a host.
 *
 * The site is made of the planned hosts that are left, whether they have addresses now or not, so
 * that it does not change when one host's name server is down for a while.
 */
#ifndef DNS_MX_SELECT_H
#define DNS_MX_SELECT_H

#include "dns/mx.h"

enum {
	MX_WHY_MAX = 400,
	/* Enough for all texts of one struct mx_hosts: names, site, domain, reason. */
	MX_TEXT_MAX = (3 * MX_HOSTS_MAX + 2) * (DNS_NAME_MAX + 3) + MX_WHY_MAX,
	TLSA_PREFIX_MAX = 12, /* "_65535._tcp." */
};

struct mx_candidate {
	struct span name;
	uint16_t preference;
	struct dns_answer *v6; /* NULL: there is no answer */
	struct dns_answer *v4;
	struct dns_answer *alias; /* its CNAME, where that was asked for */
	struct dns_answer *tlsa;
	struct span tlsa_base; /* that `tlsa` is of */
};

struct mx_plan {
	enum mx_outcome outcome; /* MX_FOUND: the candidates' addresses are to be asked for */
	bool is_implicit;
	bool mx_secure;
	bool dane; /* TLSA records are wanted, and the way to the hosts' names is secure */
	uint16_t port;
	uint64_t expires_at_ms; /* of what was decided so far */
	struct span domain;
	unsigned count;
	struct mx_candidate hosts[MX_HOSTS_MAX];
	struct buf why;
	char why_memory[MX_WHY_MAX];
};

/* What the plan points to (the domain, the answer) must live as long as it does. `self` may be
 * NULL: then nobody is ourselves. */
void mx_plan(struct mx_plan *p, struct span domain, uint16_t port, const struct dns_answer *mx,
	     const struct mx_self *self);
/* A single host that is no mail domain. */
void mx_plan_host(struct mx_plan *p, struct span name, uint16_t port);
/* What is to be asked for next about a host's TLSA records, by what is known of it so far: false
 * for nothing (yet). */
struct mx_question {
	enum dns_type type; /* TLSA, or CNAME of the host */
	struct span base;   /* TLSA: whose, without the prefix */
};

bool mx_tlsa_next(const struct mx_plan *p, const struct mx_candidate *c, struct mx_question *out);
/* "_25._tcp.mx1.example.org" (RFC 6698 3); may get longer than names may be. */
void mx_tlsa_name(struct span base, uint16_t port, struct buf *out);

/* Fills `out`, whose texts go into `text` (MX_TEXT_MAX), from the plan and its answers. */
void mx_select(struct mx_plan *p, const struct mx_self *self, uint64_t chance, uint64_t now_ms,
	       struct mx_hosts *out, struct buf *text);
/* Addresses that need no DNS, with the text that named them. */
void mx_select_direct(struct span name, const struct net_address *addresses, unsigned count,
		      uint64_t expires_at_ms, struct mx_hosts *out, struct buf *text);
/* No addresses, for this reason. */
void mx_select_none(enum mx_outcome outcome, struct span domain, struct span why,
		    uint64_t expires_at_ms, struct mx_hosts *out, struct buf *text);
/* "[192.0.2.1]", "[IPv6:2001:db8::1]" (RFC 5321 4.1.3). */
bool mx_literal_parse(struct span domain, uint16_t port, struct net_address *out);
bool mx_self_has_address(const struct mx_self *self, const struct net_address *a);

#endif
