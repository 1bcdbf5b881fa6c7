/* SPDX-License-Identifier: Apache-2.0
 *
 * layer_rig: a worker, and connections of it with a layer that is a toy (toy_layer.h), for tests of
 * what becomes of them. The peer of each is a socket in the test's hands. One thread, but for the
 * helper.
 */
#ifndef TESTS_LIB_LAYER_RIG_H
#define TESTS_LIB_LAYER_RIG_H

#include <stdbool.h>

#include "core/conn.h"

enum { RIG_MAILBOX_PLACES = 8 };

#define RIG_HELLO  SPAN("h\0\0")
#define RIG_ANSWER SPAN("s\0\0")
#define RIG_FINISH SPAN("f\0\0")
#define RIG_END    SPAN("e\0\0")
#define RIG_ALERT  SPAN("a\0\0")

/* The owner of a connection, which counts what it is told. */
struct rig_session {
	struct conn conn; /* first */
	void (*step)(struct rig_session *s);
	unsigned secured, drained, deadlines, lost, closed;
	enum err error;
	uint8_t *seen; /* what was consumed */
	size_t seen_size;
};

extern struct worker rig;
extern const struct conn_events rig_events; /* of its connections */

/* Of each test: the worker starts, and has nothing when it ends. */
int rig_setup(void **state);
int rig_teardown(void **state);

/* One turn. False, and a line that names `what`: nothing happens any more. */
bool rig_turn(const char *what);
#define RIG_UNTIL(condition)                               \
	do {                                               \
		while (!(condition))                       \
			assert_true(rig_turn(#condition)); \
	} while (0)

/* A new connection whose owner does `step` where there is input. The peer's descriptor. */
int rig_start(struct rig_session *s, void (*step)(struct rig_session *s));
/* Consumes all into s->seen. */
void rig_step_eat(struct rig_session *s);
void rig_put(int fd, struct span bytes);
/* Reads exactly what is expected while the worker turns. */
void rig_expect(int fd, struct span bytes);
/* In the form of the wire, until the next call. */
struct span rig_record_of(struct span plain);
/* It has a layer, and its handshake is done. */
void rig_shake_hands(struct rig_session *s, int fd);
/* Closes it, and the peer's descriptor. */
void rig_end(struct rig_session *s, int fd);

/* One helper, with a place for one job more, and what layers that are made now do there. */
void rig_have_helper(void (*work)(void));
void rig_have_no_helper(void);
void rig_no_work(void);

#endif
