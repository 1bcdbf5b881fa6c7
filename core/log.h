/* SPDX-License-Identifier: Apache-2.0
 *
 * log: events as JSON lines, in two classes. All are rows of core/tables/events.def.
 *
 *   event_received(ring, &(struct event_received){ .id = id, .peer = peer, ... });
 *
 * Each thread has one ring of its own (single producer) and only copies the fields into it, about
 * 100 ns; the log thread (single consumer) makes the text and writes it in batches, at least every
 * 5 ms, to the file, O_APPEND, or to standard error. A line is at most LOG_LINE_MAX bytes; a text
 * is cut at LOG_TEXT_MAX.
 *
 * OUTCOME events are never dropped. At three quarters of the ring log_must_pause() is true: the
 * worker starts nothing that makes outcomes and answers 451. Should outcomes of what is already
 * under way fill the ring all the same, they are kept outside of it until there is room (counted:
 * log_spilled_total). DIAGNOSTIC events below the configured level cost a comparison, and they are
 * dropped and counted once the ring is half full. Where the file cannot be written (disk full), the
 * log thread tries again each second and loses nothing of what is in the rings; at log_stop() it
 * writes what is left to standard error.
 *
 * A line: {"time":"2024-01-02T03:04:05.678Z","level":"info","event":"received",fields...}. A TEXT
 * without data, a TIME of 0 are left out; NUMBER, SECONDS and FLAG are always there.
 *
 * Without log_start() nothing runs by itself: log_drain() does one round by hand (simulation).
 */
#ifndef CORE_LOG_H
#define CORE_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/buf.h"
#include "core/base/err.h"
#include "core/base/span.h"
#include "core/config.h"

#define LOG_TEXT_MAX 1024
#define LOG_LINE_MAX ((size_t)128 << 10)

struct log;
struct log_ring;
struct metrics;

/* clang-format off */
#define KIND_TEXT    struct span
#define KIND_NUMBER  uint64_t
#define KIND_SECONDS uint64_t /* milliseconds, shown as seconds: 1.250 */
#define KIND_TIME    uint64_t /* milliseconds since 1970, shown as RFC 3339 */
#define KIND_FLAG    bool
#define EVENT(name, class, level, doc)   struct event_##name {
#define FIELD(event, kind, name, doc)            KIND_##kind name;
#define EVENT_END(name)                  };
#include "core/tables/events.def"
#undef EVENT
#undef FIELD
#undef EVENT_END

#undef KIND_TEXT
#undef KIND_NUMBER
#undef KIND_SECONDS
#undef KIND_TIME
#undef KIND_FLAG

enum log_event {
#define EVENT(name, class, level, doc) LOG_EVENT_##name,
#define FIELD(event, kind, name, doc)
#define EVENT_END(name)
#include "core/tables/events.def"
#undef EVENT
#undef FIELD
#undef EVENT_END
	LOG_EVENTS
};
/* clang-format on */

/* `rings` threads will write, each through a ring of ring_size bytes (rounded up to a power of
 * two). `file` NULL or empty is standard error. NULL with *error (a row of errno) where the file
 * cannot be opened or memory is short. */
struct log *log_new(unsigned rings, size_t ring_size, const char *file, int *error);
/* Writes what is left and frees all; the thread must have been stopped. */
void log_free(struct log *log);
/* The ring of one thread. Metrics (may be NULL) get the counts of its events. */
struct log_ring *log_ring(struct log *log, unsigned index, struct metrics *metrics);
/* The least level of diagnostics; any thread. */
void log_set_level(struct log *log, enum config_level level);

/* Starts the log thread; stops it after it has written what the rings hold (no other thread writes
 * events any more). */
enum err log_start(struct log *log);
void log_stop(struct log *log);
/* Asks that `file` (NULL or empty: standard error) be opened anew before the next line; any one
 * thread. Where that fails, the old file stays, and the log says so. */
void log_reopen(struct log *log, const char *file);
/* One round: takes what the rings hold, in order within a ring, and writes it. Returns the bytes
 * written. For the log thread, or for the only thread where there is none. */
size_t log_drain(struct log *log);
/* Failed writes since the start; any thread. */
uint64_t log_write_errors(const struct log *log);

/* Is the ring three quarters full? The owner of the ring asks before it claims or accepts. */
bool log_must_pause(const struct log_ring *ring);
/* Gives events kept outside of the ring another chance; the owner, once a turn. */
void log_turn(struct log_ring *ring);
/* Would a diagnostic of this level be written? To spare the making of its texts. */
bool log_wants(const struct log_ring *ring, enum config_level level);

/* `fields` is the struct of that event; called through the typed functions below. */
void log_write(struct log_ring *ring, enum log_event event, const void *fields);

/* clang-format off */
#define EVENT(name, class, level, doc)                                        \
	static inline void                                                    \
	event_##name(struct log_ring *ring, const struct event_##name *event) \
	{                                                                     \
		log_write(ring, LOG_EVENT_##name, event);                     \
	}
#define FIELD(event, kind, name, doc)
#define EVENT_END(name)
#include "core/tables/events.def"
#undef EVENT
#undef FIELD
#undef EVENT_END
/* clang-format on */

/* The reference page of all events, Markdown. */
bool event_doc(struct buf *out);

#endif
