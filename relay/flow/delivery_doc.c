/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/flow/delivery_doc.h"

#include "dns/mx.h"
#include "relay/smtp/sender.h"

enum { STAY, QUIT, DROP, FALL_BACK };

static const struct {
	enum sender_phase phase;
	unsigned from, to;
	enum sender_class class;
	enum sender_next next;
	int then;
} replies[] = {
#define SENDER_REPLY(phase, from, to, class, next, then) \
	{ SENDER_PHASE_##phase, from, to, SENDER_##class, SENDER_NEXT_##next, then },
#include "core/tables/sender_replies.def"
#undef SENDER_REPLY
};

static const struct {
	enum sender_class class;
	enum sender_next next;
	unsigned code;
	const char *status;
	const char *text;
} causes[] = {
#define SENDER_CAUSE(name, label, class, next, code, status, text) \
	{ SENDER_##class, SENDER_NEXT_##next, code, status, text },
#include "core/tables/sender_causes.def"
#undef SENDER_CAUSE
};

static const char intro[] =
	"# What becomes of a recipient\n"
	"\n"
	"Printed by `ringpostd --doc delivery` from the tables that decide.\n"
	"\n"
	"Each recipient ends in one of these ways, each with an event: delivered, discarded by a "
	"route, failed (with a report to the sender, unless RFC 3461 or RFC 5321 forbids one), or "
	"removed by an operator. Until then it is in the queue.\n"
	"\n"
	"- **next host**: it is about this host and not about the mail. Another host of the same "
	"attempt is tried at once: of the same preference, then of the next, up to "
	"`delivery.hosts_max`. Where none is left, it is tried again later.\n"
	"- **again**: at once, in another transaction or over another connection to the same "
	"host. At RCPT that is where others of the transaction were accepted; where none was, it "
	"is about the recipient: next host.\n"
	"- **later**: by `retry.schedule`, each pause made longer or shorter by `retry.jitter`, "
	"counted for each recipient; a pause ends early where the sender is to be told of the "
	"delay, and where `retry.lifetime` is over. At the attempt then it fails with the last "
	"reply. A host that is known to be down counts as an attempt then, too. What an operator "
	"holds does not expire.\n"
	"- **fails**: for good.\n"
	"\n"
	"A host that cannot be reached, refuses the session or breaks off is left alone for a "
	"sixteenth of `retry.host_pause`, doubled with each failure in a row up to the whole; the "
	"first connection after that is the only one until it works. Each worker finds out for "
	"itself: one may still leave a host alone, for the rest of its own pause, that another has "
	"found to be back. While all hosts of a site are left alone its mail waits in the queue, "
	"and no attempt is counted, but for one when the sender is to be told of the delay.\n";

static const char hosts_intro[] =
	"\n## Finding the hosts\n"
	"\n"
	"MX records by preference, shuffled among equals; without any, the domain's own addresses. "
	"Answers, and failures, hold as long as the DNS says. IPv6 and IPv4 take turns within a "
	"host.\n"
	"\n"
	"Where DNSSEC secures the way from the domain to a host's address, the host's TLSA records "
	"are "
	"asked for (RFC 7672), unless the route's `tls` is something else than `auto` or `dane`:\n"
	"\n"
	"| the way | the answer about TLSA | the host |\n"
	"| --- | --- | --- |\n"
	"| not secure | not asked for | TLS where it is offered, or what MTA-STS demands |\n"
	"| secure | records that can be used | TLS, and one of them must match the certificate; "
	"MTA-STS "
	"does not count |\n"
	"| secure | records, none that can be used | TLS, whatever the certificate, or what "
	"MTA-STS "
	"demands |\n"
	"| secure | there are none, validated | TLS where it is offered, or what MTA-STS demands "
	"|\n"
	"| secure | SERVFAIL, no answer, or bogus | is not used now; without any other: "
	"unprotected "
	"|\n"
	"\n"
	"With `tls: dane` only hosts with records that can be used are used.\n"
	"\n"
	"| result | status | the recipient |\n"
	"| --- | --- | --- |\n";

static const char connect_text[] =
	"\n## Connecting\n"
	"\n"
	"Refused, unreachable, lost, or silent longer than `timeouts.send.connect`: next host.\n";

static const char replies_intro[] =
	"\n## Replies of the next hop\n"
	"\n"
	"| phase | silent for | code | the recipient | the connection |\n"
	"| --- | --- | --- | --- | --- |\n";

static const char causes_intro[] =
	"\nThe silence is by RFC 5321 4.5.3.2 unless `timeouts.send` says otherwise; after it the "
	"connection is given up: next host. When the end of the data was sent and no reply came, "
	"the "
	"mail may have been delivered: it is tried again later, and counted in "
	"`ringpost_duplicates_possible_total`.\n"
	"\n## Without a reply\n"
	"\n"
	"| what happened | code | the recipient |\n"
	"| --- | --- | --- |\n";

static const char reports_text[] =
	"\n## Reports to the sender\n"
	"\n"
	"By NOTIFY of RCPT (RFC 3461); at most one mail for the outcomes of one attempt, kept in "
	"the "
	"same change as they are.\n"
	"\n"
	"| what happened | without NOTIFY | told with | `Action` |\n"
	"| --- | --- | --- | --- |\n"
	"| failed | told | FAILURE | failed |\n"
	"| not delivered `bounces.delay` after acceptance, and tried again later | told once | "
	"DELAY | delayed |\n"
	"| delivered by LMTP to a server without DSN | not told | SUCCESS | delivered |\n"
	"| delivered by SMTP to a server without DSN | not told | SUCCESS | relayed |\n"
	"| delivered to a server with DSN, which reports it | not told | | |\n"
	"| discarded by a route, removed by an operator | not told | | |\n"
	"\n"
	"`Status` is that of the reply; 4.4.7 where the time was over. A mail with the null sender "
	"is "
	"never reported on: its failure has the event `notice_suppressed`, as one that NOTIFY "
	"keeps "
	"silent.\n";

static const char *
fate(enum sender_class class, enum sender_next next)
{
	switch (next) {
	case SENDER_NEXT_HOST:
		return "next host";
	case SENDER_NEXT_AGAIN:
		return "again";
	case SENDER_NEXT_LATER:
		return "later";
	case SENDER_NEXT_NOTHING:
		break;
	}
	return class == SENDER_PERMANENT ? "fails" : "goes on";
}

static const char *
connection(int then)
{
	return then == STAY   ? "is kept"
	       : then == QUIT ? "QUIT"
	       : then == DROP ? "is dropped"
			      : "HELO";
}

static void
append_codes(struct buf *out, unsigned from, unsigned to)
{
	if (from == to)
		buf_printf(out, "%u", from);
	else if (from == 0)
		buf_append_string(out, "any other");
	else if (to - from == 99)
		buf_printf(out, "%uyz", from / 100);
	else
		buf_printf(out, "%uyz to %uyz", from / 100, to / 100);
}

static void
append_replies(struct buf *out)
{
	for (size_t i = 0; i < sizeof replies / sizeof replies[0]; i++) {
		bool delivers =
			replies[i].phase == SENDER_PHASE_END && replies[i].class == SENDER_OK;
		buf_printf(out, "| %s | %us | ", sender_phase_label(replies[i].phase),
			   sender_phase_timeout_s(replies[i].phase));
		append_codes(out, replies[i].from, replies[i].to);
		buf_printf(out, " | %s | %s |\n",
			   delivers ? "is delivered" : fate(replies[i].class, replies[i].next),
			   connection(replies[i].then));
	}
}

bool
delivery_doc(struct buf *out)
{
	buf_append_string(out, intro);
	buf_append_string(out, hosts_intro);
	for (enum mx_outcome o = MX_NO_DOMAIN; o <= MX_UNPROTECTED; o++)
		buf_printf(out, "| %s | %s | %s |\n", mx_outcome_label(o), mx_outcome_status(o),
			   mx_outcome_is_temporary(o) ? "later" : "fails");
	buf_append_string(out, connect_text);
	buf_append_string(out, replies_intro);
	append_replies(out);
	buf_append_string(out, causes_intro);
	/* The first row stands for what a reply says. */
	for (size_t i = 1; i < sizeof causes / sizeof causes[0]; i++)
		buf_printf(out, "| %s | %u %s | %s |\n", causes[i].text, causes[i].code,
			   causes[i].status, fate(causes[i].class, causes[i].next));
	buf_append_string(out, reports_text);
	return !out->overflow;
}
