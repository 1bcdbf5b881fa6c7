/* SPDX-License-Identifier: Apache-2.0
 *
 * The real machine behind ring.h: io_uring, for kernels from 6.1 on, with liburing 2.3.
 */
#include "core/ring.h"

#include <errno.h>
#include <liburing.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/utsname.h>

#include "core/base/assert.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(memory, size)   ((void)(memory), (void)(size))
#define ASAN_UNPOISON_MEMORY_REGION(memory, size) ((void)(memory), (void)(size))
#endif

enum {
	KERNEL_MAJOR_MIN = 6,
	KERNEL_MINOR_MIN = 1,
	COMPLETIONS_PER_TURN = 256,
	BUFFERS_MAX = 32768, /* what the kernel takes in one ring of buffers */
};

/* user_data of what nobody waits for: a bell, at either end. */
static const uint64_t no_op = 0;

struct buffer_group {
	struct io_uring_buf_ring *shared; /* the free buffers, in the order the kernel takes them */
	uint8_t *memory;
	bool *out; /* by buffer: with its owner (APP), not with the kernel */
	unsigned count;
	unsigned size;      /* bytes of each */
	unsigned available; /* free ones, as far as completions have told */
	/* Receives that wait for a buffer, oldest first. While there is a line, new ones join it.
	 * Who was beaten to a buffer, by a receive that had been armed long ago, stands in `again`,
	 * which goes first: nobody waits for ever. */
	struct list line;
	struct list again;
	uint64_t waits; /* how often somebody got in line */
};

struct ring {
	uint32_t magic;
	struct io_uring uring;
	struct buffer_group groups[RING_GROUPS];
	struct list ended; /* ops that end without the kernel's help */
	size_t ops;
};

#define RING_MAGIC 0x52494e47u

struct harvested {
	struct op *op;
	struct completion c;
};

/* ---- start and end ---- */

static bool
kernel_is_old(struct buf *why)
{
	struct utsname name;
	unsigned major = 0;
	unsigned minor = 0;

	if (uname(&name) != 0 || sscanf(name.release, "%u.%u", &major, &minor) != 2)
		return false;
	if (major > KERNEL_MAJOR_MIN || (major == KERNEL_MAJOR_MIN && minor >= KERNEL_MINOR_MIN))
		return false;
	buf_printf(why, "this is kernel %s; 6.1 or newer is needed: boot a newer kernel",
		   name.release);
	return true;
}

/* What kernel.io_uring_disabled says (0: allowed to all; since kernel 6.6); -1 where unknown. */
static int
sysctl_disabled(void)
{
	int value = -1;
	FILE *f = fopen("/proc/sys/kernel/io_uring_disabled", "re");

	if (f == NULL)
		return -1;
	if (fscanf(f, "%d", &value) != 1)
		value = -1;
	fclose(f);
	return value;
}

static void
explain_setup(int error, struct buf *why)
{
	switch (error) {
	case EPERM:
		if (sysctl_disabled() > 0)
			buf_printf(why, "io_uring is disabled on this machine: "
					"set sysctl kernel.io_uring_disabled=0");
		else
			buf_printf(why, "io_uring is forbidden to this process: allow it in the "
					"container's seccomp profile");
		break;
	case ENOSYS:
		buf_printf(why, "this kernel has no io_uring: use one with CONFIG_IO_URING, or "
				"allow io_uring_setup in the container's seccomp profile");
		break;
	case ENOMEM:
		buf_printf(why, "no memory for an io_uring: raise LimitMEMLOCK or the memory "
				"limit, or use fewer workers or buffers");
		break;
	case EMFILE:
	case ENFILE:
		buf_printf(why, "no descriptor left for an io_uring: raise LimitNOFILE");
		break;
	default:
		buf_printf(why, "io_uring cannot be set up: %s", strerror(error));
	}
}

/* Deferred task work costs a fifth to a half less CPU than none (measured); the others are for
 * kernels that were built without it. */
static int
set_up(struct io_uring *uring, unsigned entries)
{
	static const unsigned attempts[] = {
		IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN,
		IORING_SETUP_COOP_TASKRUN,
		0,
	};
	int failed = -EINVAL;

	for (size_t i = 0; failed == -EINVAL && i < sizeof attempts / sizeof attempts[0]; i++) {
		struct io_uring_params params = {
			.flags = attempts[i] | IORING_SETUP_CQSIZE | IORING_SETUP_SUBMIT_ALL |
				 IORING_SETUP_CLAMP,
			.cq_entries = 4 * entries,
		};
		failed = io_uring_queue_init_params(entries, uring, &params);
	}
	return failed;
}

static size_t
shared_bytes(const struct buffer_group *g)
{
	return g->count * sizeof(struct io_uring_buf);
}

static void
give(struct buffer_group *g, uint16_t id)
{
	uint8_t *buffer = g->memory + (size_t)id * g->size;

	ASAN_POISON_MEMORY_REGION(buffer, g->size);
	g->out[id] = false;
	io_uring_buf_ring_add(g->shared, buffer, g->size, id, io_uring_buf_ring_mask(g->count), 0);
	io_uring_buf_ring_advance(g->shared, 1);
	g->available++;
}

static void *
map(size_t bytes)
{
	void *memory =
		mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	return memory == MAP_FAILED ? NULL : memory;
}

/* liburing 2.3 has no io_uring_setup_buf_ring: the memory is ours, the kernel is told of it. */
static int
group_new(struct ring *r, unsigned number)
{
	struct buffer_group *g = &r->groups[number];

	ASSERT(g->count <= BUFFERS_MAX && (g->count & (g->count - 1)) == 0);
	if (g->count == 0)
		return 0;
	g->shared = map(shared_bytes(g));
	g->memory = map((size_t)g->count * g->size);
	g->out = calloc(g->count, sizeof *g->out);
	if (g->shared == NULL || g->memory == NULL || g->out == NULL)
		return -ENOMEM;

	struct io_uring_buf_reg registration = {
		.ring_addr = (uint64_t)(uintptr_t)g->shared,
		.ring_entries = g->count,
		.bgid = (uint16_t)number,
	};
	int failed = io_uring_register_buf_ring(&r->uring, &registration, 0);
	if (failed != 0)
		return failed;
	io_uring_buf_ring_init(g->shared);
	for (unsigned id = 0; id < g->count; id++)
		give(g, (uint16_t)id);
	return 0;
}

static void
group_free(struct buffer_group *g)
{
	size_t bytes = (size_t)g->count * g->size;

	if (g->shared != NULL)
		munmap(g->shared, shared_bytes(g));
	if (g->memory != NULL) {
		ASAN_UNPOISON_MEMORY_REGION(g->memory, bytes);
		munmap(g->memory, bytes);
	}
	free(g->out);
}

struct ring *
ring_new(const struct ring_options *options, struct buf *why)
{
	struct ring *r;
	int failed;

	if (kernel_is_old(why))
		return NULL;
	r = calloc(1, sizeof *r);
	if (r == NULL) {
		explain_setup(ENOMEM, why);
		return NULL;
	}
	OBJ_INIT(r, RING_MAGIC);
	list_init(&r->ended);
	failed = set_up(&r->uring, options->entries);
	if (failed != 0) {
		explain_setup(-failed, why);
		free(r);
		return NULL;
	}
	for (unsigned i = 0; i < RING_GROUPS && failed == 0; i++) {
		list_init(&r->groups[i].line);
		list_init(&r->groups[i].again);
		r->groups[i].count = options->buffers[i];
		r->groups[i].size = options->buffer_size[i];
		failed = group_new(r, i);
	}
	if (failed != 0) {
		explain_setup(-failed, why);
		ring_free(r);
		return NULL;
	}
	/* Saves looking up the descriptor at every enter. Without it all works as well. */
	(void)io_uring_register_ring_fd(&r->uring);
	return r;
}

void
ring_free(struct ring *r)
{
	OBJ_CHECK(r, RING_MAGIC);
	ASSERT(r->ops == 0);
	io_uring_queue_exit(&r->uring); /* first: then no buffer is the kernel's any more */
	for (unsigned i = 0; i < RING_GROUPS; i++)
		group_free(&r->groups[i]);
	OBJ_FINI(r, RING_MAGIC);
	free(r);
}

/* ---- submission ---- */

/* What an enter may say without anything being wrong with the program: a signal, time is up, no
 * memory for requests at this moment, completions to be fetched first. The next enter goes on with
 * what was not submitted. EBADR would mean that the kernel has lost completions for want of
 * memory: ops would then stay in the kernel for ever, so there is nothing to go on with. */
static void
check_enter(int result)
{
	ASSERT(result >= 0 || result == -EINTR || result == -ETIME || result == -EAGAIN ||
	       result == -EBUSY);
}

static struct io_uring_sqe *
next_sqe(struct ring *r)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&r->uring);

	while (sqe == NULL) {
		/* Completions only get ready in here, they are not handled. */
		check_enter(io_uring_submit_and_get_events(&r->uring));
		sqe = io_uring_get_sqe(&r->uring);
		if (sqe == NULL)
			sched_yield(); /* EAGAIN: the kernel is short of memory */
	}
	return sqe;
}

/* From here on the op is the kernel's. */
static void
begin(struct ring *r, struct op *op)
{
	ASSERT(r->magic == RING_MAGIC);
	OBJ_CHECK(op, OP_MAGIC);
	ASSERT(!op->in_kernel);
	op->in_kernel = true;
	op->cancelled = false;
	op->receives = false;
	r->ops++;
}

static struct io_uring_sqe *
begin_sqe(struct ring *r, struct op *op)
{
	begin(r, op);
	struct io_uring_sqe *sqe = next_sqe(r);
	io_uring_sqe_set_data(sqe, op); /* io_uring_prep_… leave it alone */
	return sqe;
}

/* Ends an op that the kernel knows nothing of; told by the next ring_complete. */
static void
end_without_kernel(struct ring *r, struct op *op, int32_t result)
{
	ASSERT(op->in_kernel);
	op->result = result;
	list_append(&r->ended, &op->waiting);
}

/* An attempt without bytes in the socket would take a buffer and put it back, and fail where none
 * is free. So a receive asks for bytes first, unless it is known that there are some. */
static void
arm_receive(struct ring *r, struct op *op)
{
	struct io_uring_sqe *sqe = next_sqe(r);

	io_uring_sqe_set_data(sqe, op);
	io_uring_prep_recv(sqe, op->fd, NULL, 0, 0);
	if (!op->more_waits)
		sqe->ioprio |= IORING_RECVSEND_POLL_FIRST;
	sqe->flags |= IOSQE_BUFFER_SELECT;
	sqe->buf_group = op->group;
}

static bool
has_line(const struct buffer_group *g)
{
	return !list_is_empty(&g->again) || !list_is_empty(&g->line);
}

/* Arms as many of the line as there are buffers. True: more could be armed, come again soon. */
static bool
arm_line(struct ring *r, struct buffer_group *g)
{
	for (unsigned n = g->available; n > 0; n--) {
		struct list_node *node = list_shift(&g->again);

		if (node == NULL)
			node = list_shift(&g->line);
		if (node == NULL)
			return false;
		arm_receive(r, LIST_ITEM(node, struct op, waiting));
	}
	return g->available > 0 && has_line(g);
}

unsigned
ring_wait(struct ring *r, uint64_t timeout_us)
{
	struct io_uring *uring = &r->uring;
	bool ready = !list_is_empty(&r->ended);

	ASSERT(r->magic == RING_MAGIC);
	for (unsigned i = 0; i < RING_GROUPS; i++)
		ready |= arm_line(r, &r->groups[i]);
	if (timeout_us == 0 || ready || io_uring_cq_ready(uring) > 0) {
		/* Deferred task work runs only in an enter that asks for events. */
		check_enter(io_uring_submit_and_get_events(uring));
	} else {
		struct io_uring_cqe *first;
		struct __kernel_timespec most = {
			.tv_sec = (long long)(timeout_us / 1000000),
			.tv_nsec = (long long)(timeout_us % 1000000 * 1000),
		};
		check_enter(io_uring_submit_and_wait_timeout(uring, &first, 1, &most, NULL));
	}
	return io_uring_cq_ready(uring) + !list_is_empty(&r->ended);
}

size_t
ring_ops(const struct ring *r)
{
	return r->ops;
}

void
ring_bell(struct ring *r, struct ring *target)
{
	ASSERT(r->magic == RING_MAGIC && target->magic == RING_MAGIC);
	ASSERT(r != target);
	struct io_uring_sqe *sqe = next_sqe(r);

	io_uring_prep_msg_ring(sqe, target->uring.ring_fd, 0, no_op, 0);
	/* A failure still completes, and is ignored: a target whose completion queue is full
	 * (EOVERFLOW) is not asleep. */
	sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
	sqe->user_data = no_op;
}

/* ---- completion ---- */

/* The buffer of a completion changes hands. Without bytes in it, it goes straight back. */
static bool
take_buffer(struct ring *r, struct op *op, const struct io_uring_cqe *cqe, uint16_t *id)
{
	if ((cqe->flags & IORING_CQE_F_BUFFER) == 0)
		return false;
	struct buffer_group *g = &r->groups[op->group];
	*id = (uint16_t)(cqe->flags >> IORING_CQE_BUFFER_SHIFT);
	ASSERT(*id < g->count && !g->out[*id] && g->available > 0);
	g->available--;
	if (cqe->res <= 0) {
		give(g, *id);
		return false;
	}
	g->out[*id] = true;
	ASAN_UNPOISON_MEMORY_REGION(ring_buffer(r, op->group, *id), g->size);
	return true;
}

/* A receive that found no buffer: to the line, unless somebody wants it to end. */
static bool
gets_in_line(struct ring *r, struct op *op, const struct io_uring_cqe *cqe)
{
	if (cqe->res != -ENOBUFS || !op->receives || op->cancelled)
		return false;
	struct buffer_group *g = &r->groups[op->group];
	/* It asked for bytes before it asked for a buffer, so it has some. */
	op->more_waits = true;
	list_append(op->result == -ENOBUFS ? &g->again : &g->line, &op->waiting);
	op->result = -ENOBUFS;
	g->waits++;
	return true;
}

/* Reads one completion. False where its owner need not know. */
static bool
read_cqe(struct ring *r, const struct io_uring_cqe *cqe, struct harvested *out)
{
	struct op *op = io_uring_cqe_get_data(cqe);

	if (op == NULL)
		return false; /* a bell */
	OBJ_CHECK(op, OP_MAGIC);
	ASSERT(op->in_kernel);
	if (gets_in_line(r, op, cqe))
		return false;
	out->op = op;
	out->c = (struct completion){
		.result = cqe->res,
		.more = (cqe->flags & IORING_CQE_F_MORE) != 0,
	};
	if (cqe->res == -ENOBUFS && op->receives)
		out->c.result = -ECANCELED;
	op->more_waits = (cqe->flags & IORING_CQE_F_SOCK_NONEMPTY) != 0;
	out->c.has_buffer = take_buffer(r, op, cqe, &out->c.buffer_id);
	return true;
}

static unsigned
harvest(struct ring *r, struct harvested all[COMPLETIONS_PER_TURN])
{
	struct io_uring_cqe *cqe;
	struct list_node *node;
	unsigned seen = 0;
	unsigned n = 0;
	unsigned head;

	io_uring_for_each_cqe(&r->uring, head, cqe)
	{
		if (n == COMPLETIONS_PER_TURN)
			break;
		n += read_cqe(r, cqe, &all[n]);
		seen++;
	}
	io_uring_cq_advance(&r->uring, seen);
	while (n < COMPLETIONS_PER_TURN && (node = list_shift(&r->ended)) != NULL) {
		struct op *op = LIST_ITEM(node, struct op, waiting);
		all[n++] = (struct harvested){ op, { .result = op->result } };
	}
	return n;
}

unsigned
ring_complete(struct ring *r)
{
	struct harvested all[COMPLETIONS_PER_TURN];
	unsigned n = harvest(r, all);

	for (unsigned i = 0; i < n; i++) {
		struct op *op = all[i].op;

		OBJ_CHECK(op, OP_MAGIC);
		if (!all[i].c.more) {
			op->in_kernel = false;
			r->ops--;
		}
		op->on_done(op, all[i].c);
	}
	return n;
}

/* ---- network ---- */

void
ring_accept(struct ring *r, struct op *op, int listener)
{
	struct io_uring_sqe *sqe = begin_sqe(r, op);
	io_uring_prep_multishot_accept(sqe, listener, NULL, NULL, SOCK_CLOEXEC);
}

void
ring_connect(struct ring *r, struct op *op, int fd, const struct sockaddr *address, socklen_t size)
{
	struct io_uring_sqe *sqe = begin_sqe(r, op);
	io_uring_prep_connect(sqe, fd, address, size);
}

void
ring_receive(struct ring *r, struct op *op, int fd, enum ring_group group)
{
	ASSERT(group < RING_GROUPS && r->groups[group].count > 0);
	begin(r, op);
	op->receives = true;
	op->group = (uint8_t)group;
	op->result = 0;
	/* The memory of one socket must not speed up another. */
	op->more_waits = op->more_waits && op->fd == fd;
	op->fd = fd;
	if (!has_line(&r->groups[group])) {
		arm_receive(r, op);
		return;
	}
	/* Else one that always has more to read would take each buffer that comes back. */
	op->result = -ENOBUFS;
	list_append(&r->groups[group].line, &op->waiting);
	r->groups[group].waits++;
}

/* The kernel retries short sends where MSG_WAITALL is set (since 6.0). */
void
ring_send(struct ring *r, struct op *op, int fd, const void *data, size_t size)
{
	struct io_uring_sqe *sqe = begin_sqe(r, op);
	ASSERT(size > 0 && size <= INT32_MAX);
	io_uring_prep_send(sqe, fd, data, size, MSG_WAITALL | MSG_NOSIGNAL);
}

void
ring_send_message(struct ring *r, struct op *op, int fd, const struct msghdr *message)
{
	struct io_uring_sqe *sqe = begin_sqe(r, op);
	io_uring_prep_sendmsg(sqe, fd, message, MSG_WAITALL | MSG_NOSIGNAL);
}

void
ring_shutdown(struct ring *r, struct op *op, int fd)
{
	begin(r, op);
	/* The ring would have a kernel thread do it, always, which costs a wake-up and a change of
	 * context; the call itself sends a FIN and does not block. */
	end_without_kernel(r, op, shutdown(fd, SHUT_WR) == 0 ? 0 : -errno);
}

void
ring_poll(struct ring *r, struct op *op, int fd, unsigned events)
{
	struct io_uring_sqe *sqe = begin_sqe(r, op);
	io_uring_prep_poll_add(sqe, fd, events);
}

/* ---- files ---- */

void
ring_open(struct ring *r, struct op *op, int directory, const char *path, int flags, mode_t mode)
{
	struct io_uring_sqe *sqe = begin_sqe(r, op);
	io_uring_prep_openat(sqe, directory, path, flags | O_CLOEXEC, mode);
}

void
ring_read(struct ring *r, struct op *op, int fd, void *data, size_t size, uint64_t offset)
{
	struct io_uring_sqe *sqe = begin_sqe(r, op);
	ASSERT(size <= INT32_MAX);
	io_uring_prep_read(sqe, fd, data, (unsigned)size, offset);
}

void
ring_write(struct ring *r, struct op *op, int fd, const void *data, size_t size, uint64_t offset)
{
	struct io_uring_sqe *sqe = begin_sqe(r, op);
	ASSERT(size <= INT32_MAX);
	io_uring_prep_write(sqe, fd, data, (unsigned)size, offset);
}

void
ring_write_durable(struct ring *r, struct op *op, int fd, const void *data, size_t size,
		   uint64_t offset)
{
	struct io_uring_sqe *sqe = begin_sqe(r, op);
	ASSERT(size <= INT32_MAX);
	io_uring_prep_write(sqe, fd, data, (unsigned)size, offset);
	sqe->rw_flags = RWF_DSYNC;
}

void
ring_sync(struct ring *r, struct op *op, int fd)
{
	struct stat about;
	bool directory = fstat(fd, &about) == 0 && S_ISDIR(about.st_mode);
	struct io_uring_sqe *sqe = begin_sqe(r, op);

	io_uring_prep_fsync(sqe, fd, directory ? 0 : IORING_FSYNC_DATASYNC);
}

void
ring_allocate(struct ring *r, struct op *op, int fd, uint64_t offset, uint64_t size)
{
	struct io_uring_sqe *sqe = begin_sqe(r, op);
	ASSERT(offset <= INT64_MAX && size <= INT64_MAX);
	io_uring_prep_fallocate(sqe, fd, 0, (off_t)offset, (off_t)size);
}

void
ring_unlink(struct ring *r, struct op *op, int directory, const char *path)
{
	struct io_uring_sqe *sqe = begin_sqe(r, op);
	io_uring_prep_unlinkat(sqe, directory, path, 0);
}

void
ring_rename(struct ring *r, struct op *op, int directory, const char *from, const char *to)
{
	struct io_uring_sqe *sqe = begin_sqe(r, op);
	io_uring_prep_renameat(sqe, directory, from, directory, to, 0);
}

/* ---- ends ---- */

void
ring_close(struct ring *r, struct op *op, int fd)
{
	struct io_uring_sqe *sqe = begin_sqe(r, op);
	io_uring_prep_close(sqe, fd);
}

void
ring_cancel(struct ring *r, struct op *op, struct op *target)
{
	ASSERT(op != target);
	OBJ_CHECK(target, OP_MAGIC);
	if (target->in_kernel && !list_is_linked(&target->waiting)) {
		/* Kept, because the target may just have failed for want of a buffer: then the
		 * kernel finds nothing to cancel, and it must not get in line. */
		target->cancelled = true;
		struct io_uring_sqe *sqe = begin_sqe(r, op);
		io_uring_prep_cancel(sqe, target, 0);
		return;
	}
	begin(r, op);
	/* In a line; or it has ended already, in the kernel or without. */
	bool in_line = target->in_kernel && target->receives && !target->cancelled;
	if (in_line) {
		list_unlink(&target->waiting);
		target->cancelled = true;
		end_without_kernel(r, target, -ECANCELED);
	}
	end_without_kernel(r, op, in_line ? 0 : -ENOENT);
}

/* ---- receive buffers ---- */

uint8_t *
ring_buffer(struct ring *r, enum ring_group group, uint16_t buffer_id)
{
	const struct buffer_group *g = &r->groups[group];

	ASSERT(buffer_id < g->count && g->out[buffer_id]);
	return g->memory + (size_t)buffer_id * g->size;
}

void
ring_buffer_put(struct ring *r, enum ring_group group, uint16_t buffer_id)
{
	struct buffer_group *g = &r->groups[group];

	ASSERT(buffer_id < g->count && g->out[buffer_id]);
	give(g, buffer_id);
}

size_t
ring_buffer_size(const struct ring *r, enum ring_group group)
{
	return r->groups[group].size;
}

uint64_t
ring_buffer_waits(const struct ring *r, enum ring_group group)
{
	return r->groups[group].waits;
}
