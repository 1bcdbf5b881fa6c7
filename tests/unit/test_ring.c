/* SPDX-License-Identifier: Apache-2.0 */
/* test: uses core machine threads */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/disk.h"
#include "core/ring.h"

enum { WAIT_US = 10 * 1000 * 1000, MANY = 1000 };

/* An op that remembers what it was told. */
struct probe {
	struct op op;
	struct completion last;
	unsigned calls;
	unsigned order; /* its last completion was the how many-th of the test */
};

static unsigned completions;

static void
remember(struct op *op, struct completion c)
{
	struct probe *p = CONTAINER_OF(op, struct probe, op);

	assert_int_equal(op->in_kernel, c.more);
	p->last = c;
	p->calls++;
	p->order = completions++;
}

static struct ring *
new_ring(unsigned entries, unsigned buffers)
{
	char text[256];
	struct buf why = buf_of(text, sizeof text);
	struct ring_options options = {
		.entries = entries,
		.buffers = { buffers, buffers },
		.buffer_size = { 4096, 4096 },
	};
	struct ring *r = ring_new(&options, &why);

	if (r == NULL)
		fail_msg("%.*s", (int)why.size, text);
	completions = 0;
	return r;
}

static void
probe_init(struct probe *p)
{
	*p = (struct probe){ 0 };
	op_init(&p->op, remember);
}

static int32_t
finish(struct ring *r, struct probe *p)
{
	while (p->op.in_kernel) {
		assert_int_not_equal(ring_wait(r, WAIT_US), 0);
		ring_complete(r);
	}
	return p->last.result;
}

/* Handles what is ready, until nothing more comes at once. */
static void
settle(struct ring *r)
{
	while (ring_wait(r, 0) > 0)
		ring_complete(r);
	/* Re-armed receives complete in the enter after the one that armed them. */
	while (ring_wait(r, 0) > 0)
		ring_complete(r);
}

static void
pair(int fds[2])
{
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
}

static void
files_are_written_read_renamed_and_removed(void **state)
{
	char path[] = "/tmp/test_ring.XXXXXX";
	struct ring *r = new_ring(8, 0);
	struct probe p;
	char *data = NULL;
	bool direct = true;

	(void)state;
	assert_non_null(mkdtemp(path));
	int directory = disk_open_directory(AT_FDCWD, path, false);
	assert_true(directory >= 0);
	assert_int_equal(posix_memalign((void **)&data, 4096, 8192), 0);
	memset(data, 'x', 4096);

	probe_init(&p);
	ring_open(r, &p.op, directory, "a", O_RDWR | O_CREAT, 0600);
	int fd = finish(r, &p);
	assert_true(fd >= 0);
	assert_true((fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
	ring_allocate(r, &p.op, fd, 0, 8192);
	assert_int_equal(finish(r, &p), 0);
	assert_int_equal(disk_size(fd), 8192);
	ring_write_durable(r, &p.op, fd, data, 4096, 4096);
	assert_int_equal(finish(r, &p), 4096);
	ring_write(r, &p.op, fd, "begin", 5, 0);
	assert_int_equal(finish(r, &p), 5);
	ring_sync(r, &p.op, fd);
	assert_int_equal(finish(r, &p), 0);
	memset(data, 0, 8192);
	ring_read(r, &p.op, fd, data, 8192, 0);
	assert_int_equal(finish(r, &p), 8192);
	assert_memory_equal(data, "begin\0", 6);
	assert_int_equal(data[4096], 'x');
	ring_close(r, &p.op, fd);
	assert_int_equal(finish(r, &p), 0);
	assert_int_equal(fcntl(fd, F_GETFD), -1);

	ring_rename(r, &p.op, directory, "a", "b");
	assert_int_equal(finish(r, &p), 0);
	ring_sync(r, &p.op, directory);
	assert_int_equal(finish(r, &p), 0);
	ring_open(r, &p.op, directory, "a", O_RDONLY, 0);
	assert_int_equal(finish(r, &p), -ENOENT);

	fd = disk_open(directory, "b", O_RDWR, 0, &direct);
	assert_true(fd >= 0);
	assert_true(disk_lock(fd));
	assert_int_equal(disk_read(fd, data, 8192, 0), ERR_OK);
	assert_int_equal(data[8191], 'x');
	assert_int_equal(disk_read(fd, data, 8192, 4096), ERR_CORRUPT);
	disk_close(fd);
	ring_unlink(r, &p.op, directory, "b");
	assert_int_equal(finish(r, &p), 0);
	disk_close(directory);
	assert_int_equal(rmdir(path), 0);
	free(data);
	ring_free(r);
}

static int
listen_on_loopback(struct sockaddr_in *address)
{
	socklen_t size = sizeof *address;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	*address = (struct sockaddr_in){ .sin_family = AF_INET,
					 .sin_addr = { htonl(INADDR_LOOPBACK) } };
	assert_int_equal(bind(fd, (struct sockaddr *)address, sizeof *address), 0);
	assert_int_equal(listen(fd, 16), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)address, &size), 0);
	return fd;
}

static void
a_listener_accepts_again_and_again(void **state)
{
	struct ring *r = new_ring(8, 4);
	struct sockaddr_in address;
	int listener = listen_on_loopback(&address);
	struct probe accept, connect, cancel;

	(void)state;
	probe_init(&accept);
	probe_init(&cancel);
	ring_accept(r, &accept.op, listener);
	for (unsigned i = 1; i <= 3; i++) {
		int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		probe_init(&connect);
		ring_connect(r, &connect.op, fd, (struct sockaddr *)&address, sizeof address);
		assert_int_equal(finish(r, &connect), 0);
		while (accept.calls < i) {
			assert_int_not_equal(ring_wait(r, WAIT_US), 0);
			ring_complete(r);
		}
		assert_true(accept.last.more);
		assert_true(accept.last.result >= 0);
		close(accept.last.result);
		close(fd);
	}
	ring_cancel(r, &cancel.op, &accept.op);
	assert_int_equal(finish(r, &cancel), 0);
	assert_int_equal(finish(r, &accept), -ECANCELED);
	close(listener);

	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ring_connect(r, &connect.op, fd, (struct sockaddr *)&address, sizeof address);
	assert_int_equal(finish(r, &connect), -ECONNREFUSED);
	close(fd);
	ring_free(r);
}

static void
bytes_come_in_a_buffer_and_the_end_without_one(void **state)
{
	struct ring *r = new_ring(8, 4);
	struct probe in, out;
	int fds[2];

	(void)state;
	pair(fds);
	probe_init(&in);
	probe_init(&out);
	/* More rounds than there are buffers: each one comes back. */
	for (unsigned i = 0; i < 10; i++) {
		ring_receive(r, &in.op, fds[0], RING_PEERS);
		ring_send(r, &out.op, fds[1], "hello", 5);
		assert_int_equal(finish(r, &in), 5);
		assert_true(in.last.has_buffer);
		assert_memory_equal(ring_buffer(r, RING_PEERS, in.last.buffer_id), "hello", 5);
		ring_buffer_put(r, RING_PEERS, in.last.buffer_id);
		assert_int_equal(finish(r, &out), 5);
	}
	ring_receive(r, &in.op, fds[0], RING_PEERS);
	ring_shutdown(r, &out.op, fds[1]);
	assert_int_equal(finish(r, &in), 0);
	assert_false(in.last.has_buffer);
	assert_int_equal(finish(r, &out), 0);
	close(fds[0]);
	ring_send(r, &out.op, fds[1], "hello", 5);
	assert_int_equal(finish(r, &out), -EPIPE);
	ring_poll(r, &out.op, fds[1], POLLIN);
	assert_true((finish(r, &out) & POLLHUP) != 0);
	close(fds[1]);
	ring_free(r);
}

static void
a_send_is_whole_however_slow_the_reader(void **state)
{
	enum { SIZE = 4 * 1024 * 1024 };
	struct ring *r = new_ring(8, 4);
	char *data = calloc(1, SIZE);
	struct probe in, out;
	size_t received = 0;
	int fds[2];

	(void)state;
	pair(fds);
	probe_init(&in);
	probe_init(&out);
	ring_send(r, &out.op, fds[1], data, SIZE);
	while (received < SIZE) {
		ring_receive(r, &in.op, fds[0], RING_CLIENTS);
		assert_true(finish(r, &in) > 0);
		received += (size_t)in.last.result;
		ring_buffer_put(r, RING_CLIENTS, in.last.buffer_id);
	}
	assert_int_equal(finish(r, &out), SIZE);
	assert_int_equal(out.calls, 1);
	close(fds[0]);
	close(fds[1]);
	free(data);
	ring_free(r);
}

/* Four buffers, a thousand clients that all have something to say. While four of them sit on the
 * buffers nobody else of their group is served, and the other group is; then each buffer that
 * comes back serves the next in line. */
static void
four_buffers_serve_a_thousand(void **state)
{
	struct ring *r = new_ring(64, 4);
	struct probe *all = calloc(MANY, sizeof *all);
	int(*fds)[2] = calloc(MANY, sizeof *fds);
	struct probe peer;
	int peer_fds[2];

	(void)state;
	for (unsigned i = 0; i < MANY; i++) {
		pair(fds[i]);
		probe_init(&all[i]);
		ring_receive(r, &all[i].op, fds[i][0], RING_CLIENTS);
		assert_int_equal(write(fds[i][1], "x", 1), 1);
	}
	settle(r);
	assert_int_equal(completions, 4);
	assert_true(ring_buffer_waits(r, RING_CLIENTS) >= MANY - 4);
	assert_int_equal(ring_ops(r), MANY - 4);

	pair(peer_fds);
	probe_init(&peer);
	ring_receive(r, &peer.op, peer_fds[0], RING_PEERS);
	assert_int_equal(write(peer_fds[1], "y", 1), 1);
	assert_int_equal(finish(r, &peer), 1);
	assert_int_equal(completions, 5);

	for (unsigned next = 4; next < MANY; next++) {
		/* The one who was served longest ago gives its buffer back. */
		struct probe *holder = &all[next - 4];
		assert_true(holder->last.has_buffer);
		ring_buffer_put(r, RING_CLIENTS, holder->last.buffer_id);
		assert_int_equal(finish(r, &all[next]), 1);
		assert_int_equal(all[next].order, next + 1);
	}
	assert_int_equal(ring_ops(r), 0);
	for (unsigned i = 0; i < MANY; i++) {
		close(fds[i][0]);
		close(fds[i][1]);
	}
	close(peer_fds[0]);
	close(peer_fds[1]);
	free(all);
	free(fds);
	ring_free(r);
}

/* Who always has more to say gets the only buffer in turns with the others, not before them. */
static void
a_talker_does_not_overtake_the_line(void **state)
{
	struct ring *r = new_ring(8, 1);
	static const char bytes[4 * 4096];
	struct probe talker, others[2];
	int a[2], b[2][2];

	(void)state;
	pair(a);
	probe_init(&talker);
	assert_int_equal(write(a[1], bytes, sizeof bytes), sizeof bytes);
	ring_receive(r, &talker.op, a[0], RING_CLIENTS);
	assert_int_equal(finish(r, &talker), 4096);
	for (unsigned i = 0; i < 2; i++) {
		pair(b[i]);
		probe_init(&others[i]);
		assert_int_equal(write(b[i][1], "x", 1), 1);
		ring_receive(r, &others[i].op, b[i][0], RING_CLIENTS);
	}
	settle(r);

	ring_buffer_put(r, RING_CLIENTS, talker.last.buffer_id);
	ring_receive(r, &talker.op, a[0], RING_CLIENTS);
	for (unsigned i = 0; i < 2; i++) {
		finish(r, &others[i]);
		assert_int_equal(talker.calls, 1);
		assert_int_equal(others[i].order, i + 1);
		ring_buffer_put(r, RING_CLIENTS, others[i].last.buffer_id);
	}
	assert_int_equal(finish(r, &talker), 4096);
	for (unsigned i = 0; i < 2; i++) {
		close(a[i]);
		close(b[i][0]);
		close(b[i][1]);
	}
	ring_free(r);
}

static void
a_cancel_is_two_completions(void **state)
{
	struct ring *r = new_ring(8, 4);
	struct probe in, cancel;
	int fds[2];

	(void)state;
	pair(fds);
	probe_init(&in);
	probe_init(&cancel);
	ring_receive(r, &in.op, fds[0], RING_CLIENTS);
	ring_cancel(r, &cancel.op, &in.op);
	assert_true(in.op.in_kernel && cancel.op.in_kernel);
	assert_int_equal(finish(r, &in), -ECANCELED);
	assert_int_equal(finish(r, &cancel), 0);
	/* Of what has ended already. */
	ring_cancel(r, &cancel.op, &in.op);
	assert_int_equal(cancel.calls, 1);
	assert_int_equal(finish(r, &cancel), -ENOENT);
	assert_int_equal(in.calls, 1);
	close(fds[0]);
	close(fds[1]);
	ring_free(r);
}

/* Receives in all positions around a missing buffer: in the line, and failed but not yet told. */
static void
a_receive_in_line_can_be_cancelled(void **state)
{
	struct ring *r = new_ring(8, 1);
	struct probe holder, in, cancel;
	int a[2], b[2];

	(void)state;
	pair(a);
	pair(b);
	probe_init(&holder);
	probe_init(&in);
	probe_init(&cancel);
	assert_int_equal(write(a[1], "x", 1), 1);
	ring_receive(r, &holder.op, a[0], RING_CLIENTS);
	assert_int_equal(finish(r, &holder), 1);

	assert_int_equal(write(b[1], "y", 1), 1);
	ring_receive(r, &in.op, b[0], RING_CLIENTS);
	settle(r);
	assert_int_equal(in.calls, 0);
	ring_cancel(r, &cancel.op, &in.op);
	assert_int_equal(in.calls, 0); /* never inside the call */
	assert_int_equal(finish(r, &in), -ECANCELED);
	assert_int_equal(finish(r, &cancel), 0);

	ring_receive(r, &in.op, b[0], RING_CLIENTS);
	while (ring_wait(r, 0) == 0)
		;
	ring_cancel(r, &cancel.op, &in.op);
	assert_int_equal(finish(r, &in), -ECANCELED);
	finish(r, &cancel);
	assert_int_equal(ring_ops(r), 0);

	/* The byte is still there for the next receive. */
	ring_buffer_put(r, RING_CLIENTS, holder.last.buffer_id);
	ring_receive(r, &in.op, b[0], RING_CLIENTS);
	assert_int_equal(finish(r, &in), 1);
	for (unsigned i = 0; i < 2; i++) {
		close(a[i]);
		close(b[i]);
	}
	ring_free(r);
}

static void
more_ops_than_the_queue_has_places(void **state)
{
	struct ring *r = new_ring(4, 4);
	struct probe *all = calloc(MANY, sizeof *all);
	struct probe *cancels = calloc(MANY, sizeof *cancels);
	int fds[2];

	(void)state;
	pair(fds);
	for (unsigned i = 0; i < MANY; i++) {
		probe_init(&all[i]);
		probe_init(&cancels[i]);
		ring_poll(r, &all[i].op, fds[0], POLLIN);
	}
	for (unsigned i = 0; i < MANY; i++)
		ring_cancel(r, &cancels[i].op, &all[i].op);
	for (unsigned i = 0; i < MANY; i++) {
		assert_int_equal(finish(r, &all[i]), -ECANCELED);
		assert_int_equal(finish(r, &cancels[i]), 0);
		assert_int_equal(all[i].calls, 1);
	}
	close(fds[0]);
	close(fds[1]);
	free(all);
	free(cancels);
	ring_free(r);
}

static void
a_wait_ends_when_its_time_is_up(void **state)
{
	struct ring *r = new_ring(4, 0);
	uint64_t before_us = clock_monotonic_us();

	(void)state;
	assert_int_equal(ring_wait(r, 0), 0);
	assert_int_equal(ring_wait(r, 20000), 0);
	assert_true(clock_monotonic_us() - before_us >= 20000);
	ring_free(r);
}

static pthread_barrier_t bell_has_rung;

static void *
sleep_on_a_ring(void *context)
{
	_Atomic(struct ring *) *shown = context;
	struct ring *r = new_ring(4, 0);
	uint64_t before_us = clock_monotonic_us();

	atomic_store(shown, r);
	assert_int_not_equal(ring_wait(r, WAIT_US), 0);
	assert_int_equal(ring_complete(r), 0);
	assert_true(clock_monotonic_us() - before_us < WAIT_US / 2);
	pthread_barrier_wait(&bell_has_rung); /* whoever may still ring needs the ring */
	ring_free(r);
	return NULL;
}

static void
a_bell_wakes_the_thread_of_another_ring(void **state)
{
	_Atomic(struct ring *) target = NULL;
	struct ring *mine = new_ring(4, 0);
	struct ring *r;
	pthread_t sleeper;

	(void)state;
	pthread_barrier_init(&bell_has_rung, NULL, 2);
	assert_int_equal(pthread_create(&sleeper, NULL, sleep_on_a_ring, &target), 0);
	while ((r = atomic_load(&target)) == NULL)
		;
	ring_bell(mine, r);
	assert_int_equal(ring_wait(mine, 0), 0); /* the ringer hears nothing of it */
	pthread_barrier_wait(&bell_has_rung);
	pthread_join(sleeper, NULL);
	pthread_barrier_destroy(&bell_has_rung);
	ring_free(mine);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(files_are_written_read_renamed_and_removed),
		cmocka_unit_test(a_listener_accepts_again_and_again),
		cmocka_unit_test(bytes_come_in_a_buffer_and_the_end_without_one),
		cmocka_unit_test(a_send_is_whole_however_slow_the_reader),
		cmocka_unit_test(four_buffers_serve_a_thousand),
		cmocka_unit_test(a_talker_does_not_overtake_the_line),
		cmocka_unit_test(a_cancel_is_two_completions),
		cmocka_unit_test(a_receive_in_line_can_be_cancelled),
		cmocka_unit_test(more_ops_than_the_queue_has_places),
		cmocka_unit_test(a_wait_ends_when_its_time_is_up),
		cmocka_unit_test(a_bell_wakes_the_thread_of_another_ring),
	};
	struct rlimit descriptors;

	getrlimit(RLIMIT_NOFILE, &descriptors);
	descriptors.rlim_cur = descriptors.rlim_max;
	setrlimit(RLIMIT_NOFILE, &descriptors);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
