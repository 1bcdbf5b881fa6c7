/* SPDX-License-Identifier: Apache-2.0
 *
 * control: the thread that has signals, reload and the end of the relay. It is the main thread and
 * a worker of its own kind (a ring, a mailbox, no mail), so that it talks to the others as they
 * talk to each other.
 *
 *   SIGTERM, SIGINT  drain: all workers finish what is under way, then stop; exit 0
 *   SIGHUP           reload: the file is read again; workers adopt what can be reloaded, the log is
 *                    reopened; a bad file, or a changed option that needs a restart, is said in the
 *                    log and changes nothing
 *
 * It also looks at the files of recipients now and then, and reads those that have changed.
 *
 * To each worker there is one letter: one thing at a time, signals that come meanwhile wait.
 * Draining has two steps, since workers need each other until all are empty: DRAIN is answered when
 * a worker is empty, STOP when its queue has stopped.
 */
#ifndef RELAY_CONTROL_CONTROL_H
#define RELAY_CONTROL_CONTROL_H

#include <stdatomic.h>

#include "core/log.h"
#include "core/metric.h"
#include "core/worker.h"
#include "queue/queue.h"
#include "relay/control/admin.h"
#include "relay/control/ask.h"
#include "relay/control/policies.h"
#include "relay/control/reports.h"
#include "relay/control/certificates.h"
#include "relay/flow/flow.h"

struct control;
struct daemon;

enum control_task { CONTROL_NOTHING, CONTROL_RELOAD, CONTROL_DRAIN, CONTROL_STOP };

/* One worker thread as the control thread sees it. */
struct crew {
	struct worker worker;
	struct control *control;
	struct message letter;
	bool letter_due; /* its mailbox was full */
	struct timer beat;
	_Atomic uint64_t beat_ms;    /* when it last turned, monotonic; read by the HTTP thread */
	atomic_uint refuses;         /* enum err: why its queue takes no mail; likewise */
	_Atomic uint64_t mails_here; /* of its queue, on this host's disk; likewise */
	bool opened;                 /* it has its ring */
	struct asked asked;
	int fds[FLOW_LISTENERS_MAX];
};

struct control {
	struct worker worker; /* the control thread's own */
	struct daemon *daemon;
	struct crew *crew;
	unsigned crew_count;
	struct log *log;
	struct routing *routing;      /* in effect */
	struct routing *next_routing; /* being adopted, or NULL */
	const char *config_path;
	struct queue_store *store;
	const struct metrics *const *blocks; /* of all threads */
	size_t block_count;
	struct policies policies; /* of MTA-STS */
	struct reports reports;   /* about TLS */
	struct web *web;
	struct admin admin;
	int admin_fd; /* that listens, or -1; taken by control_run */

	enum control_task task; /* what the letters are out for */
	unsigned answers_owed;
	bool reload_wanted;
	bool certificates_wanted; /* the files of TLS are to be read again */
	struct certificates certificates;
	bool files_wanted;      /* files of recipients and users are to be read again */
	uint64_t files_seen;    /* their state at the last look */
	uint64_t files_refused; /* the state that could not be used */
	bool drain_wanted;
	bool draining;
	const char *drain_why;
	int signals; /* signalfd */
	struct op signal_poll;
	struct op cancel;
	struct timer look;   /* at the files of recipients */
	struct timer again;  /* send letters that are due */
	atomic_bool started; /* the workers run; what the HTTP thread reads is complete */
	atomic_bool ready;
};

/* Blocks the signals and makes the descriptor for them; before any thread is started. */
bool control_take_signals(struct control *c, struct buf *why);
/* The files of recipients that were read for the routing in effect, and what it takes for all. */
void control_tell_recipients(struct control *c, bool config_is_new);
/* The users of the routing in effect, where they are not those from before. */
void control_tell_users(struct control *c, const struct users *before);
/* Likewise the secrets. */
void control_tell_secrets(struct control *c, const struct secrets *before);
/* Runs until all workers have stopped. */
void control_run(struct control *c);
/* On each worker's thread, before it runs: starts its heart beat. */
void crew_start(struct crew *m);

/* For the HTTP thread. Healthy while it starts; ready only when every worker takes mail. */
bool control_is_healthy(void *control);
enum err control_readiness(void *control); /* ERR_OK: it is; else why not */
/* Mails that nobody but this node can deliver. */
uint64_t control_mails_here(const struct control *c);
bool control_is_disposable(const struct control *c); /* there is none */

#endif
