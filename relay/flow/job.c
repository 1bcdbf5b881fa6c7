/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/flow/job.h"

#include "relay/flow/flow.h"
#include "relay/message/dsn.h"

enum {
	JOB_CHUNK_SIZE = 1024,
	JOB_MEMORY_MAX = 1024 * 1024, /* of replies and the like */
	RECIPIENT_MEMORY = 192,       /* at least what take_arrays() needs for each */
	REPLY_KEPT_MAX = 512,
};

_Static_assert(sizeof(struct queue_result) + sizeof(struct sender_recipient) + sizeof(bool) +
			       sizeof(uint16_t) + sizeof(uint32_t) + 4 * sizeof(uint8_t) <=
		       RECIPIENT_MEMORY,
	       "a job of any number of recipients fits its memory");

static bool
take_arrays(struct job *j, uint32_t n)
{
	j->results = arena_take(&j->memory, n * sizeof *j->results);
	j->resolved = arena_take(&j->memory, n * sizeof *j->resolved);
	j->attempts = arena_take(&j->memory, n * sizeof *j->attempts);
	j->phases = arena_take(&j->memory, n * sizeof *j->phases);
	j->recipients = arena_take(&j->memory, n * sizeof *j->recipients);
	j->chosen = arena_take(&j->memory, n * sizeof *j->chosen);
	j->marks = arena_take(&j->memory, n * sizeof *j->marks);
	j->peers_of = arena_take(&j->memory, n * sizeof *j->peers_of);
	j->reports = arena_take(&j->memory, n * sizeof *j->reports);
	if (j->marks == NULL || j->peers_of == NULL || j->reports == NULL)
		return false;
	return j->results != NULL && j->resolved != NULL && j->attempts != NULL &&
	       j->phases != NULL && j->recipients != NULL && j->chosen != NULL;
}

struct job *
job_new(struct flow *owner, struct queue_item *item, struct destination *d)
{
	struct job *j = pool_get(&owner->jobs);

	if (j == NULL)
		return NULL;
	*j = (struct job){
		.magic = JOB_MAGIC,
		.owner = owner,
		.server = owner,
		.item = item,
		.mail = item->mail,
		.destination = d,
		.sender_key = item->sender_key,
		.attach_most = DSN_PART_WHOLE,
	};
	destination_hold(d);
	const struct mail_envelope *e = item->mail->envelope;
	for (uint32_t i = queue_item_recipient(item, 0); i < e->recipient_count;
	     i = queue_item_recipient(item, i + 1))
		j->result_count++;
	ASSERT(j->result_count > 0);
	arena_init(&j->memory, JOB_CHUNK_SIZE,
		   JOB_MEMORY_MAX + j->result_count * (size_t)RECIPIENT_MEMORY);
	if (!take_arrays(j, j->result_count)) {
		job_free(j);
		return NULL;
	}
	uint32_t at = 0;
	for (uint32_t i = queue_item_recipient(item, 0); i < e->recipient_count;
	     i = queue_item_recipient(item, i + 1)) {
		j->attempts[at] = e->recipients[i].attempts;
		j->results[at++] = (struct queue_result){ .recipient = i };
	}
	return j;
}

void
job_free(struct job *j)
{
	OBJ_FINI(j, JOB_MAGIC);
	ASSERT(!list_is_linked(&j->line.link) && !list_is_linked(&j->body_link));
	ASSERT(!list_is_linked(&j->resolving_link));
	ASSERT(j->body == NULL && j->plan == NULL);
	ASSERT(j->bounce == NULL && !list_is_linked(&j->bounce_link));
	destination_release(j->destination);
	if (j->via != NULL)
		plan_put(j->via);
	timer_stop(&j->owner->worker->timers, &j->again);
	arena_reset(&j->memory);
	pool_put(&j->owner->jobs, j);
}

void
job_note_host(struct job *j, const struct site *s, unsigned host)
{
	const struct plan_host *h = &s->hosts[host].host;

	j->host = host;
	j->peer = h->address;
	if (j->via != NULL)
		plan_put(j->via);
	/* The names of a site's hosts stand in its newest plan. */
	j->via = h->name.size > 0 ? plan_get(s->plan) : NULL;
	j->host_name = h->name;
}

void
job_begin(struct job *j)
{
	const struct mail_envelope *e = j->mail->envelope;
	uint32_t n = 0;

	for (uint32_t i = 0; i < j->result_count; i++) {
		if (j->resolved[i])
			continue;
		const struct mail_recipient *r = &e->recipients[j->results[i].recipient];
		j->recipients[n] = (struct sender_recipient){
			.address = r->address,
			.orcpt = r->orcpt,
			.notify = r->notify,
		};
		j->chosen[n++] = i;
	}
	ASSERT(n > 0);
	j->resolved_before = j->resolved_count;
	j->transaction = (struct sender_transaction){
		.sender = e->sender,
		.envid = e->envid,
		.body_size = e->body_size,
		.eight_bit = (e->flags & MAIL_EIGHT_BIT) != 0,
		.utf8 = (e->flags & MAIL_UTF8) != 0,
		.require_tls = (e->flags & MAIL_TLS_REQUIRED) != 0,
		.ret = e->ret,
		.recipient_count = n,
		.recipients = j->recipients,
	};
}

static void
resolve(struct job *j, uint32_t i, enum recipient_state state, struct span text)
{
	ASSERT(!j->resolved[i]);
	j->resolved[i] = true;
	j->resolved_count++;
	j->results[i].state = (uint8_t)state;
	j->results[i].tried = true;
	j->results[i].reply = text;
}

/* The text in the job's memory; recipients that got the same words share them. */
static struct span
keep_text(struct job *j, struct span text)
{
	text = span_first(text, REPLY_KEPT_MAX);
	for (uint32_t i = 0; i < j->result_count && i < 8; i++) {
		if (j->results[i].reply.size > 0 && span_eq(j->results[i].reply, text))
			return j->results[i].reply;
	}
	return arena_copy(&j->memory, text);
}

/* The name of the peer in hand, as a report has it: its number in peer_names, or 0. Kept in the
 * job's memory once for each. */
static uint8_t
keep_peer(struct job *j)
{
	uint8_t memory[256];
	struct buf name = buf_of(memory, sizeof memory);
	struct ip ip;
	unsigned i = 0;

	if (j->host_name.size > 0) {
		buf_append(&name, j->host_name);
	} else if (ip_of_sockaddr(&j->peer.any, &ip)) {
		buf_append_string(&name, ip_is_v4(&ip) ? "[" : "[IPv6:");
		ip_show(&ip, &name);
		buf_append_byte(&name, ']');
	} else {
		net_address_show(&j->peer, &name);
		if (span_starts_with(buf_span(&name), SPAN("unix:")))
			buf_consume(&name, 5);
	}
	while (i < JOB_PEERS_MAX && j->peer_names[i].size > 0) {
		if (span_eq(j->peer_names[i++], buf_span(&name)))
			return (uint8_t)i;
	}
	if (i == JOB_PEERS_MAX)
		return 0;
	j->peer_names[i] = arena_copy(&j->memory, buf_span(&name));
	return j->peer_names[i].size > 0 ? (uint8_t)(i + 1) : 0;
}

/* Only what a report may need: most mails are delivered, and nobody asked to be told. */
static void
keep_origin(struct job *j, uint32_t i, const struct sender_outcome *o)
{
	const struct mail_recipient *r = &j->mail->envelope->recipients[j->results[i].recipient];

	j->marks[i] = (uint8_t)((o->reply != NULL ? JOB_REMOTE_REPLY : 0) |
				(j->peer_has_dsn ? JOB_TOOK_DSN : 0));
	if (o->class != SENDER_OK || (r->notify & NOTIFY_SUCCESS) != 0)
		j->peers_of[i] = keep_peer(j);
}

void
job_take_outcome(struct job *j, const struct sender_outcome *o)
{
	uint8_t memory[REPLY_KEPT_MAX + 64];
	struct buf text = buf_of(memory, sizeof memory);

	ASSERT(o->index < j->transaction.recipient_count);
	uint32_t i = j->chosen[o->index];
	sender_outcome_show(o, &text);
	struct span kept = keep_text(j, buf_span(&text));
	/* Remembered also for a recipient that goes on to another host: its last reply explains the
	 * deferral when no host is left. */
	j->results[i].reply = kept;
	j->phases[i] = (uint8_t)o->phase;
	keep_origin(j, i, o);
	if (o->next == SENDER_NEXT_HOST)
		j->tried_hosts |= 1U << j->host;
	if (o->next == SENDER_NEXT_HOST && o->class == SENDER_PERMANENT)
		j->unfit_hosts |= 1U << j->host;
	if (o->next == SENDER_NEXT_HOST || o->next == SENDER_NEXT_AGAIN)
		return;
	resolve(j, i,
		o->class == SENDER_OK          ? RECIPIENT_DELIVERED
		: o->class == SENDER_PERMANENT ? RECIPIENT_FAILED
					       : RECIPIENT_PENDING,
		kept);
}

void
job_explain(struct job *j, struct span text)
{
	struct span kept = keep_text(j, text);

	for (uint32_t i = 0; i < j->result_count; i++) {
		if (j->resolved[i])
			continue;
		j->results[i].reply = kept;
		j->marks[i] = 0;
	}
}

bool
job_may_go_on(const struct job *j, unsigned hosts_max)
{
	/* One that no host so far was fit for does not fail before all were asked. */
	return (unsigned)__builtin_popcount(j->tried_hosts) < hosts_max ||
	       j->unfit_hosts == j->tried_hosts;
}

void
job_give_up_hosts(struct job *j)
{
	if (j->tried_hosts == 0 || j->unfit_hosts != j->tried_hosts)
		return;
	j->no_way = true;
	for (uint32_t i = 0; i < j->result_count; i++) {
		if (!j->resolved[i])
			resolve(j, i, RECIPIENT_FAILED, j->results[i].reply);
	}
}

void
job_defer_rest(struct job *j, struct span text)
{
	struct span kept = keep_text(j, text);

	for (uint32_t i = 0; i < j->result_count; i++) {
		if (!j->resolved[i])
			resolve(j, i, RECIPIENT_PENDING,
				j->results[i].reply.size > 0 ? j->results[i].reply : kept);
	}
}

void
job_put_back_rest(struct job *j)
{
	for (uint32_t i = 0; i < j->result_count; i++) {
		if (j->resolved[i])
			continue;
		resolve(j, i, RECIPIENT_PENDING, span_none());
		j->results[i].tried = false;
	}
}

void
job_resolve_all(struct job *j, enum recipient_state state, struct span text)
{
	struct span kept = keep_text(j, text);

	for (uint32_t i = 0; i < j->result_count; i++) {
		if (!j->resolved[i])
			resolve(j, i, state, kept);
	}
}
