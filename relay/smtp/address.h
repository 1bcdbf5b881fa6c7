/* SPDX-License-Identifier: Apache-2.0
 *
 * address: the paths of RFC 5321 4.1.2 and RFC 6531 3.3, as they stand in MAIL and RCPT.
 *
 * PURE. Nothing is copied: the spans of an address point into the text it was parsed from. The
 * local part is kept as written, quotes and escapes included, since only its final host may read
 * it (RFC 5321 2.3.11); it is also the form in which it is relayed.
 *
 * Lengths, in octets of the written form: local part 64, domain 255, label 63, path with its angle
 * brackets 256 (4.5.3.1). A source route is checked and dropped (appendix C), and its length is not
 * counted. UTF-8 is accepted here and reported in `utf8`; whether the client had asked for SMTPUTF8
 * is the caller's question. C1 controls are refused.
 *
 * Wider than the grammar in one thing: '_' may stand in a domain wherever a letter may, because
 * hosts named that way send mail. Narrower in one: of the address literals only IPv4 and IPv6 are
 * known (General-address-literal has no registered tag).
 */
#ifndef RELAY_SMTP_ADDRESS_H
#define RELAY_SMTP_ADDRESS_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/buf.h"
#include "core/base/span.h"

enum {
	ADDRESS_LOCAL_MAX = 64,
	ADDRESS_DOMAIN_MAX = 255,
	ADDRESS_LABEL_MAX = 63,
	ADDRESS_PATH_MAX = 256,
};

enum address_kind {
	ADDRESS_NULL,       /* <>: local and domain are empty */
	ADDRESS_POSTMASTER, /* <postmaster>: the domain is empty and means the receiving host */
	ADDRESS_DOMAIN,     /* local@domain */
	ADDRESS_IPV4,       /* local@[192.0.2.1]: domain has the brackets, ip the first 4 bytes */
	ADDRESS_IPV6,       /* local@[IPv6:2001:db8::1]: likewise, 16 bytes */
};

struct address {
	enum address_kind kind;
	bool utf8;   /* a byte outside ASCII in the local part or the domain */
	bool quoted; /* the local part is a quoted string */
	struct span local;
	struct span domain;
	uint8_t ip[16]; /* network order; only for literals */
};

enum address_error {
	ADDRESS_OK,
	ADDRESS_SYNTAX,      /* not a path, or an empty or domainless one where it may not stand */
	ADDRESS_TOO_LONG,    /* a length above is exceeded */
	ADDRESS_BAD_UTF8,    /* bytes that are not UTF-8 */
	ADDRESS_ODD_LITERAL, /* a General-address-literal */
};

/* What MAIL and RCPT allow beyond a mailbox. */
enum {
	ADDRESS_ALLOW_NULL = 1 << 0,
	ADDRESS_ALLOW_POSTMASTER = 1 << 1,
};

/* Parses the path that begins in.data[0] with '<'. Sets *used to the bytes up to and with its '>';
 * what follows is not looked at. On an error *out and *used are undefined. */
enum address_error address_parse_path(struct span in, unsigned allow, struct address *out,
				      size_t *used);
/* Parses all of `in` as local@domain without brackets: for configuration and tools. */
enum address_error address_parse_mailbox(struct span in, struct address *out);

/* Is all of `s` a domain of the grammar above (not a literal)? */
bool address_is_domain(struct span s);
/* Is all of `s` an IPv4 or IPv6 literal with its brackets? Fills ip (16 bytes) where it is. */
bool address_is_literal(struct span s, enum address_kind *kind, uint8_t *ip);

/* Appends the local part without quotes and escapes: what two spellings of one mailbox have in
 * common. False where out is too small. */
bool address_unquote(const struct address *a, struct buf *out);
/* Is it a postmaster, with or without a domain? ASCII case is ignored (RFC 5321 4.5.1). */
bool address_is_postmaster(const struct address *a);
/* Appends the path as it goes on the wire, in angle brackets. False where out is too small. */
bool address_show(const struct address *a, struct buf *out);

#endif
