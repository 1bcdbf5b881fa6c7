/* SPDX-License-Identifier: Apache-2.0
 *
 * packet: reads an answer in wire format (RFC 1035 4) as far as mail needs it. Pure.
 *
 * From the name that was asked for it follows the CNAMEs of the answer section, in whatever order
 * they stand, and takes the records of the wanted type at their end: A, AAAA, MX, TXT, TLSA, PTR,
 * CNAME (asked for itself, it is not followed). Without any, the SOA of the authority section says
 * how long that may be believed (RFC 2308 5).
 *
 * The packet comes from the library, but its contents come from anyone, so nothing in it is
 * trusted: every read is bounded, compression pointers only lead backwards, the number of records
 * looked at, of CNAMEs followed and of bytes kept has limits. What exceeds the room is left out,
 * and `is_cut` says so; a packet that breaks the format is refused as a whole.
 *
 * Names are texts as in name.h. One that gets too long by its escapes is a single backslash, which
 * can neither be asked for nor be compared.
 */
#ifndef DNS_PACKET_H
#define DNS_PACKET_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/buf.h"
#include "core/base/span.h"
#include "dns/resolver.h"

enum {
	/* Bytes of names and data that are kept of one answer. A packet has no more of strings, and
	 * DNS_RECORDS_MAX names are no more, so all of them fit. */
	PACKET_TEXT_MAX = 64 * 1024,
	PACKET_RECORDS_MAX = 1024, /* in a section; a packet with more is refused */
	PACKET_CNAMES_MAX = 8,     /* that are followed; behind them the chain counts as empty */
	DNS_RCODE_OK = 0,
	DNS_RCODE_NXDOMAIN = 3,
};

struct packet {
	unsigned rcode;
	bool has_ttl;     /* there was something to take it from */
	uint32_t ttl_s;   /* the least of all that was used */
	struct span name; /* where the CNAMEs led to */
	bool is_cut;      /* there were more records */
	unsigned count;
	struct dns_record records[DNS_RECORDS_MAX];
	struct buf text; /* what the records point into */
	uint8_t memory[PACKET_TEXT_MAX];
};

/* `name` is in the form of name.h. False where the packet is malformed. */
bool packet_parse(struct span in, struct span name, enum dns_type type, struct packet *out);
/* The code of the header; 2 (SERVFAIL) of one that is too short. */
unsigned packet_rcode(struct span in);

#endif
