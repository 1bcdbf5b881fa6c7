/* SPDX-License-Identifier: Apache-2.0
 *
 * admin: the unix socket on which operators look and act (docs/admin.md). On the control thread,
 * with its ring: nothing here blocks it. What workers know is asked of them (ask.h).
 *
 * A client has one request under way; the next is not read before its answer is sent. Bounded:
 * clients (admin.clients, above it `too_many`), the size of a request (PROTOCOL_REQUEST_MAX), rows
 * of an answer (PROTOCOL_ROWS_MAX), the time until a whole request has come and until an answer is
 * taken (admin.timeout), what is kept for a client (its answer, and one ask). A client that goes
 * away while it is answered is forgotten when the workers have answered.
 *
 * Who may connect is the business of the socket's mode; who asked is taken from the kernel
 * (SO_PEERCRED). The socket stays until a drain is over; then requests under way end with
 * `shutting_down`.
 *
 * Each command is a function over a client that ends, now or later, with exactly one of
 * admin_done() and admin_refuse(). It builds the answer with admin_object(), admin_rows(),
 * admin_row().
 */
#ifndef RELAY_CONTROL_ADMIN_H
#define RELAY_CONTROL_ADMIN_H

#include <limits.h>
#include <sys/types.h>

#include "core/conn.h"
#include "relay/admin/protocol.h"
#include "relay/control/ask.h"
#include "relay/control/rates.h"
#include "relay/control/suspended.h"

struct control;
struct metrics;
struct mx_hosts;

enum { ADMIN_CLIENTS_MAX = 64, ADMIN_WHO_MAX = 128 };

struct admin {
	struct control *control;
	struct worker *worker;
	int fd; /* that listens, -1: closed */
	const char *path;
	struct op accept;
	struct op cancel;
	struct timer again; /* accept again after a failure */
	struct list clients;
	unsigned client_count;
	unsigned clients_max;
	uint64_t timeout_ms;
	struct asker asker;
	struct rates rates;
	struct timer sample; /* of rates */
	struct suspended suspended;
	char suspended_file[PATH_MAX]; /* where it is kept */
	bool stopping;
	bool stopped;
	struct timer patience; /* for clients that do not take their last answer */
	struct task stop_check;
	void (*on_stopped)(struct admin *a);
};

enum admin_client_state {
	CLIENT_READING, /* waits for a whole request */
	CLIENT_WORKING, /* waits for its command */
	CLIENT_WRITING, /* waits until its answer is taken */
};

struct admin_client {
	struct conn conn; /* first */
	struct list_node link;
	struct admin *admin;
	enum admin_client_state state;
	uid_t uid;
	struct admin_request request;
	struct buf answer; /* grows */
	bool no_memory;    /* for the answer */
	struct ask *ask;   /* under way, or NULL */
	/* By explain; given back when the answer is sent. */
	struct routing *routing;   /* that it explains */
	struct mx_hosts **answers; /* of the domain, or by host of the route's target; NULL: none */
	size_t answer_count;
	struct plan *plan; /* what is made of them */
};

/* Binds the socket of the configuration; main thread. A descriptor, -1 for a configuration without
 * one, -2 with a line in `why`. */
int admin_bind(const struct config *config, struct buf *why);
/* Control thread, before it runs. `fd` is taken; -1: there is no socket, only what lasts (sites
 * that are suspended). */
void admin_start(struct admin *a, struct control *control, int fd);
/* Ends all; on_stopped runs once, when nobody is asked and nobody asks any more. */
void admin_stop(struct admin *a, void (*on_stopped)(struct admin *a));

/* ---- for commands ---- */

/* Opens the result. Rows of one or more lists may follow. */
void admin_object(struct admin_client *c, enum admin_shape shape, const void *values);
void admin_rows(struct admin_client *c, const char *name);
void admin_row(struct admin_client *c, enum admin_shape shape, const void *values);
void admin_rows_end(struct admin_client *c);
/* The client may be gone when these return. `text` NULL: the error's own. */
void admin_done(struct admin_client *c);
void admin_refuse(struct admin_client *c, enum admin_error e, const char *text);

/* Asks `count` workers from `first` for a client; a->parts is set. The ask's on_done begins with
 * admin_asked(), which says whether to go on: if not, the client was refused. */
void admin_ask(struct admin_client *c, struct ask *a, unsigned first, unsigned count);
bool admin_asked(struct admin_client *c);
unsigned admin_workers(const struct admin_client *c);
/* The user at the other end, "alice (uid 1000)", for events. */
void admin_write_who(const struct admin_client *c, struct buf *out);

/* What lasts beyond a request. */
void admin_start_rates(struct admin *a);
void admin_stop_rates(struct admin *a);
void admin_start_suspended(struct admin *a);

void admin_run_status(struct admin_client *c);
void admin_run_queue_list(struct admin_client *c);
void admin_run_queue_count(struct admin_client *c);
void admin_run_queue_show(struct admin_client *c);
void admin_run_queue_act(struct admin_client *c);
void admin_run_site_list(struct admin_client *c);
void admin_run_site_show(struct admin_client *c);
void admin_run_site_suspend(struct admin_client *c);
void admin_run_site_resume(struct admin_client *c);
void admin_run_report_send(struct admin_client *c);
void admin_run_sts_list(struct admin_client *c);
void admin_run_sts_refresh(struct admin_client *c);
void admin_run_lock_list(struct admin_client *c);
void admin_run_lock_lift(struct admin_client *c);
void admin_run_node_list(struct admin_client *c);
void admin_run_node_drain(struct admin_client *c);
void admin_run_explain(struct admin_client *c);
/* Gives back what a client has for it, whatever it ran. */
void admin_explain_end(struct admin_client *c);

#endif
