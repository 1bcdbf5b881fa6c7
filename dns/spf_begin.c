/* SPDX-License-Identifier: Apache-2.0
 *
 * The beginning of a check, what is given back at its end, and the words for both.
 */
#include "core/base/assert.h"
#include "dns/idn.h"
#include "dns/spf_machine.h"

enum { LABELS_MIN = 2 };

const char *
spf_result_label(enum spf_result r)
{
	static const char *const labels[] = {
		[SPF_NONE] = "none",           [SPF_NEUTRAL] = "neutral",
		[SPF_PASS] = "pass",           [SPF_FAIL] = "fail",
		[SPF_SOFTFAIL] = "softfail",   [SPF_TEMPERROR] = "temperror",
		[SPF_PERMERROR] = "permerror",
	};

	ASSERT((size_t)r < sizeof labels / sizeof labels[0]);
	return labels[r];
}

const char *
spf_identity_label(enum spf_identity i)
{
	return i == SPF_HELO ? "helo" : "mailfrom";
}

const char *
spf_step_label(enum spf_step_kind k)
{
	static const char *const labels[] = {
		[SPF_STEP_BEGIN] = "begin",     [SPF_STEP_ASK] = "ask",
		[SPF_STEP_ANSWER] = "answer",   [SPF_STEP_RECORD] = "record",
		[SPF_STEP_TERM] = "term",       [SPF_STEP_COMPARE] = "compare",
		[SPF_STEP_RESULT] = "result",   [SPF_STEP_ENTER] = "enter",
		[SPF_STEP_LEAVE] = "leave",     [SPF_STEP_EXPLAIN] = "explain",
		[SPF_STEP_PROBLEM] = "problem",
	};

	ASSERT((size_t)k < sizeof labels / sizeof labels[0]);
	return labels[k];
}

void
spf_put_answer(struct dns_answer **a)
{
	if (*a != NULL)
		dns_answer_put(*a);
	*a = NULL;
}

void
spf_put_record(struct spf_frame *f)
{
	if (f->record != NULL)
		spf_record_put(f->record);
	f->record = NULL;
}

void
spf_reset(struct spf *s)
{
	for (unsigned i = 0; i < SPF_FRAMES_MAX; i++)
		spf_put_record(&s->frames[i]);
	spf_put_answer(&s->hosts);
	spf_put_answer(&s->names);
	spf_put_answer(&s->explanation);
}

static bool
is_ascii(struct span text)
{
	for (size_t i = 0; i < text.size; i++) {
		if (text.data[i] >= 0x80)
			return false;
	}
	return true;
}

static struct span
copy(struct span from, uint8_t *memory, size_t size)
{
	from = span_first(from, size);
	if (from.size > 0)
		memcpy(memory, from.data, from.size);
	return span_of(memory, from.size);
}

/* The dots of i: those of IPv4, or between the nibbles, in capitals as all write them. */
static void
take_client(struct spf *s, const struct net_address *client)
{
	struct buf text = buf_of(s->ip_text, sizeof s->ip_text);
	struct buf dots = buf_of(s->ip_dots, sizeof s->ip_dots);
	static const char digits[] = "0123456789ABCDEF";

	s->ip_size = net_address_ip(client, s->ip);
	ASSERT(s->ip_size > 0);
	net_address_show_ip(client, &text);
	for (size_t i = 0; s->ip_size == 16 && i < 32; i++) {
		if (i > 0)
			buf_append_byte(&dots, '.');
		buf_append_byte(
			&dots, (uint8_t)digits[i % 2 == 0 ? s->ip[i / 2] >> 4 : s->ip[i / 2] & 15]);
	}
	s->values.is_v6 = s->ip_size == 16;
	s->values.ip_text = buf_span(&text);
	s->values.ip_dots = s->ip_size == 16 ? buf_span(&dots) : s->values.ip_text;
}

/* A local part in quotes is the same without them (RFC 5321 4.1.2), and that is what a domain means
 * with %{l}. */
static struct span
copy_local(struct span from, uint8_t memory[SPF_LOCAL_MAX])
{
	struct buf out = buf_of(memory, SPF_LOCAL_MAX);

	if (from.size < 3 || from.data[0] != '"' || from.data[from.size - 1] != '"')
		return copy(from, memory, SPF_LOCAL_MAX);
	for (size_t i = 1; i + 1 < from.size; i++) {
		if (from.data[i] == '\\' && i + 2 < from.size)
			i++;
		buf_append_byte(&out, from.data[i]);
	}
	return buf_span(&out);
}

static unsigned
count_labels(struct span name)
{
	unsigned count = name.size > 0;

	for (size_t i = 0; i < name.size; i++)
		count += name.data[i] == '.';
	return count;
}

void
spf_begin(struct spf *s, const struct spf_inputs *in, spf_trace *trace, void *context)
{
	bool is_helo = in->identity == SPF_HELO || in->domain.size == 0;
	struct span domain = is_helo ? in->helo : in->domain;
	struct span local = is_helo || in->local.size == 0 ? SPAN("postmaster") : in->local;

	OBJ_CHECK(s, SPF_MAGIC);
	spf_reset(s);
	*s = (struct spf){ .magic = SPF_MAGIC,
			   .trace = trace,
			   .trace_context = context,
			   .all_secure = true,
			   .outcome = { .identity = is_helo ? SPF_HELO : SPF_MAIL_FROM,
					.expires_at_ms = UINT64_MAX } };
	take_client(s, &in->client);
	s->values.local = copy_local(local, s->local);
	s->local_is_ascii = is_ascii(s->values.local);
	s->values.helo = copy(in->helo, s->helo, sizeof s->helo);
	s->values.receiver = copy(in->receiver, s->receiver, sizeof s->receiver);
	s->values.now_s = in->now_s;
	s->sender.size = idn_to_ascii(domain, s->sender.text);
	s->values.sender = spf_name_span(&s->sender);
	s->outcome.domain = spf_name_span(&s->sender);
	/* 4.3: what is malformed or has a single label has no policy. */
	if (local.size > SPF_LOCAL_MAX) {
		spf_finish_because(s, SPF_NONE, span_none(), "the local part is too long",
				   span_none());
	} else if (count_labels(spf_name_span(&s->sender)) < LABELS_MIN || domain.data[0] == '[') {
		spf_finish_because(s, SPF_NONE, domain, "that is no domain of two labels or more",
				   span_none());
	} else {
		spf_enter_domain(s, spf_name_span(&s->sender), false);
	}
}
