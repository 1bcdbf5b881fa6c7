/* SPDX-License-Identifier: Apache-2.0
 *
 * conn_work: the steps of a connection's layer that are too long for a worker's turn. Internal:
 * only conn*.c include it.
 *
 * A layer that is busy (core/layer.h) is given to a helper, so many of a worker's at a time; others
 * are parked until one of those comes back. Where none can be given away it is the worker that
 * works, within its share of heavy steps a turn. Then it is not busy any more, and the connection's
 * input is run. Meanwhile the connection may close, and is held.
 *
 * A step that is only heavy (some 0.2 ms) is given away, too, where there is a place: a helper
 * gives way to a worker that has mail in hand, and a worker to nobody. In a storm of handshakes the
 * worker does those that find none, so that both are at it.
 */
#ifndef CORE_CONN_WORK_H
#define CORE_CONN_WORK_H

#include "core/conn.h"

/* Is its layer's next step somebody else's, now or soon? Then the layer must be left alone. */
bool conn_is_at_work(const struct conn *c);
/* The next read() of its layer is heavy: is there a helper for it? Then the layer may leave it. */
bool conn_leaves_heavy(struct conn *c);
/* Its layer is busy. Does nothing where it is given away or parked already. */
void conn_work(struct conn *c);

#endif
