/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/flow/dispatch.h"

#include "queue/schedule.h"
#include "queue/shares.h"
#include "relay/flow/bounce.h"
#include "relay/flow/channel.h"
#include "relay/flow/destination.h"
#include "relay/flow/events.h"
#include "relay/flow/flow.h"
#include "relay/flow/outcome.h"

enum {
	WAITING_MAX = 2048,     /* jobs of a site in line; what is above waits in the queue */
	WAITING_LOW = 256,      /* claim more when fewer are left */
	COST_UNIT = 100,        /* of a turn; the greatest weight */
	COST_BYTES = 16 * 1024, /* a body of this size costs a sender a second turn */
	CLAIMS_MAX = 8,         /* of a site's destinations at a time */
	AGAIN_MS = 20,          /* a mailbox was full */
	UNPROVEN_MAX = 2,       /* jobs in line at a site that has not answered yet */
	PATIENCE_MS = 1000,     /* with a connection that others want */
	WAY_MOST = 64,          /* connections that give way at a time */
	RATE_SLACK_US = 16 * 1000,
	MINUTE_US = 60 * 1000 * 1000,
	RECORD_AGAIN_MS = 1000, /* the store has no room for outcomes, or not for a start */
	ROUNDS_MAX = 64,        /* of a job without progress, against peers that refuse in turns */
};

static struct worker *
worker_of(const struct site *s)
{
	return s->flow->worker;
}

static bool
is_down(const struct site *s)
{
	return s->down_until_ms > worker_of(s)->now_ms;
}

/* How long the site stays down, 0: it is up. */
static uint64_t
down_ms(const struct site *s)
{
	return is_down(s) ? s->down_until_ms - worker_of(s)->now_ms : 0;
}

/* Jobs of the site that no connection of ours has: in line here, or with the home. */
static unsigned
in_line(const struct site *s)
{
	return s->waiting.count + s->away;
}

/* Looks at the site again after this time, or earlier if that was wanted. */
static void
pump_within(struct site *s, uint64_t ms)
{
	uint64_t at_ms = worker_of(s)->now_ms + ms;

	if (!timer_is_set(&s->again) || s->again.deadline_ms > at_ms)
		timer_set(&worker_of(s)->timers, &s->again, at_ms);
}

/* ---- back to the queue, untried ---- */

static void
release_item(struct flow *f, struct queue_item *item, uint64_t due_at_ms)
{
	/* With its last item the mail's body leaves the memory too: its bytes are durable, and
	 * memory is for those that have a connection. */
	queue_release(f->worker->queue, item, due_at_ms);
}

void
dispatch_end(struct job *j)
{
	struct flow *f = j->owner;
	size_t most = f->routing->config->queue.active_max;

	suspects_end(f, j);
	job_free(j);
	f->job_count--;
	if (f->jobs_were_full && f->job_count < most - most / 8) {
		f->jobs_were_full = false;
		flow_wake_sites(f);
	}
	dispatch_suspect(f);
	flow_check_drained(f);
}

void
dispatch_release(struct job *j)
{
	struct flow *owner = j->owner;
	struct queue_item *item = j->item;
	uint64_t due_at_ms = j->due_at_ms;

	dispatch_end(j);
	release_item(owner, item, due_at_ms);
}

/* A job is back with its owner. */
static void
settle(struct job *j)
{
	ASSERT(j->server == j->owner);
	bodies_put(j);
	if (j->unserved) {
		ASSERT(j->resolved_count == 0);
		dispatch_release(j);
	} else {
		outcome_record(j);
	}
}

static void
on_returned(struct message *m, void *context)
{
	struct job *j = CONTAINER_OF(m, struct job, message);

	(void)context;
	OBJ_CHECK(j, JOB_MAGIC);
	struct site *s = j->sent_by;
	OBJ_CHECK(s, SITE_MAGIC);
	ASSERT(s->away > 0);
	s->away--;
	j->server = j->owner;
	j->sent_by = NULL;
	plan_put(j->plan);
	j->plan = NULL;
	site_pump_soon(s);
	settle(j);
}

static void
return_job(struct job *j)
{
	struct flow *server = j->server;

	if (server == j->owner) {
		settle(j);
		return;
	}
	/* Its place in the owner's mailbox was reserved by the owner before it was handed over. */
	j->message.on_message = on_returned;
	worker_post(server->worker, j->owner->worker, &j->message);
}

static void
return_unserved(struct job *j, uint64_t pause_ms)
{
	if (j->tried_hosts != 0) {
		job_defer_rest(j, SPAN("451 4.4.1 no host of the destination can be reached"));
		return_job(j);
		return;
	}
	j->unserved = true;
	j->due_at_ms = j->server->worker->now_wall_ms + pause_ms;
	return_job(j);
}

/* Is its time over, or is its sender still to be told that it is late? */
static bool
is_overdue(const struct site *s, const struct job *j)
{
	struct schedule schedule = outcome_schedule(s->flow);

	return schedule_is_over(&schedule, j->mail->envelope->accepted_at_ms,
				worker_of(s)->now_wall_ms) ||
	       bounce_is_overdue(s->flow, j);
}

/* The site is down, and the job was not tried. Its mail fails when its time is over, as if it had
 * been, and its sender is told of the delay: waiting for a dead host must end, and be known. */
static void
return_down(struct site *s, struct job *j)
{
	if (is_overdue(s, j)) {
		job_defer_rest(j, SPAN("451 4.4.1 no host of the destination can be reached"));
		return_job(j);
		return;
	}
	return_unserved(j, down_ms(s));
}

void
dispatch_put_back(struct job *j, uint64_t pause_ms)
{
	return_unserved(j, pause_ms);
}

/* ---- the line ---- */

void
dispatch_wait(struct site *s, struct job *j)
{
	const struct mail_envelope *e = j->mail->envelope;
	uint64_t turns = 1 + e->body_size / COST_BYTES;

	/* While a mail that may have killed its worker is tried, others wait; where it is late and
	 * its hosts have failed lately, not for minutes of silence once more. */
	if (j->suspect && site_is_doubtful(s) && is_overdue(s, j)) {
		return_down(s, j);
		return;
	}
	line_add(&s->waiting, &j->line, j->sender_key,
		 turns * COST_UNIT / flow_weight(s->flow, e->sender));
	bodies_wait(s, j, false);
	site_pump_soon(s);
}

static void
wait_in_front(struct site *s, struct job *j)
{
	line_add_first(&s->waiting, &j->line);
	bodies_wait(s, j, true);
}

void
dispatch_served(struct site *s, struct job *j)
{
	unsigned hosts_max = j->server->routing->config->delivery.hosts_max;

	bool hosts_left = site_hosts_left(s, j->tried_hosts) > 0 && job_may_go_on(j, hosts_max);
	if (!hosts_left)
		job_give_up_hosts(j);
	if (!job_is_resolved(j) && (!hosts_left || j->unreadable || j->rounds >= ROUNDS_MAX))
		job_defer_rest(j, SPAN("451 4.4.1 no host of the destination took the mail"));
	if (!job_is_resolved(j) && (s->flow->draining || j->starved)) {
		if (j->resolved_count == 0) {
			return_unserved(j, j->starved ? RECORD_AGAIN_MS : 0);
			return;
		}
		job_put_back_rest(j);
	}
	if (job_is_resolved(j)) {
		return_job(j);
		return;
	}
	if (j->owner == s->flow)
		bodies_put(j);
	wait_in_front(s, j);
	site_pump_soon(s);
}

static struct job *
first_waiting(struct site *s)
{
	struct line_node *n = line_first(&s->waiting);

	return n == NULL ? NULL : CONTAINER_OF(n, struct job, line);
}

static struct job *
take_waiting(struct site *s)
{
	struct job *j = first_waiting(s);

	ASSERT(j != NULL);
	line_take(&s->waiting, &j->line);
	bodies_wait_ended(s, j);
	return j;
}

static void
on_handed_over(struct message *m, void *context)
{
	struct job *j = CONTAINER_OF(m, struct job, message);
	struct site *s;

	(void)context;
	OBJ_CHECK(j, JOB_MAGIC);
	s = site_of_plan(j->server, j->plan);
	/* While a suspect runs alone here, nothing else does. */
	if (s == NULL || s->flow->draining || s->flow->suspects.alone != NULL) {
		return_unserved(j, RECORD_AGAIN_MS);
		return;
	}
	dispatch_wait(s, j);
}

/* Gives waiting jobs to the home. False: a mailbox is full. */
static bool
hand_over(struct site *s)
{
	struct worker *mine = worker_of(s);
	struct worker *home = mine->peers[s->home];

	while (s->waiting.count > 0) {
		if (!mailbox_reserve_long(&mine->mailbox, 1))
			return false;
		if (!mailbox_reserve(&home->mailbox, 1)) {
			mailbox_unreserve(&mine->mailbox, 1);
			return false;
		}
		struct job *j = take_waiting(s);
		bodies_hand_over(j);
		s->away++;
		j->sent_by = s;
		j->plan = plan_get(s->plan);
		/* Hosts have other places there. */
		j->tried_hosts = 0;
		j->unfit_hosts = 0;
		j->server = home->flow;
		j->message.on_message = on_handed_over;
		worker_post(mine, home, &j->message);
	}
	return true;
}

/* ---- connections ---- */

/* More may be published of the host by now than when it was connected. */
static bool
is_protected(const struct channel *c)
{
	const struct site_host *h = &c->site->hosts[c->host];
	const struct tls_policy *policy = &c->site->plan->policy;
	enum tls_source source;

	if (c->plan == c->site->plan)
		return true;
	if (!h->planned)
		return !policy->dane || c->protection.level >= TLS_DANE;
	return plan_host_level(policy, &h->host, &source) <= c->protection.level;
}

/* Is this the channel of a host that the job may be given to? */
static bool
suits(const struct channel *c, const struct job *j)
{
	return channel_can_take(c) && is_protected(c) && (j->tried_hosts & 1U << c->host) == 0;
}

static struct channel *
idle_channel(struct site *s, const struct job *j)
{
	for (struct list_node *n = list_first(&s->idle); n != NULL; n = list_next(&s->idle, n)) {
		struct channel *c = LIST_ITEM(n, struct channel, link);
		if (suits(c, j))
			return c;
	}
	return NULL;
}

/* One ahead on a busy connection, where all connections that may be are in use. */
static struct channel *
channel_for_one_ahead(struct site *s, const struct job *j)
{
	for (struct list_node *n = list_first(&s->busy); n != NULL; n = list_next(&s->busy, n)) {
		struct channel *c = LIST_ITEM(n, struct channel, link);
		if (c->job_count == 1 && suits(c, j)) {
			/* To the end of the line, so that all get one before any gets two. */
			list_unlink(&c->link);
			list_append(&s->busy, &c->link);
			return c;
		}
	}
	return NULL;
}

/* This worker's share of all connections. Those that have failed lately may not have the last
 * quarter: thousands of dead hosts hold up nobody who lives. */
static size_t
connections_for(const struct flow *f, bool doubtful)
{
	size_t most = f->routing->config->delivery.connections / f->worker->count;

	if (most == 0)
		most = 1;
	return doubtful ? most - most / 4 : most;
}

void
dispatch_connection_free(struct flow *f)
{
	for (unsigned doubtful = 0; doubtful < 2; doubtful++) {
		struct list_node *n = list_first(&f->wanting[doubtful]);
		if (n == NULL || f->channel_count >= connections_for(f, doubtful == 1))
			continue;
		list_unlink(n);
		site_pump_soon(LIST_ITEM(n, struct site, wanting_link));
		return;
	}
}

/* Nobody knows of a host that does not answer whether it is far or dead. When connections are
 * wanted and none is left, the ones that have not been made within a second give way: they count
 * as failed, and are tried again by the schedule. */
static void
make_way(struct flow *f)
{
	struct list_node *n;
	unsigned left = WAY_MOST;

	while (left-- > 0 && !list_is_empty(&f->wanting[0]) &&
	       (n = list_first(&f->connecting)) != NULL) {
		struct channel *c = LIST_ITEM(n, struct channel, connecting_link);
		uint64_t until_ms = c->began_ms + PATIENCE_MS;
		if (until_ms > f->worker->now_ms) {
			timer_set(&f->worker->timers, &f->patience, until_ms);
			return;
		}
		channel_give_way(c);
	}
}

void
dispatch_on_patience(struct timer *t)
{
	make_way(CONTAINER_OF(t, struct flow, patience));
}

/* Is there a connection left for this site? If not, it is pumped when there is. */
static bool
may_open(struct site *s)
{
	struct flow *f = s->flow;
	bool doubtful = site_is_doubtful(s);

	if (f->channel_count < connections_for(f, doubtful))
		return true;
	if (list_is_linked(&s->wanting_link))
		return false;
	FLOW_LIMIT_HIT(f, DELIVERY_CONNECTIONS);
	list_append(&f->wanting[doubtful], &s->wanting_link);
	if (!doubtful && !timer_is_set(&f->patience))
		timer_set(&f->worker->timers, &f->patience, f->worker->now_ms);
	return false;
}

/* Opens a connection for the first waiting job; false where that is not possible now. */
static bool
open_channel(struct site *s)
{
	struct job *j = first_waiting(s);

	/* What was closed for a recall is given back, not opened again. */
	if (s->channels >= slots_usable(&s->slots) || !may_open(s))
		return false;
	j->host = site_next_host(s, j->tried_hosts, j->tried_hosts != 0);
	if (j->host >= s->host_count) {
		/* All hosts failed a short while ago: this one waits for its turn in the queue. */
		take_waiting(s);
		return_down(s, j);
		return true;
	}
	take_waiting(s);
	if (!channel_open(s, j)) {
		wait_in_front(s, j);
		pump_within(s, AGAIN_MS);
		return false;
	}
	return true;
}

/* Until a site is known to work, for the first time or after a failure, one connection probes. */
static bool
is_probing(const struct site *s)
{
	return !s->proven && s->channels > 0;
}

/* Who counts the mails of a site by the minute, for all nodes; NULL: we alone do. */
static struct shares *
pace_of(struct site *s)
{
	return site_shaping(s)->shared ? queue_shares(worker_of(s)->queue) : NULL;
}

static bool
is_time_for_all(struct site *s, struct shares *shares)
{
	uint64_t wait_ms = shares_pace(shares, SPAN("site"), s->name, site_shaping(s)->rate,
				       s->waiting.count, &s->pump);

	if (wait_ms > 0 && wait_ms != UINT64_MAX)
		pump_within(s, wait_ms);
	return wait_ms == 0;
}

/* With a rate: is it time for another mail? If not, the site looks again when it is. */
static bool
is_time(struct site *s)
{
	struct shares *shares = site_shaping(s)->rate == 0 ? NULL : pace_of(s);
	uint64_t now_us = worker_of(s)->now_ms * 1000;

	if (shares != NULL)
		return is_time_for_all(s, shares);
	if (site_shaping(s)->rate == 0 || s->next_mail_us <= now_us)
		return true;
	pump_within(s, (s->next_mail_us - now_us) / 1000 + 1);
	return false;
}

static void
count_mail(struct site *s)
{
	uint64_t now_us = worker_of(s)->now_ms * 1000;
	uint32_t rate = site_shaping(s)->rate;

	if (rate == 0)
		return;
	if (pace_of(s) != NULL) {
		shares_paced(pace_of(s), SPAN("site"), s->name);
		return;
	}
	/* What was not used within a tick is lost: a rate has no bursts. */
	if (s->next_mail_us + RATE_SLACK_US < now_us)
		s->next_mail_us = now_us;
	s->next_mail_us += MINUTE_US / rate;
}

/* All connections that may be are open, and none leads to a host that the first job may go to: an
 * idle one makes room for one that does. */
static void
make_room(struct site *s)
{
	struct list_node *n = list_first(&s->idle);

	if (n != NULL && s->closing == 0 && s->channels >= s->slots.held)
		channel_quit(LIST_ITEM(n, struct channel, link), CLOSE_IDLE);
}

/* The home wants slots back: what ends now is not used again. */
static bool
is_above_share(const struct site *s)
{
	return s->slots.recall != NULL && s->channels - s->closing > s->slots.recall->number;
}

static void
serve_waiting(struct site *s)
{
	struct job *j;

	while ((j = first_waiting(s)) != NULL && is_time(s)) {
		struct channel *c = idle_channel(s, j);
		if (c == NULL && !is_probing(s) && open_channel(s)) {
			count_mail(s);
			continue;
		}
		if (c == NULL && !is_above_share(s))
			c = channel_for_one_ahead(s, j);
		if (c == NULL) {
			make_room(s);
			return;
		}
		take_waiting(s);
		count_mail(s);
		channel_take(c, j);
	}
}

static void
release_waiting(struct site *s)
{
	while (s->waiting.count > 0) {
		if (s->flow->draining || s->suspended)
			return_unserved(take_waiting(s), 0);
		else
			return_down(s, take_waiting(s));
	}
}

static void
close_idle_above(struct site *s, unsigned most)
{
	struct list_node *n = list_first(&s->idle);

	/* Those that close already are still counted in `channels`. */
	while (n != NULL && s->channels > most + s->closing) {
		struct list_node *next = list_next(&s->idle, n);
		struct channel *c = LIST_ITEM(n, struct channel, link);
		channel_quit(c, s->flow->draining ? CLOSE_SHUTDOWN : CLOSE_IDLE);
		n = next;
	}
}

/* ---- claiming ---- */

/* How many jobs may be in line at a site. One that has not answered yet gets few, and where half of
 * all jobs are taken, only as many as it has connections to open: ten thousand dead hosts do not
 * take the jobs of those who live. Of the others half of the jobs are for those whose lines are
 * short, so that a few that stand still cannot have them all. */
static unsigned
line_most(const struct site *s, unsigned most)
{
	const struct flow *f = s->flow;
	bool scarce = f->job_count >= f->routing->config->queue.active_max / 2;
	unsigned usable = slots_usable(&s->slots);

	/* What the home alone delivers to, it alone knows. */
	if (s->proven || (s->home_only && s->home != f->worker->number))
		return scarce && most > WAITING_LOW ? WAITING_LOW : most;
	if (!scarce)
		return UNPROVEN_MAX;
	return usable > s->channels ? usable - s->channels : 0;
}

bool
dispatch_site_has_room(const struct site *s)
{
	return in_line(s) < line_most(s, WAITING_MAX);
}

uint32_t
dispatch_claim_most(const struct site *s, const struct flow *f)
{
	return s != NULL && !s->proven ? UNPROVEN_MAX : f->routing->config->queue.claim_batch;
}

bool
dispatch_may_claim(struct flow *f)
{
	/* Nothing begins beside a job that must be alone; its end wakes all sites. */
	if (f->suspects.alone != NULL)
		return false;
	if (f->job_count < f->routing->config->queue.active_max && !flow_must_pause(f))
		return true;
	f->jobs_were_full |= f->job_count >= f->routing->config->queue.active_max;
	return false;
}

/* May the site's destinations claim now? If not, it looks again when what hinders it is over: its
 * own jobs pump it as they end, the end of a lack of jobs wakes all sites, and for the rest there
 * is a timer. */
static bool
may_claim(struct site *s)
{
	struct flow *f = s->flow;
	struct queue *q = f->worker->queue;

	if (s->claiming >= CLAIMS_MAX || f->draining || s->suspended || f->suspects.alone != NULL ||
	    in_line(s) >= line_most(s, WAITING_LOW))
		return false;
	if (f->job_count >= f->routing->config->queue.active_max) {
		f->jobs_were_full = true;
		return false;
	}
	if (is_down(s)) {
		pump_within(s, down_ms(s));
		return false;
	}
	/* Bodies of mails that would only wait are not worth the little memory that is left. */
	bool tight = in_line(s) > 0 && queue_memory_is_tight(q);
	if (tight || !queue_may_deliver(q) || flow_must_pause(f)) {
		pump_within(s, RECORD_AGAIN_MS);
		return false;
	}
	return true;
}

/* The destinations in turns: who has more due gets in line again behind the others. */
static void
claim_more(struct site *s)
{
	struct list_node *n = list_first(&s->hungry);

	while (n != NULL && may_claim(s)) {
		struct destination *d = LIST_ITEM(n, struct destination, hungry_link);
		n = list_next(&s->hungry, n);
		if (d->claim_after_ms > worker_of(s)->now_ms)
			pump_within(s, d->claim_after_ms - worker_of(s)->now_ms);
		else
			destination_claim(d);
	}
}

/* Only the home delivers. A suspect that ran here alone may have left us a connection of its own,
 * or the limit was lowered: that slot goes back, too. */
static bool
serve_by_home(struct site *s)
{
	bool handed = hand_over(s);

	close_idle_above(s, 0);
	return slots_settle(s, s->channels) && handed;
}

static bool
serve_here(struct site *s)
{
	unsigned limit = site_shaping(s)->connections;

	if (s->slots.recall != NULL)
		close_idle_above(s, s->slots.recall->number);
	serve_waiting(s);
	unsigned wanted = s->channels + s->waiting.count;
	/* What is due claims only with a connection to open in hand, and keeps it until what was
	 * claimed has come. */
	bool starts = !s->flow->draining && !s->suspended && s->flow->suspects.alone == NULL;
	bool claims = s->claiming > 0 || !list_is_empty(&s->hungry);
	if (starts && !s->proven && wanted == 0 && claims)
		wanted = 1;
	return slots_settle(s, wanted < limit ? wanted : limit);
}

void
dispatch_pump(struct site *s)
{
	OBJ_CHECK(s, SITE_MAGIC);
	s->home_only = site_is_home_only(s);
	bool home_delivers =
		s->home_only && s->home != worker_of(s)->number && s->flow->suspects.alone == NULL;

	s->used_at_ms = worker_of(s)->now_ms;
	if (s->flow->draining || s->suspended || is_down(s))
		release_waiting(s);
	if (s->flow->draining || s->suspended)
		close_idle_above(s, 0);
	bool settled = home_delivers ? serve_by_home(s) : serve_here(s);
	if (!settled) {
		METRIC_ADD(worker_of(s)->metrics, MAILBOX_FULL, 1);
		pump_within(s, AGAIN_MS);
	}
	claim_more(s);
	/* It may have left what it was woken for. */
	dispatch_connection_free(s->flow);
	flow_check_drained(s->flow);
}

/* ---- items ---- */

/* Do the present routes lead all of the item's recipients to its destination? */
static bool
is_on_its_route(struct flow *f, const struct queue_item *item)
{
	const struct destination *d = destination_at(f, item->site);
	const struct mail_envelope *e = item->mail->envelope;

	for (uint32_t i = queue_item_recipient(item, 0); i < e->recipient_count;
	     i = queue_item_recipient(item, i + 1)) {
		if (!destination_serves(d, f->routing, e->recipients[i].address,
					destination_need(e->flags)))
			return false;
	}
	return true;
}

static void
start_job(struct flow *f, struct job *j)
{
	(void)f;
	switch (j->destination->kind) {
	case SITE_DISCARD:
		job_resolve_all(j, RECIPIENT_DISCARDED, SPAN("250 2.0.0 discarded by a route"));
		outcome_record(j);
		return;
	case SITE_NOWHERE:
		job_resolve_all(j, RECIPIENT_PENDING, SPAN("451 4.4.4 no route for this domain"));
		outcome_record(j);
		return;
	case SITE_SMTP:
	case SITE_LMTP:
		destination_deliver(j->destination, j);
		return;
	}
}

static void
on_attempt_recorded(struct queue_attempt *a, enum err e)
{
	struct job *j = CONTAINER_OF(a, struct job, attempt);

	if (e == ERR_LOST) {
		bodies_put(j);
		outcome_forget(j);
		return;
	}
	if (e != ERR_OK) {
		j->unserved = true;
		j->due_at_ms = j->owner->worker->now_wall_ms + RECORD_AGAIN_MS;
		settle(j);
		return;
	}
	start_job(j->owner, j);
}

/* Invariant 9: of a mail that may have killed its worker the start is recorded first. */
static void
begin_job(struct flow *f, struct job *j)
{
	if (!j->item->recovered) {
		start_job(f, j);
		return;
	}
	j->attempt = (struct queue_attempt){
		.item = j->item,
		.alone = f->suspects.alone == j,
		.on_done = on_attempt_recorded,
	};
	queue_attempt(f->worker->queue, &j->attempt);
}

static bool
has_room(struct flow *f, const struct destination *d)
{
	struct queue *q = f->worker->queue;
	size_t most = f->routing->config->queue.active_max;

	if (f->job_count >= most) {
		f->jobs_were_full = true;
		return false;
	}
	if (f->draining || f->rests || !queue_may_deliver(q) || flow_must_pause(f))
		return false;
	if (d->site == NULL)
		return destination_has_room(d);
	const struct site *s = d->site;
	if (is_down(s) || s->suspended)
		return false;
	/* Little memory left: a mail that would only wait waits in the queue, and what waits here
	 * gives up its memory. */
	if (in_line(s) > 0 && queue_memory_is_tight(q)) {
		bodies_make_room(f);
		return false;
	}
	return dispatch_site_has_room(s);
}

static void
dispatch_item(struct flow *f, struct queue_item *item, uint64_t receive_ms)
{
	struct destination *d = destination_at(f, item->site);
	uint64_t now_wall_ms = f->worker->now_wall_ms;

	if (!is_on_its_route(f, item)) {
		queue_reroute(f->worker->queue, item);
		return;
	}
	if (!has_room(f, d)) {
		release_item(f, item, now_wall_ms + (d->site != NULL ? down_ms(d->site) : 0));
		return;
	}
	enum suspect_verdict verdict = suspects_judge(f, item);
	if (verdict == SUSPECT_HOLD) {
		struct mail_id id = item->mail->id;
		unsigned starts = item->open_starts;
		release_item(f, item, now_wall_ms + RECORD_AGAIN_MS);
		suspects_hold(f, id, starts);
		return;
	}
	struct job *j = verdict == SUSPECT_LATER ? NULL : job_new(f, item, d);
	if (j == NULL) {
		release_item(f, item, now_wall_ms + RECORD_AGAIN_MS);
		return;
	}
	j->times.receive_ms = receive_ms;
	f->job_count++;
	suspects_begin(f, j);
	if (verdict == SUSPECT_RUN)
		begin_job(f, j);
	else
		dispatch_suspect(f);
}

/* What may have killed a worker is left to those who handle it with care. */
void
dispatch_overdue(struct flow *f, struct queue_item *item)
{
	const struct destination *d = destination_at(f, item->site);
	struct schedule schedule = outcome_schedule(f);
	uint64_t now_ms = f->worker->now_wall_ms;
	bool may = !f->draining && !f->rests && item->open_starts == 0 && is_on_its_route(f, item);
	struct job *j = may ? job_new(f, item, destination_at(f, item->site)) : NULL;

	if (j == NULL) {
		release_item(f, item, now_ms);
		return;
	}
	f->job_count++;
	j->due_at_ms = now_ms;
	if (d->site == NULL || !site_is_doubtful(d->site) ||
	    (!schedule_is_over(&schedule, j->mail->envelope->accepted_at_ms, now_ms) &&
	     !bounce_is_overdue(f, j))) {
		dispatch_release(j);
		return;
	}
	j->times.taken_ms = j->times.started_ms = j->times.done_ms = f->worker->now_ms;
	j->times.taken_wall_ms = now_ms;
	job_defer_rest(j, SPAN("451 4.4.1 no host of the destination can be reached"));
	outcome_record(j);
}

void
dispatch_suspect(struct flow *f)
{
	struct job *j = suspects_ready(f);

	if (j != NULL)
		begin_job(f, j);
}

void
dispatch_items(struct flow *f, struct list *items, uint64_t receive_ms)
{
	struct list_node *n;

	while ((n = list_shift(items)) != NULL)
		dispatch_item(f, LIST_ITEM(n, struct queue_item, link), receive_ms);
}
