/* SPDX-License-Identifier: Apache-2.0
 *
 * core/ring.h over the simulated disk and network. Operations belong to the incarnation: what is
 * here lives in the child's memory. Each waits for its time (files) or its condition (network),
 * takes effect in one step, and is then a completion that the relay has yet to see.
 */
#include "core/ring.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/assert.h"
#include "tests/fault/sim.h"
#include "tests/fault/sim_files.h"
#include "tests/fault/sim_machine.h"
#include "tests/fault/sim_net.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(memory, size)   ((void)(memory), (void)(size))
#define ASAN_UNPOISON_MEMORY_REGION(memory, size) ((void)(memory), (void)(size))
#endif

enum { COMPLETIONS_PER_TURN = 64, RINGS_MAX = 64 };
enum { DIRECT = 4096 }; /* alignment of everything where the file is O_DIRECT */

/* What fills memory that the kernel will write to, to see that nobody else does. */
static const uint8_t lent_pattern = 0xa5;

enum kind {
	KIND_ACCEPT,
	KIND_CONNECT,
	KIND_RECEIVE,
	KIND_SEND,
	KIND_SHUTDOWN,
	KIND_POLL,
	KIND_OPEN,
	KIND_READ,
	KIND_WRITE,
	KIND_WRITE_DURABLE,
	KIND_SYNC,
	KIND_ALLOCATE,
	KIND_UNLINK,
	KIND_RENAME,
	KIND_CLOSE,
	KIND_CANCEL,
	KIND_NONE, /* ended without being tried */
};

static const char *const kind_names[] = {
	"accept", "connect", "receive", "send",          "shutdown", "poll",
	"open",   "read",    "write",   "write_durable", "sync",     "allocate",
	"unlink", "rename",  "close",   "cancel",        "none",
};

struct pending {
	struct list_node node; /* the ring's queued, pending or done */
	enum kind kind;
	struct ring *ring;
	struct op *op;
	struct completion c;
	int fd;
	struct sim_file *file; /* the kernel's own reference */
	struct sim_socket *socket;
	struct sim_listener *listener;
	const void *data; /* lent */
	void *memory;     /* lent, to be written */
	size_t size;
	size_t sent;
	uint64_t offset;
	int flags;
	const char *path[2]; /* lent */
	uint64_t checksum;   /* of all that is lent to be read */
	const struct msghdr *message;
	struct op *target;
	uint64_t ready_us; /* UINT64_MAX: waits for its condition */
	uint64_t number;   /* of a durable write */
	bool direct;
	bool cancelled;
	bool in_line; /* had to wait for a receive buffer */
};

struct group {
	uint8_t *memory;
	bool *out; /* with the relay */
	unsigned count;
	unsigned size;
	unsigned available;
	uint64_t waits;
};

struct ring {
	uint32_t magic;
	unsigned number;
	unsigned node;       /* of the relay that made it */
	struct list queued;  /* not yet submitted: lent, but unknown to the kernel */
	struct list pending; /* in the kernel */
	struct list done;    /* completed, not yet harvested */
	struct group groups[RING_GROUPS];
	size_t ops;
	bool rung;
};

#define RING_MAGIC 0x53494d52u

static struct ring *rings[RINGS_MAX];
static uint64_t durable_writes;
static const struct sim_watch *watch;

void
sim_ring_watch(const struct sim_watch *w)
{
	watch = w;
}

/* ---- life ---- */

static void
group_init(struct group *g, unsigned count, unsigned size)
{
	*g = (struct group){ .count = count, .size = size, .available = count };
	if (count == 0)
		return;
	ASSERT((count & (count - 1)) == 0);
	g->memory = malloc((size_t)count * size);
	g->out = calloc(count, sizeof *g->out);
	ASSERT(g->memory != NULL && g->out != NULL);
	ASAN_POISON_MEMORY_REGION(g->memory, (size_t)count * size);
}

struct ring *
ring_new(const struct ring_options *options, struct buf *why)
{
	struct ring *r = calloc(1, sizeof *r);
	unsigned number = 0;

	(void)why;
	ASSERT(r != NULL);
	while (rings[number] != NULL)
		number++;
	ASSERT(number < RINGS_MAX);
	rings[number] = r;
	r->magic = RING_MAGIC;
	r->number = number;
	r->node = world->node;
	list_init(&r->queued);
	list_init(&r->pending);
	list_init(&r->done);
	for (unsigned i = 0; i < RING_GROUPS; i++)
		group_init(&r->groups[i], options->buffers[i], options->buffer_size[i]);
	return r;
}

static void
check_ring_empty(const struct ring *r)
{
	const struct list *lists[] = { &r->queued, &r->pending, &r->done };

	for (unsigned i = 0; i < 3; i++)
		if (!list_is_empty(lists[i])) {
			struct pending *p = LIST_ITEM(list_first(lists[i]), struct pending, node);
			sim_fail("ring %u: %s is left", r->number, kind_names[p->kind]);
		}
	for (unsigned i = 0; i < RING_GROUPS; i++)
		if (r->groups[i].available != r->groups[i].count)
			sim_fail("ring %u: %u receive buffers of group %u are left", r->number,
				 r->groups[i].count - r->groups[i].available, i);
}

void
sim_ring_check_empty(void)
{
	for (unsigned i = 0; i < RINGS_MAX; i++)
		if (rings[i] != NULL)
			check_ring_empty(rings[i]);
}

void
ring_free(struct ring *r)
{
	check_ring_empty(r);
	ASSERT(r->ops == 0);
	for (unsigned i = 0; i < RING_GROUPS; i++) {
		struct group *g = &r->groups[i];
		if (g->memory != NULL)
			ASAN_UNPOISON_MEMORY_REGION(g->memory, (size_t)g->count * g->size);
		free(g->memory);
		free(g->out);
	}
	rings[r->number] = NULL;
	r->magic = 0;
	free(r);
}

/* ---- lent memory ---- */

static uint64_t
checksum(const struct pending *p)
{
	uint64_t h = 0;

	if (p->data != NULL)
		h = sim_hash(h, p->data, p->size);
	for (unsigned i = 0; p->message != NULL && i < p->message->msg_iovlen; i++)
		h = sim_hash(h, p->message->msg_iov[i].iov_base, p->message->msg_iov[i].iov_len);
	for (unsigned i = 0; i < 2; i++)
		if (p->path[i] != NULL)
			h = sim_hash(h, p->path[i], strlen(p->path[i]));
	return h;
}

/* Everything that was lent must be as it was when the operation began. */
static void
check_lent(const struct pending *p)
{
	const uint8_t *memory = p->memory;

	if (p->op->magic != OP_MAGIC || !p->op->in_kernel)
		sim_fail("the op of a %s was changed or freed in the kernel", kind_names[p->kind]);
	if (checksum(p) != p->checksum)
		sim_fail("the memory of a %s was changed in the kernel", kind_names[p->kind]);
	for (size_t i = 0; memory != NULL && i < p->size; i++)
		if (memory[i] != lent_pattern)
			sim_fail("the memory of a %s was written to in the kernel",
				 kind_names[p->kind]);
}

/* ---- starting ---- */

static void
submit(struct ring *r)
{
	list_take_all(&r->pending, &r->queued);
}

/* A short time mostly; now and then one that lets many others overtake. */
static uint64_t
file_time_us(void)
{
	if (sim_chance(world->faults.slow_io))
		return sim_between(1, world->faults.slow_us);
	return sim_chance(30) ? sim_between(1000, 20000) : sim_between(20, 400);
}

static struct pending *
begin(struct ring *r, struct op *op, enum kind kind)
{
	ASSERT(r->magic == RING_MAGIC);
	OBJ_CHECK(op, OP_MAGIC);
	if (op->in_kernel)
		sim_fail("a %s is started with an op that is in the kernel", kind_names[kind]);
	struct pending *p = calloc(1, sizeof *p);
	ASSERT(p != NULL);
	p->kind = kind;
	p->ring = r;
	p->op = op;
	p->fd = -1;
	p->ready_us = UINT64_MAX;
	op->in_kernel = true;
	r->ops++;
	if (sim_chance(world->faults.early_submit))
		submit(r);
	list_append(&r->queued, &p->node);
	return p;
}

static struct pending *
begin_file(struct ring *r, struct op *op, enum kind kind, int fd)
{
	struct sim_file *file = sim_handle_file(fd);
	struct pending *p = begin(r, op, kind);

	p->fd = fd;
	p->file = file;
	p->direct = sim_handle(fd)->direct;
	sim_file_open(file); /* the kernel's reference: the descriptor may be closed meanwhile */
	p->ready_us = world->now_us + file_time_us();
	return p;
}

static struct pending *
begin_socket(struct ring *r, struct op *op, enum kind kind, int fd)
{
	struct sim_handle *h = sim_handle(fd);
	struct pending *p = begin(r, op, kind);

	if (h->kind != SIM_HANDLE_SOCKET)
		sim_fail("%s on descriptor %d, which is no socket", kind_names[kind], fd);
	p->fd = fd;
	p->socket = sim_socket_get(h->socket);
	return p;
}

static void
check_aligned(const struct pending *p, const void *memory)
{
	if (p->direct &&
	    (p->offset % DIRECT != 0 || p->size % DIRECT != 0 || (uintptr_t)memory % DIRECT != 0))
		sim_fail("%s of %zu bytes at %llu is not aligned", kind_names[p->kind], p->size,
			 (unsigned long long)p->offset);
}

/* The kernel promises no order between two writes in flight. */
static void
check_no_overlap(const struct pending *p)
{
	for (unsigned i = 0; i < RINGS_MAX; i++) {
		const struct list *lists[] = { rings[i] ? &rings[i]->queued : NULL,
					       rings[i] ? &rings[i]->pending : NULL };
		for (unsigned k = 0; k < 2 && lists[k] != NULL; k++)
			for (struct list_node *n = list_first(lists[k]); n != NULL;
			     n = list_next(lists[k], n)) {
				struct pending *o = LIST_ITEM(n, struct pending, node);
				if (o != p && o->file == p->file &&
				    (o->kind == KIND_WRITE || o->kind == KIND_WRITE_DURABLE) &&
				    o->offset < p->offset + p->size &&
				    p->offset < o->offset + o->size)
					sim_fail("two writes in flight over the same bytes");
			}
	}
}

static struct pending *
begin_write(struct ring *r, struct op *op, enum kind kind, int fd, const void *data, size_t size,
	    uint64_t offset)
{
	struct pending *p = begin_file(r, op, kind, fd);

	p->data = data;
	p->size = size;
	p->offset = offset;
	p->checksum = checksum(p);
	check_aligned(p, data);
	check_no_overlap(p);
	if (!sim_handle(fd)->writable)
		sim_fail("%s on a descriptor that was opened to read", kind_names[kind]);
	return p;
}

void
ring_write(struct ring *r, struct op *op, int fd, const void *data, size_t size, uint64_t offset)
{
	begin_write(r, op, KIND_WRITE, fd, data, size, offset);
}

void
ring_write_durable(struct ring *r, struct op *op, int fd, const void *data, size_t size,
		   uint64_t offset)
{
	struct pending *p = begin_write(r, op, KIND_WRITE_DURABLE, fd, data, size, offset);

	p->number = ++durable_writes;
	if (watch != NULL && watch->on_write != NULL)
		watch->on_write(p->number, r, sim_file_number(p->file), data, size);
}

void
ring_read(struct ring *r, struct op *op, int fd, void *data, size_t size, uint64_t offset)
{
	struct pending *p = begin_file(r, op, KIND_READ, fd);

	p->memory = data;
	p->size = size;
	p->offset = offset;
	check_aligned(p, data);
	memset(data, lent_pattern, size);
}

void
ring_sync(struct ring *r, struct op *op, int fd)
{
	begin_file(r, op, KIND_SYNC, fd);
}

void
ring_allocate(struct ring *r, struct op *op, int fd, uint64_t offset, uint64_t size)
{
	struct pending *p = begin_file(r, op, KIND_ALLOCATE, fd);

	p->offset = offset;
	p->size = size;
}

static struct pending *
begin_name(struct ring *r, struct op *op, enum kind kind, int directory, const char *path,
	   const char *other)
{
	struct pending *p = begin_file(r, op, kind, directory);

	p->path[0] = path;
	p->path[1] = other;
	p->checksum = checksum(p);
	return p;
}

void
ring_open(struct ring *r, struct op *op, int directory, const char *path, int flags, mode_t mode)
{
	(void)mode;
	begin_name(r, op, KIND_OPEN, directory, path, NULL)->flags = flags;
}

void
ring_unlink(struct ring *r, struct op *op, int directory, const char *path)
{
	begin_name(r, op, KIND_UNLINK, directory, path, NULL);
}

void
ring_rename(struct ring *r, struct op *op, int directory, const char *from, const char *to)
{
	begin_name(r, op, KIND_RENAME, directory, from, to);
}

void
ring_close(struct ring *r, struct op *op, int fd)
{
	(void)sim_handle(fd);
	struct pending *p = begin(r, op, KIND_CLOSE);
	p->fd = fd;
	p->ready_us = world->now_us + sim_between(0, 20);
}

void
ring_accept(struct ring *r, struct op *op, int listener)
{
	struct sim_handle *h = sim_handle(listener);

	if (h->kind != SIM_HANDLE_LISTENER)
		sim_fail("accept on descriptor %d, which does not listen", listener);
	begin(r, op, KIND_ACCEPT)->listener = h->listener;
}

void
ring_connect(struct ring *r, struct op *op, int fd, const struct sockaddr *address, socklen_t size)
{
	struct pending *p = begin_socket(r, op, KIND_CONNECT, fd);

	p->data = address;
	p->size = size;
	p->checksum = checksum(p);
}

void
ring_receive(struct ring *r, struct op *op, int fd, enum ring_group group)
{
	struct pending *p = begin_socket(r, op, KIND_RECEIVE, fd);

	ASSERT(group < RING_GROUPS && r->groups[group].count > 0);
	op->fd = fd;
	op->group = (uint8_t)group;
	p->flags = (int)group;
}

void
ring_send(struct ring *r, struct op *op, int fd, const void *data, size_t size)
{
	struct pending *p = begin_socket(r, op, KIND_SEND, fd);

	ASSERT(size > 0);
	p->data = data;
	p->size = size;
	p->checksum = checksum(p);
	sim_socket_handed(p->socket, size);
	if (watch != NULL && watch->on_send != NULL)
		watch->on_send(r, p->socket, data, size);
}

void
ring_send_message(struct ring *r, struct op *op, int fd, const struct msghdr *message)
{
	struct pending *p = begin_socket(r, op, KIND_SEND, fd);

	p->message = message;
	for (size_t i = 0; i < message->msg_iovlen; i++) {
		const struct iovec *v = &message->msg_iov[i];
		p->size += v->iov_len;
		if (watch != NULL && watch->on_send != NULL)
			watch->on_send(r, p->socket, v->iov_base, v->iov_len);
	}
	sim_socket_handed(p->socket, p->size);
	p->checksum = checksum(p);
}

void
ring_shutdown(struct ring *r, struct op *op, int fd)
{
	begin_socket(r, op, KIND_SHUTDOWN, fd)->ready_us = world->now_us + sim_between(0, 20);
}

void
ring_poll(struct ring *r, struct op *op, int fd, unsigned events)
{
	begin_socket(r, op, KIND_POLL, fd)->flags = (int)events;
}

void
ring_cancel(struct ring *r, struct op *op, struct op *target)
{
	ASSERT(op != target);
	struct pending *p = begin(r, op, KIND_CANCEL);
	p->target = target;
	p->ready_us = world->now_us + sim_between(0, 50);
}

void
ring_bell(struct ring *r, struct ring *target)
{
	ASSERT(r->magic == RING_MAGIC && target->magic == RING_MAGIC && r != target);
	target->rung = true;
}

/* ---- taking effect: files ---- */

/* How much of it is moved: all, or less where the seed wants it short. */
static size_t
length(const struct pending *p)
{
	size_t unit = p->direct ? DIRECT : 1;

	if (p->size <= unit || !sim_chance(world->faults.short_io))
		return p->size;
	return sim_between(1, p->size / unit) * unit;
}

/* A device that writes another byte than it was given, where that is planted. */
static void
spoil(struct pending *p, size_t size)
{
	if (world->plant == SIM_PLANT_BYTE && size > 0 && sim_chance(50))
		sim_file_flip(p->file, p->offset + sim_below(size), 0x10);
}

static int32_t
run_write(struct pending *p)
{
	size_t size = length(p);

	if (sim_chance(world->faults.write_error)) {
		sim_note("EIO", sim_file_number(p->file), p->offset);
		sim_file_write_torn(p->file, p->data, p->size, p->offset);
		return -EIO;
	}
	if (sim_chance(world->faults.no_space))
		return -ENOSPC;
	size = sim_file_write(p->file, p->data, size, p->offset);
	if (p->direct)
		size -= size % DIRECT;
	if (size == 0 && p->size > 0)
		return -ENOSPC;
	spoil(p, size);
	bool skip = world->plant == SIM_PLANT_DURABLE_WRITE && sim_chance(200);
	if (p->kind == KIND_WRITE_DURABLE && !skip)
		sim_file_sync_range(p->file, p->offset, size);
	return (int32_t)size;
}

static int32_t
run_read(struct pending *p)
{
	if (sim_chance(world->faults.read_error))
		return -EIO;
	return (int32_t)sim_file_read(p->file, p->memory, length(p), p->offset);
}

static int32_t
run_sync(struct pending *p)
{
	bool is_directory = sim_file_is_directory(p->file);

	if (sim_chance(world->faults.sync_error)) {
		sim_note("sync EIO", sim_file_number(p->file), 0);
		if (!is_directory)
			sim_file_sync_failed(p->file);
		return -EIO;
	}
	if (is_directory && world->plant != SIM_PLANT_DIRECTORY_SYNC)
		sim_directory_sync(p->file);
	if (!is_directory && world->plant != SIM_PLANT_FILE_SYNC)
		sim_file_sync(p->file);
	return 0;
}

static int32_t
run_allocate(struct pending *p)
{
	if (sim_chance(world->faults.no_space))
		return -ENOSPC;
	return sim_file_allocate(p->file, p->offset, p->size) ? 0 : -ENOSPC;
}

/* ---- taking effect: network ---- */

static int32_t
run_accept(struct pending *p)
{
	struct sim_socket *s = sim_listener_take(p->listener);

	p->c.more = !sim_chance(world->faults.accept_ends);
	return sim_handle_new((struct sim_handle){ .kind = SIM_HANDLE_SOCKET, .socket = s });
}

static int32_t
run_receive(struct pending *p)
{
	struct group *g = &p->ring->groups[p->flags];
	uint16_t id = 0;

	ASSERT(g->available > 0);
	while (g->out[id])
		id++;
	uint8_t *buffer = g->memory + (size_t)id * g->size;
	ASAN_UNPOISON_MEMORY_REGION(buffer, g->size);
	int n = sim_socket_receive(p->socket, buffer, g->size);
	if (n <= 0) {
		ASAN_POISON_MEMORY_REGION(buffer, g->size);
		return n;
	}
	g->out[id] = true;
	g->available--;
	p->c.has_buffer = true;
	p->c.buffer_id = id;
	return n;
}

/* Moves what there is room for. True: it is complete, with p->c.result. */
static bool
run_send(struct pending *p)
{
	size_t skip = p->sent;
	int n = 0;

	if (p->message == NULL) {
		n = sim_socket_send(p->socket, (const uint8_t *)p->data + skip, p->size - skip);
		p->sent += n > 0 ? (size_t)n : 0;
	}
	for (size_t i = 0; p->message != NULL && i < p->message->msg_iovlen && n >= 0; i++) {
		const struct iovec *v = &p->message->msg_iov[i];
		if (skip >= v->iov_len) {
			skip -= v->iov_len;
			continue;
		}
		n = sim_socket_send(p->socket, (const uint8_t *)v->iov_base + skip,
				    v->iov_len - skip);
		p->sent += n > 0 ? (size_t)n : 0;
		if (n < (int)(v->iov_len - skip))
			break;
		skip = 0;
	}
	if (n >= 0 && p->sent < p->size)
		return false;
	p->c.result = p->sent > 0 ? (int32_t)p->sent : n;
	return true;
}

static int32_t
run_poll(const struct pending *p)
{
	int32_t r = 0;

	if (sim_socket_readable(p->socket))
		r |= POLLIN;
	if (sim_socket_writable(p->socket))
		r |= POLLOUT;
	return r & p->flags;
}

static bool
has_buffer(struct pending *p)
{
	struct group *g = &p->ring->groups[p->flags];

	if (g->available == 0 && !p->in_line) {
		p->in_line = true;
		g->waits++;
	}
	return g->available > 0;
}

/* Has what the operation waits for happened? */
static bool
condition(struct pending *p)
{
	switch (p->kind) {
	case KIND_ACCEPT:
		return sim_listener_has_pending(p->listener);
	case KIND_CONNECT:
		if (sim_socket_connected(p->socket) == 0 && p->flags == 0) {
			struct net_address to = { .size = (socklen_t)p->size };
			memcpy(to.bytes, p->data, p->size);
			p->flags = 1; /* begun */
			sim_socket_connect(p->socket, &to);
		}
		return sim_socket_connected(p->socket) != 0;
	case KIND_RECEIVE:
		return sim_socket_readable(p->socket) && has_buffer(p);
	case KIND_SEND:
		return sim_socket_writable(p->socket);
	case KIND_POLL:
		return run_poll(p) != 0;
	default:
		return false;
	}
}

/* ---- one step ---- */

static struct pending *
find_target(const struct ring *r, const struct op *target)
{
	const struct list *lists[] = { &r->queued, &r->pending };

	for (unsigned i = 0; i < 2; i++)
		for (struct list_node *n = list_first(lists[i]); n != NULL;
		     n = list_next(lists[i], n))
			if (LIST_ITEM(n, struct pending, node)->op == target)
				return LIST_ITEM(n, struct pending, node);
	return NULL;
}

/* What waits for the network ends soon, unless it completes before; files mostly go on. */
static int32_t
run_cancel(struct pending *p)
{
	struct pending *target = find_target(p->ring, p->target);

	if (target == NULL || target->cancelled)
		return -ENOENT;
	if (target->file != NULL && !sim_chance(250))
		return -EALREADY;
	target->cancelled = true;
	target->ready_us = world->now_us + sim_between(0, 50);
	return 0;
}

static int32_t
run(struct pending *p)
{
	switch (p->kind) {
	case KIND_ACCEPT:
		return run_accept(p);
	case KIND_CONNECT:
		return sim_socket_connected(p->socket) > 0 ? 0 : sim_socket_connected(p->socket);
	case KIND_RECEIVE:
		return run_receive(p);
	case KIND_SEND:
		return p->c.result;
	case KIND_SHUTDOWN:
		return sim_socket_shutdown(p->socket);
	case KIND_POLL:
		return run_poll(p);
	case KIND_OPEN:
		return sim_open(p->fd, p->path[0], p->flags);
	case KIND_READ:
		return run_read(p);
	case KIND_WRITE:
	case KIND_WRITE_DURABLE:
		return run_write(p);
	case KIND_SYNC:
		return run_sync(p);
	case KIND_ALLOCATE:
		return run_allocate(p);
	case KIND_UNLINK:
		return sim_name_unlink(p->file, p->path[0]);
	case KIND_RENAME:
		return sim_name_rename(p->file, p->path[0], p->file, p->path[1]);
	case KIND_CLOSE:
		sim_handle_close(p->fd);
		return 0;
	case KIND_CANCEL:
		return run_cancel(p);
	case KIND_NONE:
		break;
	}
	return -ECANCELED;
}

/* A completion of a multishot leaves its operation in the kernel: it travels as a copy. */
static struct pending *
to_deliver(struct pending *p)
{
	if (!p->c.more) {
		list_unlink(&p->node);
		return p;
	}
	struct pending *copy = malloc(sizeof *copy);
	ASSERT(copy != NULL);
	*copy = *p;
	copy->node = (struct list_node){ 0 };
	p->c = (struct completion){ 0 };
	p->ready_us = UINT64_MAX;
	return copy;
}

static void
complete(struct pending *p)
{
	check_lent(p);
	world->node = p->ring->node;
	if (p->kind == KIND_SEND && !p->cancelled && !run_send(p)) {
		p->ready_us = UINT64_MAX; /* waits for more room */
		return;
	}
	/* A cancelled operation may have completed all the same, or has already sent a part. */
	if (!p->cancelled)
		p->c.result = run(p);
	else
		p->c.result = p->sent > 0 ? (int32_t)p->sent : -ECANCELED;
	sim_note(kind_names[p->kind], p->ring->number, (uint64_t)(int64_t)p->c.result);
	if (p->kind == KIND_WRITE_DURABLE && watch != NULL && watch->on_written != NULL)
		watch->on_written(p->number, p->c.result == (int32_t)p->size);
	p = to_deliver(p);
	if (p->file != NULL)
		sim_file_close(p->file);
	if (p->socket != NULL)
		sim_socket_put(p->socket);
	p->socket = NULL;
	list_append(&p->ring->done, &p->node);
	sim_completed();
}

/* The operation that is due first, over all rings; gives a time to those whose condition holds. */
static struct pending *
next_due(void)
{
	struct pending *first = NULL;

	for (unsigned i = 0; i < RINGS_MAX; i++) {
		struct list *all = rings[i] == NULL ? NULL : &rings[i]->pending;
		for (struct list_node *n = all == NULL ? NULL : list_first(all); n != NULL;
		     n = list_next(all, n)) {
			struct pending *p = LIST_ITEM(n, struct pending, node);
			if (p->ready_us == UINT64_MAX && condition(p))
				p->ready_us = world->now_us + sim_between(0, 100);
			if (p->ready_us != UINT64_MAX &&
			    (first == NULL || p->ready_us < first->ready_us))
				first = p;
		}
	}
	return first;
}

uint64_t
sim_ring_next_us(void)
{
	struct pending *p = next_due();

	return p == NULL ? UINT64_MAX : p->ready_us;
}

void
sim_ring_step(void)
{
	struct pending *p = next_due();

	if (p == NULL)
		return;
	bool waits = p->kind == KIND_RECEIVE || p->kind == KIND_ACCEPT || p->kind == KIND_POLL;
	if (waits && !p->cancelled && !condition(p))
		p->ready_us = UINT64_MAX; /* somebody else took the bytes, or the last buffer */
	else
		complete(p);
}

static void
crash_one(struct pending *p)
{
	switch (p->kind) {
	case KIND_WRITE:
	case KIND_WRITE_DURABLE:
		if (p->size > 0)
			sim_file_write_torn(p->file, p->data, p->size, p->offset);
		sim_file_sync_range(p->file, p->offset, p->size);
		break;
	case KIND_ALLOCATE:
	case KIND_UNLINK:
	case KIND_RENAME:
		if (sim_chance(500))
			(void)run(p);
		break;
	default:
		break;
	}
}

void
sim_ring_crash(void)
{
	for (unsigned i = 0; i < RINGS_MAX; i++)
		for (struct list_node *n = rings[i] ? list_first(&rings[i]->pending) : NULL;
		     n != NULL; n = list_next(&rings[i]->pending, n))
			crash_one(LIST_ITEM(n, struct pending, node));
}

void
sim_ring_kill(unsigned node)
{
	for (unsigned i = 0; i < RINGS_MAX; i++) {
		if (rings[i] == NULL || rings[i]->node != node)
			continue;
		submit(rings[i]);
		list_take_all(&rings[i]->pending, &rings[i]->done);
		for (struct list_node *n; (n = list_shift(&rings[i]->pending)) != NULL;) {
			struct pending *p = LIST_ITEM(n, struct pending, node);
			if (p->socket != NULL)
				sim_socket_put(p->socket);
			free(p);
		}
		rings[i] = NULL;
	}
}

/* ---- the relay's side of completion ---- */

unsigned
ring_wait(struct ring *r, uint64_t timeout_us)
{
	unsigned n = 0;

	(void)timeout_us; /* the driver moves the time when all workers are idle */
	ASSERT(r->magic == RING_MAGIC);
	submit(r);
	for (struct list_node *p = list_first(&r->done); p != NULL; p = list_next(&r->done, p))
		n++;
	r->rung = false;
	return n;
}

unsigned
ring_complete(struct ring *r)
{
	struct list harvest;
	struct list_node *n;
	unsigned count = 0;

	list_init(&harvest);
	while (count < COMPLETIONS_PER_TURN && (n = list_shift(&r->done)) != NULL) {
		list_append(&harvest, n);
		count++;
	}
	while ((n = list_shift(&harvest)) != NULL) {
		struct pending *p = LIST_ITEM(n, struct pending, node);
		struct op *op = p->op;
		struct completion c = p->c;
		OBJ_CHECK(op, OP_MAGIC);
		ASSERT(op->in_kernel);
		if (!c.more) {
			op->in_kernel = false;
			r->ops--;
		}
		free(p);
		op->on_done(op, c);
	}
	return count;
}

size_t
ring_ops(const struct ring *r)
{
	return r->ops;
}

/* ---- receive buffers ---- */

uint8_t *
ring_buffer(struct ring *r, enum ring_group group, uint16_t buffer_id)
{
	struct group *g = &r->groups[group];

	ASSERT(buffer_id < g->count && g->out[buffer_id]);
	return g->memory + (size_t)buffer_id * g->size;
}

void
ring_buffer_put(struct ring *r, enum ring_group group, uint16_t buffer_id)
{
	struct group *g = &r->groups[group];
	uint8_t *buffer = ring_buffer(r, group, buffer_id);

	memset(buffer, 0xdb, g->size); /* whoever still reads it gets garbage */
	ASAN_POISON_MEMORY_REGION(buffer, g->size);
	g->out[buffer_id] = false;
	g->available++;
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
