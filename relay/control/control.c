/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/control/control.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/config.h"
#include "relay/control/templates.h"
#include "relay/flow/events.h"

enum {
	BEAT_MS = 1000,
	BEAT_LOST_MS = 10 * 1000,
	AGAIN_MS = 10,
	ERRORS_TEXT_MAX = 2048,
	WHY_SIZE = 768,
};

static void start_next(struct control *c);

_Static_assert((int)LABEL_AGE_COUNT == (int)QUEUE_AGES, "labels are the classes of the queue");
_Static_assert((int)LABEL_ATTEMPTS_COUNT == (int)QUEUE_ATTEMPTS,
	       "labels are the classes of the queue");

/* ---- on the workers ---- */

static void
refresh_gauges(struct crew *m)
{
	struct worker *w = &m->worker;
	struct queue_numbers n;
	uint64_t now_wall_ms = clock_wall_ms();

	flow_refresh_gauges(w->flow);
	queue_count(w->queue, &n);
	atomic_store_explicit(&m->mails_here, n.mails_here, memory_order_relaxed);
	METRIC_SET(w->metrics, QUEUE_MAILS, n.mails);
	METRIC_SET(w->metrics, QUEUE_MAILS_HERE, n.mails_here);
	METRIC_SET(w->metrics, QUEUE_BYTES, n.bytes_live);
	METRIC_SET(w->metrics, QUEUE_MEMORY, n.memory_bytes);
	METRIC_SET(w->metrics, QUEUE_OLDEST,
		   n.oldest_accepted_at_ms == 0 || n.oldest_accepted_at_ms > now_wall_ms
			   ? 0
			   : (now_wall_ms - n.oldest_accepted_at_ms) / 1000);
	METRIC_SET_LABEL(w->metrics, QUEUE_RECIPIENTS, LABEL_STATE_WAITING, n.items_waiting);
	METRIC_SET_LABEL(w->metrics, QUEUE_RECIPIENTS, LABEL_STATE_ACTIVE, n.items_claimed);
	METRIC_SET_LABEL(w->metrics, QUEUE_RECIPIENTS, LABEL_STATE_HELD, n.items_held);
	METRIC_SET_LABEL(w->metrics, QUEUE_RECIPIENTS, LABEL_STATE_FAILED, n.recipients_failed);
	for (unsigned i = 0; i < QUEUE_AGES; i++)
		METRIC_SET_LABEL(w->metrics, QUEUE_AGES, i, n.items_by_age[i]);
	for (unsigned i = 0; i < QUEUE_ATTEMPTS; i++)
		METRIC_SET_LABEL(w->metrics, QUEUE_ATTEMPTS, i, n.items_by_attempts[i]);
	METRIC_SET(w->metrics, SPOOL_DISK_USED, n.bytes_on_disk);
	METRIC_SET(w->metrics, SPOOL_DISK_FREE, n.bytes_free);
}

static void
on_beat(struct timer *t)
{
	struct crew *m = CONTAINER_OF(t, struct crew, beat);
	struct worker *w = &m->worker;

	atomic_store_explicit(&m->beat_ms, w->now_ms, memory_order_relaxed);
	atomic_store_explicit(&m->refuses, queue_admit(w->queue, 0), memory_order_relaxed);
	refresh_gauges(m);
	log_turn(w->log);
	timer_set(&w->timers, t, w->now_ms + BEAT_MS);
}

void
crew_start(struct crew *m)
{
	timer_init(&m->beat, on_beat);
	on_beat(&m->beat);
}

static void on_answer(struct message *letter, void *context);

static void
answer(struct crew *m)
{
	m->letter.on_message = on_answer;
	worker_post(&m->worker, &m->control->worker, &m->letter);
}

static void
on_drained(struct flow *f, void *context)
{
	(void)f;
	answer(context);
}

static void
on_stopped(struct queue *q, void *context)
{
	struct crew *m = context;

	(void)q;
	timer_stop(&m->worker.timers, &m->beat);
	m->worker.stopping = true;
	answer(m);
}

static void
on_task(struct message *letter, void *context)
{
	struct crew *m = CONTAINER_OF(letter, struct crew, letter);

	(void)context;
	switch (m->control->task) {
	case CONTROL_RELOAD:
		flow_adopt(m->worker.flow, m->control->next_routing);
		answer(m);
		return;
	case CONTROL_DRAIN:
		flow_drain(m->worker.flow, on_drained, m);
		return;
	case CONTROL_STOP:
		queue_stop(m->worker.queue, on_stopped, m);
		return;
	case CONTROL_NOTHING:
		break;
	}
	ASSERT(false); /* a letter without a task */
}

/* ---- on the control thread ---- */

/* Sends the letters that are due. A worker whose mailbox is full gets its letter a little later. */
static void
send_letters(struct control *c)
{
	bool all = true;

	for (unsigned i = 0; i < c->crew_count; i++) {
		struct crew *m = &c->crew[i];
		if (!m->letter_due)
			continue;
		if (!mailbox_reserve(&m->worker.mailbox, 1)) {
			all = false;
			continue;
		}
		/* For the answer: this mailbox is for answers alone. */
		bool mine = mailbox_reserve(&c->worker.mailbox, 1);
		ASSERT(mine);
		m->letter_due = false;
		m->letter.on_message = on_task;
		worker_post(&c->worker, &m->worker, &m->letter);
	}
	if (!all)
		timer_set(&c->worker.timers, &c->again, c->worker.now_ms + AGAIN_MS);
}

static void
on_again(struct timer *t)
{
	send_letters(CONTAINER_OF(t, struct control, again));
}

static void
send_all(struct control *c, enum control_task task)
{
	ASSERT(c->task == CONTROL_NOTHING && c->answers_owed == 0);
	c->task = task;
	c->answers_owed = c->crew_count;
	for (unsigned i = 0; i < c->crew_count; i++)
		c->crew[i].letter_due = true;
	send_letters(c);
}

void
control_tell_recipients(struct control *c, bool config_is_new)
{
	const struct recipients *r = c->routing->recipients;
	uint64_t listed = 0, bytes = 0;

	for (size_t i = 0; i < r->file_count; i++) {
		const struct recipient_file *f = &r->files[i];
		listed += f->table->count;
		bytes += f->table->bytes;
		if (f->fresh)
			event_recipients_loaded(c->worker.log,
						&(struct event_recipients_loaded){
							.file = f->path,
							.recipients = f->table->count,
							.bytes = f->table->bytes,
							.duration = f->load_ms,
						});
	}
	METRIC_SET(c->worker.metrics, RECIPIENTS_LISTED, listed);
	METRIC_SET(c->worker.metrics, RECIPIENTS_MEMORY, bytes);
	if (config_is_new && r->any_count > 0)
		event_recipients_any(c->worker.log, &(struct event_recipients_any){
							    .domains = r->any_count,
							    .domain = r->any,
						    });
}

void
control_tell_users(struct control *c, const struct users *before)
{
	const struct users *u = c->routing->users;

	METRIC_SET(c->worker.metrics, USERS_LISTED, u->count);
	if (u == before || !config_names_file(c->routing->config->users.file))
		return;
	event_users_loaded(c->worker.log, &(struct event_users_loaded){
						  .file = c->routing->config->users.file,
						  .users = u->count,
						  .duration = u->load_ms,
					  });
}

void
control_tell_secrets(struct control *c, const struct secrets *before)
{
	const struct secrets *s = c->routing->secrets;

	if (s == before || !config_names_file(c->routing->config->secrets))
		return;
	event_secrets_loaded(c->worker.log, &(struct event_secrets_loaded){
						    .file = c->routing->config->secrets,
						    .entries = s->count,
					    });
}

/* Which of the files was it? */
static void
count_files(struct control *c, const struct routing *old)
{
	const struct routing *now = c->routing;

	if (now->tls != old->tls)
		METRIC_ADD_LABEL(c->worker.metrics, TLS_RELOADS, LABEL_RELOAD_OK, 1);
	if (now->users != old->users)
		METRIC_ADD_LABEL(c->worker.metrics, USER_RELOADS, LABEL_RELOAD_OK, 1);
	if (recipients_state(now->recipients) != recipients_state(old->recipients))
		METRIC_ADD_LABEL(c->worker.metrics, RECIPIENT_RELOADS, LABEL_RELOAD_OK, 1);
}

static void
finish_reload(struct control *c)
{
	struct routing *old = c->routing;
	const struct config *config = c->next_routing->config;
	bool config_is_new = config != old->config;

	c->routing = c->next_routing;
	c->next_routing = NULL;
	control_tell_recipients(c, config_is_new);
	control_tell_users(c, old->users);
	control_tell_secrets(c, old->secrets);
	if (c->routing->tls != old->tls)
		certificates_take(&c->certificates, c->routing->tls, config->tls.look_ms);
	if (!config_is_new)
		count_files(c, old);
	routing_put(old);
	if (!config_is_new)
		return;
	log_set_level(c->log, config->log.level);
	METRIC_ADD_LABEL(c->worker.metrics, CONFIG_RELOADS, LABEL_RELOAD_OK, 1);
	event_config_loaded(c->worker.log, &(struct event_config_loaded){
						   .file = span_of_string(c->config_path) });
}

static void
on_reports_stopped(struct reports *r)
{
	send_all(r->control, CONTROL_STOP);
}

static void
on_policies_stopped(struct policies *p)
{
	reports_stop(&p->control->reports, on_reports_stopped);
}

static void
on_admin_stopped(struct admin *a)
{
	policies_stop(&a->control->policies, on_policies_stopped);
}

static void
on_answer(struct message *letter, void *context)
{
	struct crew *m = CONTAINER_OF(letter, struct crew, letter);
	struct control *c = m->control;

	(void)context;
	ASSERT(c->answers_owed > 0);
	if (--c->answers_owed > 0)
		return;
	enum control_task done = c->task;
	c->task = CONTROL_NOTHING;
	if (done == CONTROL_RELOAD)
		finish_reload(c);
	if (done == CONTROL_DRAIN) {
		/* Workers can be asked until then, and no longer. */
		admin_stop(&c->admin, on_admin_stopped);
		return;
	}
	if (done == CONTROL_STOP) {
		c->worker.stopping = true;
		return;
	}
	start_next(c);
}

/* ---- reload ---- */

static void
refuse_reload(struct control *c, struct span error, struct span restart)
{
	METRIC_ADD_LABEL(c->worker.metrics, CONFIG_RELOADS, LABEL_RELOAD_REFUSED, 1);
	event_config_refused(c->worker.log, &(struct event_config_refused){
						    .file = span_of_string(c->config_path),
						    .error = error,
						    .restart = restart,
					    });
}

/* The new snapshot, or NULL after the reason was logged. */
static const struct config *
load_next(struct control *c)
{
	struct config_errors errors = { 0 };
	uint8_t memory[ERRORS_TEXT_MAX];
	struct buf restart = buf_of(memory, sizeof memory);
	const struct config *next = config_load(c->config_path, &errors);

	if (next == NULL) {
		refuse_reload(c, span_of_string(errors.lines[0]), span_none());
		return NULL;
	}
	config_restart_needed(c->routing->config, next, &restart);
	if (restart.size == 0)
		return next;
	refuse_reload(c, SPAN("changed options need a restart; nothing was applied"),
		      buf_span(&restart));
	config_put(next);
	return NULL;
}

/* Without a file: standard error. */
static void
reopen_log(struct control *c, const struct config *config)
{
	const struct span *file = &config->log.file;

	log_reopen(c->log, file->size == 0 ? NULL : (const char *)file->data);
	event_log_reopened(c->worker.log, &(struct event_log_reopened){ .file = *file });
}

/* With the files that the configuration names; `tls` is taken. NULL with a line in `why`. */
static struct routing *
make_routing(struct control *c, const struct config *config, struct tls_setup *tls, struct buf *why)
{
	struct dsn_template *templates = NULL;
	struct routing *r = NULL;

	if (templates_load(config, &templates, why))
		r = routing_new(config, c->routing, why);
	if (r == NULL) {
		free(templates);
		tls_setup_put(tls);
		return NULL;
	}
	r->templates = templates;
	r->tls = tls;
	return r;
}

static void
reload(struct control *c)
{
	uint8_t memory[ERRORS_TEXT_MAX];
	struct buf why = buf_of(memory, sizeof memory);
	const struct span *file = &c->routing->config->log.file;

	/* Rotation must work also when the new configuration is bad. */
	reopen_log(c, c->routing->config);
	const struct config *next = load_next(c);
	if (next == NULL)
		return;
	struct tls_setup *tls = tls_setup_load(next, c->routing->tls, &why);
	if (tls != NULL)
		c->next_routing = make_routing(c, next, tls, &why);
	config_put(next);
	if (c->next_routing == NULL) {
		refuse_reload(c, buf_span(&why), span_none());
		return;
	}
	if (!span_eq(next->log.file, *file))
		reopen_log(c, next);
	send_all(c, CONTROL_RELOAD);
}

/* Can the file of users be used? If not, it is said. */
static bool
users_are_fit(struct control *c)
{
	uint8_t memory[WHY_SIZE];
	struct buf why = buf_of(memory, sizeof memory);
	struct users *u = users_load(c->routing->config, c->routing->users, &why);

	users_put(u);
	if (u != NULL)
		return true;
	METRIC_ADD_LABEL(c->worker.metrics, USER_RELOADS, LABEL_RELOAD_REFUSED, 1);
	event_users_refused(c->worker.log,
			    &(struct event_users_refused){ .error = buf_span(&why) });
	return false;
}

/* Likewise the file of secrets. */
static bool
secrets_are_fit(struct control *c)
{
	uint8_t memory[WHY_SIZE];
	struct buf why = buf_of(memory, sizeof memory);
	struct secrets *s = secrets_load(c->routing->config, c->routing->secrets, &why);

	secrets_put(s);
	if (s != NULL)
		return true;
	event_secrets_refused(c->worker.log,
			      &(struct event_secrets_refused){ .error = buf_span(&why) });
	return false;
}

/* Reads the files of recipients, users and secrets that have changed; the configuration stays. */
static void
reload_files(struct control *c)
{
	uint8_t memory[WHY_SIZE];
	struct buf why = buf_of(memory, sizeof memory);

	/* What cannot be used is told of once for each state of the files. */
	c->files_refused = c->files_seen;
	if (!users_are_fit(c) || !secrets_are_fit(c))
		return;
	c->next_routing = make_routing(c, c->routing->config, tls_setup_get(c->routing->tls), &why);
	if (c->next_routing != NULL) {
		c->files_refused = 0;
		send_all(c, CONTROL_RELOAD);
		return;
	}
	METRIC_ADD_LABEL(c->worker.metrics, RECIPIENT_RELOADS, LABEL_RELOAD_REFUSED, 1);
	event_recipients_refused(c->worker.log,
				 &(struct event_recipients_refused){ .error = buf_span(&why) });
}

/* Reads the files of TLS that have changed. */
static void
reload_certificates(struct control *c)
{
	uint8_t memory[WHY_SIZE];
	struct buf why = buf_of(memory, sizeof memory);
	struct tls_setup *tls = tls_setup_load(c->routing->config, c->routing->tls, &why);

	c->certificates.refused = c->certificates.seen;
	if (tls != NULL)
		c->next_routing = make_routing(c, c->routing->config, tls, &why);
	if (c->next_routing != NULL) {
		c->certificates.refused = 0;
		send_all(c, CONTROL_RELOAD);
		return;
	}
	METRIC_ADD_LABEL(c->worker.metrics, TLS_RELOADS, LABEL_RELOAD_REFUSED, 1);
	event_tls_refused(c->worker.log, &(struct event_tls_refused){ .error = buf_span(&why) });
}

static void
on_certificates_changed(struct certificates *k)
{
	struct control *c = CONTAINER_OF(k, struct control, certificates);

	c->certificates_wanted = true;
	start_next(c);
}

static uint64_t
all_of(uint64_t recipients, uint64_t users, uint64_t secrets)
{
	return (recipients * 0x9e3779b97f4a7c15ULL + users) * 0x9e3779b97f4a7c15ULL + secrets;
}

/* A file that looks the same twice in a row is not being written any more. */
static void
on_look(struct timer *t)
{
	struct control *c = CONTAINER_OF(t, struct control, look);
	const struct routing *r = c->routing;
	uint64_t now = all_of(recipients_state_on_disk(r->recipients),
			      users_state_on_disk(r->config), secrets_state_on_disk(r->config));

	if (now != all_of(recipients_state(r->recipients), users_state(r->users),
			  secrets_state(r->secrets)) &&
	    now == c->files_seen && now != c->files_refused) {
		c->files_wanted = true;
		start_next(c);
	}
	c->files_seen = now;
	timer_set(&c->worker.timers, t, c->worker.now_ms + r->config->relay.recipients_look_ms);
}

static void
start_next(struct control *c)
{
	if (c->task != CONTROL_NOTHING)
		return;
	if (c->drain_wanted) {
		c->drain_wanted = false;
		c->draining = true;
		atomic_store(&c->ready, false);
		policies_drain(&c->policies);
		send_all(c, CONTROL_DRAIN);
	} else if (c->reload_wanted && !c->draining) {
		c->reload_wanted = false;
		reload(c);
	} else if (c->certificates_wanted && !c->draining) {
		c->certificates_wanted = false;
		reload_certificates(c);
	} else if (c->files_wanted && !c->draining) {
		c->files_wanted = false;
		reload_files(c);
	}
}

/* ---- signals ---- */

bool
control_take_signals(struct control *c, struct buf *why)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	/* Before any thread exists, so that all inherit it and only the descriptor sees them. */
	if (pthread_sigmask(SIG_BLOCK, &set, NULL) == 0) {
		signal(SIGPIPE, SIG_IGN);
		c->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
		if (c->signals >= 0)
			return true;
	}
	buf_append_string(why, "signals cannot be received: no signalfd");
	return false;
}

static void
take_signal(struct control *c, unsigned number)
{
	if (number == SIGHUP) {
		c->reload_wanted = true;
		return;
	}
	if (c->draining)
		return;
	c->drain_wanted = true;
	c->drain_why = number == SIGTERM ? "SIGTERM" : "SIGINT";
}

static void
on_signal(struct op *op, struct completion done)
{
	struct control *c = CONTAINER_OF(op, struct control, signal_poll);
	struct signalfd_siginfo info;

	if (c->worker.stopping || done.result == -ECANCELED)
		return;
	while (read(c->signals, &info, sizeof info) == (ssize_t)sizeof info)
		take_signal(c, info.ssi_signo);
	ring_poll(c->worker.ring, &c->signal_poll, c->signals, POLLIN);
	start_next(c);
}

static void
on_cancelled(struct op *op, struct completion done)
{
	(void)op;
	(void)done;
}

void
control_run(struct control *c)
{
	op_init(&c->signal_poll, on_signal);
	op_init(&c->cancel, on_cancelled);
	timer_init(&c->again, on_again);
	timer_init(&c->look, on_look);
	timer_set(&c->worker.timers, &c->look,
		  c->worker.now_ms + c->routing->config->relay.recipients_look_ms);
	certificates_watch(&c->certificates, on_certificates_changed);
	ring_poll(c->worker.ring, &c->signal_poll, c->signals, POLLIN);
	policies_start(&c->policies, c->web);
	reports_start(&c->reports, c->web);
	admin_start(&c->admin, c, c->admin_fd);
	atomic_store(&c->started, true);
	atomic_store(&c->ready, true);
	worker_run(&c->worker);
	if (c->signal_poll.in_kernel)
		ring_cancel(c->worker.ring, &c->cancel, &c->signal_poll);
	while (ring_ops(c->worker.ring) > 0)
		worker_turn(&c->worker, BEAT_MS * 1000);
	suspended_fini(&c->admin.suspended);
	certificates_fini(&c->certificates);
}

/* ---- for the HTTP thread ---- */

bool
control_is_healthy(void *control)
{
	struct control *c = control;
	uint64_t now_ms = clock_monotonic_ms();

	/* A long start is no illness: what kills it begins it anew. */
	if (!atomic_load(&c->started))
		return true;
	for (unsigned i = 0; i < c->crew_count; i++) {
		uint64_t beat_ms = atomic_load_explicit(&c->crew[i].beat_ms, memory_order_relaxed);
		if (beat_ms != 0 && beat_ms + BEAT_LOST_MS < now_ms)
			return false;
	}
	return true;
}

enum err
control_readiness(void *control)
{
	struct control *c = control;
	enum err why = ERR_OK;

	if (!atomic_load(&c->ready))
		return atomic_load(&c->started) ? ERR_SHUTTING_DOWN : ERR_AGAIN;
	for (unsigned i = 0; i < c->crew_count && why == ERR_OK; i++)
		why = atomic_load_explicit(&c->crew[i].refuses, memory_order_relaxed);
	return why;
}

uint64_t
control_mails_here(const struct control *c)
{
	uint64_t sum = 0;

	if (!atomic_load(&c->started))
		return 0;
	for (unsigned i = 0; i < c->crew_count; i++)
		sum += atomic_load_explicit(&c->crew[i].mails_here, memory_order_relaxed);
	return sum;
}

bool
control_is_disposable(const struct control *c)
{
	return atomic_load(&c->started) && control_mails_here(c) == 0;
}
