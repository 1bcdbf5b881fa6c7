/* SPDX-License-Identifier: Apache-2.0
 *
 * The rings, the writers on their side, and the log thread on the other.
 */
#include "core/log.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "core/base/assert.h"
#include "core/base/clock.h"
#include "core/log_table.h"
#include "core/metric.h"

#define LOG_MAGIC 0x4c4f4721u

enum {
	RING_SIZE_MIN = 64 << 10,
	BATCH_SIZE = 512 << 10, /* of one write */
	LINGER_MS = 5,          /* what arrives meanwhile goes into one write */
	RETRY_MS = 1000,        /* after a failed write */
	PADDING = UINT16_MAX,   /* event of what fills the end of a ring */
};

_Static_assert((size_t)BATCH_SIZE >= 2 * LOG_LINE_MAX, "a batch has room for lines");

/* An outcome event that found its ring full. */
struct spill {
	struct spill *next;
	size_t size;
	alignas(8) uint8_t record[];
};

struct log_ring {
	struct log *log;
	struct metrics *metrics; /* of the owner; may be NULL */
	uint8_t *memory;
	size_t size; /* a power of two */

	/* The owner's side. */
	alignas(64) _Atomic uint64_t head; /* bytes ever written */
	struct spill *spill_first, *spill_last;
	uint64_t dropped; /* not yet reported by an event */

	/* The log thread's side. */
	alignas(64) _Atomic uint64_t tail; /* bytes ever read */
};

/* Whether the log thread must be woken: only when it sleeps, or when a ring fills while it lets
 * more arrive. */
enum rest { AWAKE, LINGERING, SLEEPING };

struct log {
	uint32_t magic;
	unsigned count;
	struct log_ring *rings;
	_Atomic unsigned level;
	_Atomic unsigned rest;
	_Atomic bool stopping;
	_Atomic(char *) reopen; /* the file to open next, owned; NULL: none asked for */
	_Atomic uint64_t write_errors;
	int wake_fd; /* eventfd */
	bool started;
	pthread_t thread;

	/* Of the log thread, or of the only one. */
	int fd;
	bool failed;      /* the last write did */
	struct buf batch; /* lines not yet written */
};

/* STDERR_FILENO for NULL or an empty name; -1 with errno. */
static int
open_file(const char *file)
{
	if (file == NULL || file[0] == 0)
		return STDERR_FILENO;
	return open(file, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0640);
}

static bool
make_rings(struct log *log, size_t ring_size)
{
	size_t size = RING_SIZE_MIN;

	while (size < ring_size)
		size *= 2;
	log->rings = aligned_alloc(alignof(struct log_ring), log->count * sizeof *log->rings);
	if (log->rings == NULL)
		return false;
	memset(log->rings, 0, log->count * sizeof *log->rings);
	for (unsigned i = 0; i < log->count; i++) {
		log->rings[i].log = log;
		log->rings[i].size = size;
		log->rings[i].memory = aligned_alloc(64, size);
		if (log->rings[i].memory == NULL)
			return false;
	}
	return true;
}

static void
free_all(struct log *log)
{
	for (unsigned i = 0; log->rings != NULL && i < log->count; i++) {
		ASSERT(log->rings[i].spill_first == NULL);
		free(log->rings[i].memory);
	}
	free(log->rings);
	free(log->batch.data);
	free(atomic_load(&log->reopen));
	if (log->fd >= 0 && log->fd != STDERR_FILENO)
		close(log->fd);
	if (log->wake_fd >= 0)
		close(log->wake_fd);
	free(log);
}

struct log *
log_new(unsigned rings, size_t ring_size, const char *file, int *error)
{
	struct log *log = calloc(1, sizeof *log);

	ASSERT(rings > 0);
	*error = ENOMEM;
	if (log == NULL)
		return NULL;
	OBJ_INIT(log, LOG_MAGIC);
	log->count = rings;
	atomic_init(&log->level, LEVEL_INFO);
	log->fd = open_file(file);
	if (log->fd < 0)
		*error = errno;
	log->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (log->wake_fd < 0)
		*error = errno;
	log->batch = buf_of(malloc(BATCH_SIZE), BATCH_SIZE);
	if (log->fd < 0 || log->wake_fd < 0 || log->batch.data == NULL ||
	    !make_rings(log, ring_size)) {
		free_all(log);
		return NULL;
	}
	*error = 0;
	return log;
}

struct log_ring *
log_ring(struct log *log, unsigned index, struct metrics *metrics)
{
	OBJ_CHECK(log, LOG_MAGIC);
	ASSERT(index < log->count);
	log->rings[index].metrics = metrics;
	return &log->rings[index];
}

void
log_set_level(struct log *log, enum config_level level)
{
	atomic_store_explicit(&log->level, level, memory_order_relaxed);
}

bool
log_wants(const struct log_ring *ring, enum config_level level)
{
	return level <= atomic_load_explicit(&ring->log->level, memory_order_relaxed);
}

uint64_t
log_write_errors(const struct log *log)
{
	return atomic_load_explicit(&log->write_errors, memory_order_relaxed);
}

static void
wake(struct log *log)
{
	uint64_t one = 1;

	/* Fails only when the counter is full, and then the thread is awake. */
	(void)!write(log->wake_fd, &one, sizeof one);
}

/* Bytes in use, as the owner sees them: never less than what is. */
static size_t
used(const struct log_ring *ring)
{
	uint64_t tail = atomic_load_explicit(&ring->tail, memory_order_acquire);

	return (size_t)(atomic_load_explicit(&ring->head, memory_order_relaxed) - tail);
}

bool
log_must_pause(const struct log_ring *ring)
{
	return ring->spill_first != NULL || used(ring) >= ring->size / 4 * 3;
}

/* Where a record of this size goes, or NULL where it does not fit; *head is what follows it. The
 * rest of the ring's end, if the record is too long for it, is padding. */
static uint8_t *
reserve(struct log_ring *ring, size_t size, uint64_t *head)
{
	uint64_t start = atomic_load_explicit(&ring->head, memory_order_relaxed);
	size_t at = (size_t)start & (ring->size - 1);
	size_t padding = ring->size - at < size ? ring->size - at : 0;

	ASSERT(size <= ring->size / 2);
	if (used(ring) + padding + size > ring->size)
		return NULL;
	if (padding > 0) {
		/* Only size and event: the end may have room for no more than 8 bytes. */
		struct log_record header = { .size = (uint32_t)padding, .event = PADDING };
		memcpy(ring->memory + at, &header, 8);
		at = 0;
	}
	*head = start + padding + size;
	return ring->memory + at;
}

static void
publish(struct log_ring *ring, uint64_t head)
{
	struct log *log = ring->log;

	/* Sequentially consistent, as are the stores and loads in rest_until_woken(): either this
	 * thread sees that the other sleeps, or the other sees the new head. */
	atomic_store(&ring->head, head);
	unsigned rest = atomic_load(&log->rest);
	if (rest == SLEEPING || (rest == LINGERING && used(ring) > ring->size / 4)) {
		if (atomic_exchange(&log->rest, AWAKE) != AWAKE)
			wake(log);
	}
}

static bool
push(struct log_ring *ring, enum log_event event, const void *fields, uint64_t wall_ms, size_t size)
{
	uint64_t head;
	uint8_t *place = reserve(ring, size, &head);

	if (place == NULL)
		return false;
	log_encode(event, fields, wall_ms, size, place);
	publish(ring, head);
	return true;
}

/* Keeps an outcome outside of the ring. How much that can be is bounded by what was under way
 * when log_must_pause() became true. */
static void
spill(struct log_ring *ring, enum log_event event, const void *fields, uint64_t wall_ms,
      size_t size)
{
	struct spill *s = malloc(sizeof *s + size);

	if (s == NULL) {
		/* The last way out that keeps the promise: this thread writes the line itself. */
		static const char lost[] = "ringpostd: no memory to log an outcome; it follows\n";
		uint8_t record[LOG_LINE_MAX / 4], line[LOG_LINE_MAX];
		struct buf out = buf_of(line, sizeof line);
		ASSERT(size <= sizeof record);
		log_encode(event, fields, wall_ms, size, record);
		log_decode(record, &out);
		(void)!write(STDERR_FILENO, lost, sizeof lost - 1);
		(void)!write(STDERR_FILENO, out.data, out.size);
		return;
	}
	s->next = NULL;
	s->size = size;
	log_encode(event, fields, wall_ms, size, s->record);
	if (ring->spill_first == NULL)
		ring->spill_first = s;
	else
		ring->spill_last->next = s;
	ring->spill_last = s;
	if (ring->metrics != NULL)
		METRIC_ADD(ring->metrics, LOG_SPILLED, 1);
}

void
log_turn(struct log_ring *ring)
{
	while (ring->spill_first != NULL) {
		struct spill *s = ring->spill_first;
		uint64_t head;
		uint8_t *place = reserve(ring, s->size, &head);
		if (place == NULL)
			return;
		memcpy(place, s->record, s->size);
		publish(ring, head);
		ring->spill_first = s->next;
		free(s);
	}
}

/* Says how many diagnostics are missing here, in front of the first that is not. */
static void
report_dropped(struct log_ring *ring, uint64_t wall_ms)
{
	struct event_dropped dropped = { .count = ring->dropped };
	size_t size = log_record_size(LOG_EVENT_dropped, &dropped);

	if (push(ring, LOG_EVENT_dropped, &dropped, wall_ms, size))
		ring->dropped = 0;
}

void
log_write(struct log_ring *ring, enum log_event event, const void *fields)
{
	ASSERT(event < LOG_EVENTS);
	const struct event_row *row = &event_rows[event];
	bool outcome = row->class == EVENT_OUTCOME;

	if (!outcome && !log_wants(ring, row->level))
		return;
	if (ring->metrics != NULL)
		METRIC_ADD(ring->metrics, LOG_EVENTS, 1);
	log_turn(ring); /* older outcomes come first */
	if (!outcome && (ring->spill_first != NULL || used(ring) >= ring->size / 2)) {
		ring->dropped++;
		if (ring->metrics != NULL)
			METRIC_ADD(ring->metrics, LOG_DROPPED, 1);
		return;
	}
	uint64_t wall_ms = clock_wall_ms();
	size_t size = log_record_size(event, fields);
	if (ring->dropped > 0 && used(ring) < ring->size / 2)
		report_dropped(ring, wall_ms);
	if (ring->spill_first != NULL || !push(ring, event, fields, wall_ms, size))
		spill(ring, event, fields, wall_ms, size);
}

/* An event of the log thread itself, which has no ring: straight into the batch. */
static void
add_own(struct log *log, enum log_event event, const void *fields)
{
	uint8_t record[LOG_LINE_MAX / 4];
	size_t size = log_record_size(event, fields);

	ASSERT(size <= sizeof record);
	if (buf_room(&log->batch) < LOG_LINE_MAX)
		return;
	log_encode(event, fields, clock_wall_ms(), size, record);
	log_decode(record, &log->batch);
}

/* Writes the batch as far as it goes; what is left stays in front. */
static size_t
write_batch(struct log *log)
{
	size_t written = 0;

	log->failed = false;
	while (written < log->batch.size) {
		ssize_t n = write(log->fd, log->batch.data + written, log->batch.size - written);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			log->failed = true;
			atomic_fetch_add_explicit(&log->write_errors, 1, memory_order_relaxed);
			break;
		}
		written += (size_t)n;
	}
	buf_consume(&log->batch, written);
	return written;
}

/* Moves what the ring holds into the batch, while there is room for a line of any length. */
static void
read_ring(struct log_ring *ring, struct buf *batch)
{
	uint64_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);
	uint64_t head = atomic_load(&ring->head);

	while (tail != head && buf_room(batch) >= LOG_LINE_MAX) {
		const uint8_t *record = ring->memory + (tail & (ring->size - 1));
		struct log_record header = { 0 };
		memcpy(&header, record, 8);
		ASSERT(header.size >= 8 && header.size <= head - tail);
		if (header.event != PADDING)
			log_decode(record, batch);
		tail += header.size;
		atomic_store_explicit(&ring->tail, tail, memory_order_release);
	}
	ASSERT(!batch->overflow);
}

static void
change_file(struct log *log)
{
	char *file = atomic_exchange(&log->reopen, NULL);

	if (file == NULL)
		return;
	write_batch(log); /* what was before the request belongs into the old file */
	int fd = open_file(file);
	if (fd >= 0) {
		if (log->fd != STDERR_FILENO)
			close(log->fd);
		log->fd = fd;
		add_own(log, LOG_EVENT_log_reopened,
			&(struct event_log_reopened){ .file = span_of_string(file) });
	} else {
		add_own(log, LOG_EVENT_problem,
			&(struct event_problem){
				.what = SPAN("open the log file again"),
				.error = span_of_string(strerror(errno)),
				.remedy = SPAN("make its directory writable for the user"),
			});
	}
	free(file);
}

size_t
log_drain(struct log *log)
{
	OBJ_CHECK(log, LOG_MAGIC);
	change_file(log);
	for (unsigned i = 0; i < log->count; i++)
		read_ring(&log->rings[i], &log->batch);
	return write_batch(log);
}

void
log_reopen(struct log *log, const char *file)
{
	char *copy = strdup(file == NULL ? "" : file);

	if (copy == NULL)
		return; /* the next request will do */
	free(atomic_exchange(&log->reopen, copy));
	wake(log);
}

/* Does any ring hold more than this many bytes? */
static bool
holds_more(struct log *log, size_t size)
{
	for (unsigned i = 0; i < log->count; i++) {
		uint64_t tail = atomic_load_explicit(&log->rings[i].tail, memory_order_relaxed);
		if (atomic_load(&log->rings[i].head) - tail > size)
			return true;
	}
	return false;
}

static bool
has_work(struct log *log)
{
	return log->batch.size > 0 || atomic_load(&log->reopen) != NULL || holds_more(log, 0);
}

/* Waits for wake() or the time; timeout_ms -1 is for ever. Does not begin to wait for what is there
 * already: work for one who sleeps, a ring over a quarter full for one who lingers. */
static void
rest_until_woken(struct log *log, enum rest rest, int timeout_ms)
{
	struct pollfd poll_fd = { .fd = log->wake_fd, .events = POLLIN };
	uint64_t count;

	atomic_store(&log->rest, rest);
	bool ready = rest == SLEEPING    ? has_work(log)
		     : rest == LINGERING ? holds_more(log, log->rings[0].size / 4)
					 : false;
	if (!ready)
		poll(&poll_fd, 1, timeout_ms);
	atomic_store(&log->rest, AWAKE);
	(void)!read(log->wake_fd, &count, sizeof count);
}

static void *
run(void *argument)
{
	struct log *log = argument;

	OBJ_CHECK(log, LOG_MAGIC);
	while (!atomic_load(&log->stopping)) {
		size_t written = log_drain(log);
		if (atomic_load(&log->stopping))
			break;
		/* While the disk refuses, only a request (stop, reopen) wakes it early. */
		if (log->failed)
			rest_until_woken(log, AWAKE, RETRY_MS);
		else if (written > 0)
			rest_until_woken(log, LINGERING, LINGER_MS);
		else
			rest_until_woken(log, SLEEPING, -1);
	}
	return NULL;
}

enum err
log_start(struct log *log)
{
	sigset_t all, before;

	ASSERT(!log->started);
	/* Signals are the control thread's; SIGPIPE of a closed standard error is an EPIPE. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	int error = pthread_create(&log->thread, NULL, run, log);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	log->started = error == 0;
	return error == 0 ? ERR_OK : err_of_errno(error);
}

/* Writes all that is left; to standard error where the file refuses. */
static void
finish(struct log *log)
{
	for (unsigned i = 0; i < log->count; i++)
		log_turn(&log->rings[i]);
	while (has_work(log)) {
		log_drain(log);
		for (unsigned i = 0; i < log->count; i++)
			log_turn(&log->rings[i]);
		if (!log->failed)
			continue;
		if (log->fd == STDERR_FILENO)
			break;
		close(log->fd);
		log->fd = STDERR_FILENO;
	}
	/* Only where not even standard error takes it. */
	for (unsigned i = 0; i < log->count; i++) {
		while (log->rings[i].spill_first != NULL) {
			struct spill *s = log->rings[i].spill_first;
			log->rings[i].spill_first = s->next;
			free(s);
		}
	}
}

void
log_stop(struct log *log)
{
	ASSERT(log->started);
	atomic_store(&log->stopping, true);
	wake(log);
	pthread_join(log->thread, NULL);
	log->started = false;
	atomic_store(&log->stopping, false);
	finish(log);
}

void
log_free(struct log *log)
{
	OBJ_CHECK(log, LOG_MAGIC);
	ASSERT(!log->started);
	finish(log);
	OBJ_FINI(log, LOG_MAGIC);
	free_all(log);
}
