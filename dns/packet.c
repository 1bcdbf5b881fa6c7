/* SPDX-License-Identifier: Apache-2.0 */
#include "dns/packet.h"

#include "core/base/assert.h"

enum {
	HEADER_SIZE = 12,
	WIRE_NAME_MAX = 255, /* RFC 1035 2.3.4 */
	POINTER = 0xc0,      /* the two bits that tell a pointer; one of them alone is nothing */
	CLASS_IN = 1,
	TYPE_SOA = 6,
	RCODE_SERVFAIL = 2,
	SOA_NUMBERS_SIZE = 20, /* serial, refresh, retry, expire, minimum */
	NAME_TEXT_SIZE = DNS_NAME_MAX + 1,
};

struct section {
	size_t at;
	unsigned count;
};

struct rr {
	struct span owner; /* in owner_memory */
	unsigned type;
	unsigned class;
	uint32_t ttl_s;
	size_t data_at;
	size_t data_size;
	uint8_t owner_memory[NAME_TEXT_SIZE];
};

static unsigned
get_u16(struct span in, size_t at)
{
	ASSERT(at + 2 <= in.size);
	return (unsigned)in.data[at] << 8 | in.data[at + 1];
}

static uint32_t
get_u32(struct span in, size_t at)
{
	return (uint32_t)get_u16(in, at) << 16 | get_u16(in, at + 2);
}

/* One label. What cannot stand in a name as text is written so that it cannot be one. */
static void
append_label(struct span label, struct buf *out)
{
	if (out->size > 0)
		buf_append_byte(out, '.');
	for (size_t i = 0; i < label.size; i++) {
		uint8_t c = label.data[i];

		if (c > ' ' && c < 0x7f && c != '.' && c != '\\') {
			buf_append_byte(out, ascii_lower(c));
		} else {
			buf_append_byte(out, '\\');
			buf_append_digits(out, c, 3);
		}
	}
}

/* Reads the name at *at, which then stands behind it. A pointer must lead in front of everything
 * that was read of this name so far, so each is followed at most once. */
static bool
read_name(struct span in, size_t *at, struct buf *out)
{
	size_t here = *at;
	size_t low = here; /* where the run of labels in hand begins */
	size_t wire = 0;
	bool jumped = false;

	buf_reset(out);
	for (;;) {
		if (here >= in.size)
			return false;
		size_t length = in.data[here];
		if ((length & POINTER) == POINTER) {
			if (in.size - here < 2)
				return false;
			if (!jumped)
				*at = here + 2;
			jumped = true;
			here = get_u16(in, here) & ~(unsigned)(POINTER << 8);
			if (here >= low)
				return false;
			low = here;
			continue;
		}
		wire += length + 1;
		if ((length & POINTER) != 0 || wire > WIRE_NAME_MAX || in.size - here <= length)
			return false;
		here += length + 1;
		if (length == 0)
			break;
		append_label(span_of(in.data + here - length, length), out);
	}
	if (!jumped)
		*at = here;
	if (out->overflow) { /* by the escapes */
		buf_reset(out);
		buf_append_byte(out, '\\');
	}
	return true;
}

/* Reads the record at *at, which then stands behind it. */
static bool
read_rr(struct span in, size_t *at, struct rr *rr)
{
	struct buf owner = buf_of(rr->owner_memory, sizeof rr->owner_memory);

	if (!read_name(in, at, &owner) || in.size - *at < 10)
		return false;
	rr->owner = buf_span(&owner);
	rr->type = get_u16(in, *at);
	rr->class = get_u16(in, *at + 2);
	rr->ttl_s = get_u32(in, *at + 4);
	if (rr->ttl_s > INT32_MAX)
		rr->ttl_s = 0; /* RFC 2181 8 */
	rr->data_size = get_u16(in, *at + 8);
	rr->data_at = *at + 10;
	if (in.size - rr->data_at < rr->data_size)
		return false;
	*at = rr->data_at + rr->data_size;
	return true;
}

/* A name that must fill the data from `at` to its end. */
static bool
read_data_name(struct span in, const struct rr *rr, size_t at, struct buf *out)
{
	size_t end = rr->data_at + rr->data_size;

	return at < end && read_name(span_first(in, end), &at, out) && at == end;
}

static void
use_ttl(struct packet *p, uint32_t ttl_s)
{
	if (!p->has_ttl || ttl_s < p->ttl_s)
		p->ttl_s = ttl_s;
	p->has_ttl = true;
}

/* Copies a text into the packet's memory; false where there is no room. */
static bool
keep(struct packet *p, struct span text, struct span *out)
{
	const uint8_t *start = p->text.data + p->text.size;

	if (!buf_append(&p->text, text))
		return false;
	*out = span_of(start, text.size);
	return true;
}

static bool
keep_name(struct span in, const struct rr *rr, size_t skip, struct packet *p, struct span *out,
	  bool *room)
{
	uint8_t memory[NAME_TEXT_SIZE];
	struct buf name = buf_of(memory, sizeof memory);

	if (!read_data_name(in, rr, rr->data_at + skip, &name))
		return false;
	*room = keep(p, buf_span(&name), out);
	return true;
}

/* The strings of a TXT, one behind the other (RFC 7208 3.3). */
static bool
keep_strings(struct span data, struct packet *p, struct dns_record *r, bool *room)
{
	const uint8_t *start = p->text.data + p->text.size;
	size_t size = 0;

	*room = true;
	for (size_t at = 0; at < data.size;) {
		size_t length = data.data[at++];
		if (data.size - at < length)
			return false;
		*room &= buf_append(&p->text, span_of(data.data + at, length));
		size += length;
		at += length;
	}
	r->data = span_of(start, size);
	return data.size > 0;
}

/* The data of a record of the wanted type. False: malformed. *room: it could be kept. */
static bool
read_data(struct span in, const struct rr *rr, struct packet *p, struct dns_record *r, bool *room)
{
	struct span data = span_of(in.data + rr->data_at, rr->data_size);

	*r = (struct dns_record){ 0 };
	*room = true;
	switch (rr->type) {
	case DNS_A:
	case DNS_AAAA:
		if (data.size != (rr->type == DNS_A ? 4 : 16))
			return false;
		net_address_of_ip(data.data, data.size, 0, &r->address);
		return true;
	case DNS_MX:
		if (data.size < 3)
			return false;
		r->preference = (uint16_t)get_u16(in, rr->data_at);
		return keep_name(in, rr, 2, p, &r->name, room);
	case DNS_CNAME:
	case DNS_PTR:
		return keep_name(in, rr, 0, p, &r->name, room);
	case DNS_TXT:
		return keep_strings(data, p, r, room);
	default:
		/* TLSA, SOA. One that is too short is a record all the same, which nobody can use.
		 */
		*room = keep(p, data, &r->data);
		return true;
	}
}

/* The CNAME of `name`: 1 found (and `name` changed), 0 none, -1 malformed. */
static int
follow_cname(struct span in, struct section answer, struct packet *p, struct buf *name)
{
	uint8_t memory[NAME_TEXT_SIZE];
	struct buf target = buf_of(memory, sizeof memory);
	struct rr rr;

	for (unsigned i = 0; i < answer.count; i++) {
		if (!read_rr(in, &answer.at, &rr))
			return -1;
		if (rr.type != DNS_CNAME || rr.class != CLASS_IN ||
		    !span_eq(rr.owner, buf_span(name)))
			continue;
		if (!read_data_name(in, &rr, rr.data_at, &target))
			return -1;
		buf_reset(name);
		buf_append(name, buf_span(&target));
		use_ttl(p, rr.ttl_s);
		return 1;
	}
	return 0;
}

static bool
collect(struct span in, struct section answer, struct span name, enum dns_type type,
	struct packet *p)
{
	struct rr rr;

	for (unsigned i = 0; i < answer.count; i++) {
		bool room;
		if (!read_rr(in, &answer.at, &rr))
			return false;
		if (rr.type != type || rr.class != CLASS_IN || !span_eq(rr.owner, name))
			continue;
		if (p->count == DNS_RECORDS_MAX) {
			p->is_cut = true;
			continue;
		}
		size_t mark = p->text.size;
		if (!read_data(in, &rr, p, &p->records[p->count], &room))
			return false;
		use_ttl(p, rr.ttl_s);
		if (room)
			p->count++;
		else
			p->text.size = mark;
		p->is_cut |= !room;
	}
	return true;
}

/* How long nothing may be believed: the SOA's own TTL or its minimum (RFC 2308 5). */
static bool
read_soa(struct span in, struct section authority, struct packet *p)
{
	struct rr rr;

	for (unsigned i = 0; i < authority.count; i++) {
		if (!read_rr(in, &authority.at, &rr))
			return false;
		if (rr.type != TYPE_SOA || rr.class != CLASS_IN)
			continue;
		if (rr.data_size < SOA_NUMBERS_SIZE + 2)
			return false;
		uint32_t minimum = get_u32(in, rr.data_at + rr.data_size - 4);
		use_ttl(p, rr.ttl_s);
		use_ttl(p, minimum > INT32_MAX ? 0 : minimum);
		return true;
	}
	return true;
}

static bool
skip_section(struct span in, struct section *s)
{
	struct rr rr;

	for (unsigned i = 0; i < s->count; i++) {
		if (!read_rr(in, &s->at, &rr))
			return false;
	}
	return true;
}

/* Where the answer and the authority section begin. */
static bool
find_sections(struct span in, struct section *answer, struct section *authority)
{
	uint8_t memory[NAME_TEXT_SIZE];
	struct buf name = buf_of(memory, sizeof memory);
	size_t at = HEADER_SIZE;

	if (in.size < HEADER_SIZE || get_u16(in, 4) != 1 || !read_name(in, &at, &name) ||
	    in.size - at < 4)
		return false;
	*answer = (struct section){ at + 4, get_u16(in, 6) };
	*authority = (struct section){ at + 4, get_u16(in, 8) };
	if (answer->count > PACKET_RECORDS_MAX || authority->count > PACKET_RECORDS_MAX)
		return false;
	struct section behind = *answer;
	if (!skip_section(in, &behind))
		return false;
	authority->at = behind.at;
	return true;
}

unsigned
packet_rcode(struct span in)
{
	return in.size < HEADER_SIZE ? RCODE_SERVFAIL : in.data[3] & 15u;
}

bool
packet_parse(struct span in, struct span name, enum dns_type type, struct packet *out)
{
	uint8_t memory[NAME_TEXT_SIZE];
	struct buf at = buf_of(memory, sizeof memory);
	struct section answer, authority;
	int followed = 1;

	ASSERT(name.size <= DNS_NAME_MAX);
	out->rcode = packet_rcode(in);
	out->has_ttl = false;
	out->ttl_s = 0;
	out->count = 0;
	out->is_cut = false;
	out->text = buf_of(out->memory, sizeof out->memory);
	if (!find_sections(in, &answer, &authority))
		return false;
	buf_append(&at, name);
	if (type != DNS_CNAME)
		for (unsigned i = 0; followed == 1 && i < PACKET_CNAMES_MAX; i++)
			followed = follow_cname(in, answer, out, &at);
	if (followed < 0 || !keep(out, buf_span(&at), &out->name) ||
	    !collect(in, answer, out->name, type, out))
		return false;
	return out->count > 0 || read_soa(in, authority, out);
}
