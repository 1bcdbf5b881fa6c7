/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/control/admin.h"

#include <errno.h>
#include <grp.h>
#include <poll.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/config.h"
#include "core/metric.h"
#include "dns/mx.h"
#include "relay/control/control.h"

enum {
	ACCEPT_AGAIN_MS = 100,
	BACKLOG = 64,
	ANSWER_FIRST = 2 * SHAPE_WRITTEN_MAX,
	FAREWELL_MS = 1000,
	WHY_MAX = 512,
	LISTEN_PATIENCE_MS = 2000,
	LISTEN_AGAIN_MS = 10,
};

static void (*const runs[ADMIN_COMMANDS])(struct admin_client *c) = {
	[ADMIN_STATUS] = admin_run_status,
	[ADMIN_QUEUE_LIST] = admin_run_queue_list,
	[ADMIN_QUEUE_COUNT] = admin_run_queue_count,
	[ADMIN_QUEUE_SHOW] = admin_run_queue_show,
	[ADMIN_QUEUE_RETRY] = admin_run_queue_act,
	[ADMIN_QUEUE_HOLD] = admin_run_queue_act,
	[ADMIN_QUEUE_RELEASE] = admin_run_queue_act,
	[ADMIN_QUEUE_REMOVE] = admin_run_queue_act,
	[ADMIN_QUEUE_MOVE] = admin_run_queue_act, /* as those that change mails are */
	[ADMIN_SITE_LIST] = admin_run_site_list,
	[ADMIN_SITE_SHOW] = admin_run_site_show,
	[ADMIN_SITE_SUSPEND] = admin_run_site_suspend,
	[ADMIN_SITE_RESUME] = admin_run_site_resume,
	[ADMIN_REPORT_SEND] = admin_run_report_send,
	[ADMIN_STS_LIST] = admin_run_sts_list,
	[ADMIN_STS_REFRESH] = admin_run_sts_refresh,
	[ADMIN_LOCK_LIST] = admin_run_lock_list,
	[ADMIN_LOCK_LIFT] = admin_run_lock_lift,
	[ADMIN_NODE_LIST] = admin_run_node_list,
	[ADMIN_NODE_DRAIN] = admin_run_node_drain,
	[ADMIN_EXPLAIN] = admin_run_explain,
};

static void
count_answer(struct admin *a, enum admin_error e)
{
	METRIC_ADD_LABEL(a->worker->metrics, ADMIN_REQUESTS, (unsigned)e, 1);
}

/* ---- the socket ---- */

static gid_t
group_id(const struct config *config, struct buf *why)
{
	const struct group *group = getgrnam((const char *)config->admin.group.data);

	if (group != NULL)
		return group->gr_gid;
	buf_printf(why, "admin.group: there is no group %.*s; create it (groupadd --system)",
		   SPAN_ARG(config->admin.group));
	return (gid_t)-1;
}

static bool
give_to_group(const struct config *config, const char *path, struct buf *why)
{
	if (config->admin.group.size == 0)
		return true;
	gid_t group = group_id(config, why);
	if (group == (gid_t)-1)
		return false;
	if (chown(path, (uid_t)-1, group) == 0 &&
	    chmod(path, S_IRUSR | S_IWUSR | S_IRGRP | S_IWGRP) == 0)
		return true;
	buf_printf(why, "admin.group: %s cannot be given to %.*s: %s; make the user a member of it",
		   path, SPAN_ARG(config->admin.group), strerror(errno));
	return false;
}

/* After a SIGKILL the kernel takes a killed process's ring apart a moment after the process is
 * gone, and what it listens on with it; see probe_address() of startup.c. */
static int
listen_patiently(const struct net_address *address)
{
	uint64_t until_ms = clock_monotonic_ms() + LISTEN_PATIENCE_MS;
	/* Nobody but the user, from the very first moment. */
	mode_t before = umask(S_IXUSR | S_IRWXG | S_IRWXO);
	int fd = net_listen(address, BACKLOG, false);

	while (fd == -EADDRINUSE && clock_monotonic_ms() < until_ms) {
		poll(NULL, 0, LISTEN_AGAIN_MS);
		fd = net_listen(address, BACKLOG, false);
	}
	umask(before);
	return fd;
}

int
admin_bind(const struct config *config, struct buf *why)
{
	struct net_address address = { 0 };
	const char *path = (const char *)config->admin.socket.data;
	uint8_t memory[sizeof(struct sockaddr_un) + sizeof "unix:"];
	struct buf text = buf_of(memory, sizeof memory);

	if (config->admin.socket.size == 0)
		return -1;
	buf_append(&text, SPAN("unix:"));
	buf_append(&text, config->admin.socket);
	if (text.overflow || !net_address_parse(buf_span(&text), &address)) {
		buf_append_string(why,
				  "admin.socket: the path is too long for a socket; use one of "
				  "at most 100 bytes");
		return -2;
	}
	int fd = listen_patiently(&address);
	if (fd < 0) {
		buf_printf(
			why,
			"admin.socket: %s: %s; make its directory, let the user write there, and "
			"stop what listens there",
			path, strerror(-fd));
		return -2;
	}
	if (give_to_group(config, path, why))
		return fd;
	net_close(fd);
	unlink(path);
	return -2;
}

static void
check_stopped(struct task *t)
{
	struct admin *a = CONTAINER_OF(t, struct admin, stop_check);

	if (a->stopped || !list_is_empty(&a->clients) || a->asker.out > 0 || a->fd >= 0 ||
	    a->accept.in_kernel || a->cancel.in_kernel)
		return;
	a->stopped = true;
	timer_stop(&a->worker->timers, &a->patience);
	timer_stop(&a->worker->timers, &a->suspended.over);
	a->on_stopped(a);
}

static void
check_stopped_soon(struct admin *a)
{
	if (a->stopping)
		worker_soon(a->worker, &a->stop_check);
}

/* ---- clients ---- */

static void
on_closed(struct conn *conn)
{
	struct admin_client *c = CONTAINER_OF(conn, struct admin_client, conn);
	struct admin *a = c->admin;

	ASSERT(c->state != CLIENT_WORKING);
	list_unlink(&c->link);
	a->client_count--;
	protocol_put(&c->request);
	free(c->answer.data);
	free(c);
	check_stopped_soon(a);
}

static bool
grow(struct admin_client *c)
{
	size_t capacity = c->answer.capacity == 0 ? ANSWER_FIRST : 2 * c->answer.capacity;
	uint8_t *more = realloc(c->answer.data, capacity);

	c->no_memory = c->no_memory || more == NULL;
	if (more == NULL)
		return false;
	c->answer.data = more;
	c->answer.capacity = capacity;
	return true;
}

/* Room for one object more. */
static bool
has_room(struct admin_client *c)
{
	return buf_room(&c->answer) >= SHAPE_WRITTEN_MAX || grow(c);
}

/* The answer goes out, however it came about. The last thing that is done for a request. */
static void
send_answer(struct admin_client *c)
{
	ASSERT(c->state == CLIENT_WORKING && c->ask == NULL);
	c->state = CLIENT_WRITING;
	protocol_put(&c->request);
	admin_explain_end(c);
	if (c->answer.size == 0 || c->answer.overflow) {
		conn_close(&c->conn, CLOSE_NO_MEMORY);
	} else {
		conn_deadline(&c->conn, c->admin->worker->now_ms + c->admin->timeout_ms);
		conn_write_lent(&c->conn, c->answer.data, c->answer.size);
	}
	conn_unhold(&c->conn);
}

void
admin_refuse(struct admin_client *c, enum admin_error e, const char *text)
{
	if (text == NULL)
		text = protocol_error_text(e);
	buf_reset(&c->answer);
	count_answer(c->admin, e);
	if (has_room(c))
		protocol_write_error(&c->answer, e, span_of_string(text));
	send_answer(c);
}

void
admin_done(struct admin_client *c)
{
	if (c->no_memory || c->answer.overflow) {
		admin_refuse(c, ADMIN_NO_MEMORY, NULL);
		return;
	}
	buf_append_byte(&c->answer, '}');
	protocol_write_end(&c->answer);
	count_answer(c->admin, ADMIN_OK);
	send_answer(c);
}

void
admin_object(struct admin_client *c, enum admin_shape shape, const void *values)
{
	if (!has_room(c))
		return;
	protocol_write_begin(&c->answer);
	shape_write_open(&c->answer, shape, values);
}

static void
write_comma(struct buf *b)
{
	if (b->size > 0 && b->data[b->size - 1] != '{' && b->data[b->size - 1] != '[')
		buf_append_byte(b, ',');
}

void
admin_rows(struct admin_client *c, const char *name)
{
	if (c->no_memory || !has_room(c))
		return;
	write_comma(&c->answer);
	buf_printf(&c->answer, "\"%s\":[", name);
}

void
admin_row(struct admin_client *c, enum admin_shape shape, const void *values)
{
	if (c->no_memory || !has_room(c))
		return;
	write_comma(&c->answer);
	shape_write(&c->answer, shape, values);
}

void
admin_rows_end(struct admin_client *c)
{
	if (!c->no_memory && has_room(c))
		buf_append_byte(&c->answer, ']');
}

void
admin_ask(struct admin_client *c, struct ask *a, unsigned first, unsigned count)
{
	ASSERT(c->state == CLIENT_WORKING && c->ask == NULL);
	c->ask = a;
	ask_start(&c->admin->asker, a, first, count);
}

bool
admin_asked(struct admin_client *c)
{
	ASSERT(c->ask != NULL);
	c->ask = NULL;
	check_stopped_soon(c->admin);
	if (!c->admin->stopping)
		return true;
	admin_refuse(c, ADMIN_SHUTTING_DOWN, NULL);
	return false;
}

unsigned
admin_workers(const struct admin_client *c)
{
	return c->admin->control->crew_count;
}

/* From the file alone: asking a directory server would hold up the thread. */
void
admin_write_who(const struct admin_client *c, struct buf *out)
{
	FILE *users = fopen("/etc/passwd", "re");
	const struct passwd *user = NULL;

	while (users != NULL && (user = fgetpwent(users)) != NULL && user->pw_uid != c->uid)
		continue;
	if (user != NULL)
		buf_printf(out, "%s (uid %u)", user->pw_name, (unsigned)c->uid);
	else
		buf_printf(out, "uid %u", (unsigned)c->uid);
	if (users != NULL)
		fclose(users);
}

static void
begin_request(struct admin_client *c, struct span line)
{
	uint8_t memory[WHY_MAX];
	struct buf why = buf_of(memory, sizeof memory - 1);

	buf_reset(&c->answer);
	c->no_memory = false;
	c->state = CLIENT_WORKING;
	conn_deadline(&c->conn, 0);
	conn_hold(&c->conn);
	enum admin_error e = protocol_read(line, &c->request, &why);
	memory[why.size] = 0;
	conn_consume(&c->conn, line.size + 1);
	if (c->admin->stopping)
		admin_refuse(c, ADMIN_SHUTTING_DOWN, NULL);
	else if (e != ADMIN_OK)
		admin_refuse(c, e, (const char *)memory);
	else
		runs[c->request.command](c);
}

static void
refuse_line(struct admin_client *c)
{
	c->state = CLIENT_WORKING;
	conn_hold(&c->conn);
	conn_consume(&c->conn, conn_input(&c->conn).size);
	admin_refuse(c, ADMIN_BAD_REQUEST, "a request is one line of at most 8 KiB");
	conn_finish(&c->conn, CLOSE_LINE_FLOOD);
}

static void
on_input(struct conn *conn)
{
	struct admin_client *c = CONTAINER_OF(conn, struct admin_client, conn);
	struct span in = conn_input(conn);
	size_t end = span_find(in, '\n', 0);

	if (c->state != CLIENT_READING)
		return;
	if (end < in.size && end < PROTOCOL_REQUEST_MAX)
		begin_request(c, span_first(in, end));
	else if (in.size >= PROTOCOL_REQUEST_MAX)
		refuse_line(c);
	else if (conn_peer_has_ended(conn))
		conn_finish(conn, CLOSE_PEER_CLOSED);
	else
		conn_read_more(conn);
}

static void
wait_for_request(struct admin_client *c)
{
	c->state = CLIENT_READING;
	conn_deadline(&c->conn, c->admin->worker->now_ms + c->admin->timeout_ms);
	conn_run(&c->conn);
}

static void
on_drained(struct conn *conn)
{
	struct admin_client *c = CONTAINER_OF(conn, struct admin_client, conn);

	if (c->state != CLIENT_WRITING)
		return;
	if (c->admin->stopping)
		conn_finish(conn, CLOSE_SHUTDOWN);
	else
		wait_for_request(c);
}

static void
on_deadline(struct conn *conn)
{
	conn_close(conn, CLOSE_TIMEOUT);
}

static void
on_lost(struct conn *conn, enum err e)
{
	(void)e;
	conn_close(conn, CLOSE_RESET);
}

static const struct conn_events client_events = {
	.on_input = on_input,
	.on_drained = on_drained,
	.on_deadline = on_deadline,
	.on_lost = on_lost,
	.on_closed = on_closed,
};

/* A fresh socket takes one line without waiting. */
static void
turn_away(struct admin *a, int fd, enum admin_error e)
{
	uint8_t memory[WHY_MAX];
	struct buf line = buf_of(memory, sizeof memory);

	protocol_write_error(&line, e, span_of_string(protocol_error_text(e)));
	count_answer(a, e);
	METRIC_ADD_LABEL(a->worker->metrics, LIMIT_HITS, LABEL_LIMIT_ADMIN_CLIENTS, 1);
	if (send(fd, line.data, line.size, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
		errno = 0; /* it went away by itself */
	net_close(fd);
}

static void
take_client(struct admin *a, int fd)
{
	struct ucred credentials = { .uid = (uid_t)-1 };
	socklen_t size = sizeof credentials;

	if (a->client_count >= a->clients_max) {
		turn_away(a, fd, ADMIN_TOO_MANY);
		return;
	}
	struct admin_client *c = calloc(1, sizeof *c);
	if (c == NULL || getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &size) != 0) {
		free(c);
		net_close(fd);
		return;
	}
	c->admin = a;
	c->uid = credentials.uid;
	a->client_count++;
	list_append(&a->clients, &c->link);
	conn_init(&c->conn, a->worker, fd, RING_CLIENTS, &client_events);
	wait_for_request(c);
}

/* ---- start and end ---- */

static void
close_listener(struct admin *a)
{
	net_close(a->fd);
	a->fd = -1;
	check_stopped_soon(a);
}

static void
on_accept(struct op *op, struct completion done)
{
	struct admin *a = CONTAINER_OF(op, struct admin, accept);

	if (done.result >= 0 && a->stopping)
		net_close(done.result);
	else if (done.result >= 0)
		take_client(a, done.result);
	if (done.more)
		return;
	if (a->stopping)
		close_listener(a);
	else
		timer_set(&a->worker->timers, &a->again,
			  a->worker->now_ms + (done.result < 0 ? ACCEPT_AGAIN_MS : 0));
}

static void
on_cancelled(struct op *op, struct completion done)
{
	(void)done;
	check_stopped_soon(CONTAINER_OF(op, struct admin, cancel));
}

static void
on_again(struct timer *t)
{
	struct admin *a = CONTAINER_OF(t, struct admin, again);

	if (!a->stopping)
		ring_accept(a->worker->ring, &a->accept, a->fd);
}

static void
on_patience(struct timer *t)
{
	struct admin *a = CONTAINER_OF(t, struct admin, patience);

	for (struct list_node *n = list_first(&a->clients); n != NULL;
	     n = list_next(&a->clients, n))
		conn_close(&LIST_ITEM(n, struct admin_client, link)->conn, CLOSE_SHUTDOWN);
}

void
admin_start(struct admin *a, struct control *control, int fd)
{
	const struct config *config = control->worker.config;

	a->control = control;
	a->worker = &control->worker;
	a->fd = fd;
	a->path = (const char *)config->admin.socket.data;
	a->clients_max = config->admin.clients;
	a->timeout_ms = config->admin.timeout_ms;
	list_init(&a->clients);
	op_init(&a->accept, on_accept);
	op_init(&a->cancel, on_cancelled);
	timer_init(&a->again, on_again);
	timer_init(&a->patience, on_patience);
	task_init(&a->stop_check, check_stopped);
	asker_init(&a->asker, a->worker, control->crew);
	admin_start_rates(a);
	admin_start_suspended(a);
	if (fd >= 0)
		ring_accept(a->worker->ring, &a->accept, fd);
}

void
admin_stop(struct admin *a, void (*on_stopped)(struct admin *a))
{
	ASSERT(!a->stopping);
	a->stopping = true;
	a->on_stopped = on_stopped;
	timer_stop(&a->worker->timers, &a->again);
	admin_stop_rates(a);
	if (a->fd >= 0)
		unlink(a->path);
	if (a->accept.in_kernel)
		ring_cancel(a->worker->ring, &a->cancel, &a->accept);
	else if (a->fd >= 0)
		close_listener(a);
	for (struct list_node *n = list_first(&a->clients); n != NULL;
	     n = list_next(&a->clients, n)) {
		struct admin_client *c = LIST_ITEM(n, struct admin_client, link);
		if (c->state == CLIENT_READING)
			conn_close(&c->conn, CLOSE_SHUTDOWN);
		else if (c->ask != NULL)
			ask_cancel(c->ask);
	}
	timer_set(&a->worker->timers, &a->patience, a->worker->now_ms + FAREWELL_MS);
	check_stopped_soon(a);
}
