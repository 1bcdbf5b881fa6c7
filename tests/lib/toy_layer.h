/* SPDX-License-Identifier: Apache-2.0
 *
 * toy_layer: a layer (core/layer.h) for tests of what a connection does with one: it cuts plain
 * text into records of a type, a size and hidden bytes, after a handshake of three records (h from
 * the client, s from the server, f from the client). d is data, e the end, a an alert.
 */
#ifndef TESTS_LIB_TOY_LAYER_H
#define TESTS_LIB_TOY_LAYER_H

#include "core/layer.h"

enum { HEAD = 3, RECORD_MAX = 3000, HIDE = 0x5a };

extern unsigned toy_layers;      /* that live */
extern unsigned toy_heavy_reads; /* during handshakes; whoever counts sets it to 0 */
/* Where it is set, the answer of layers that are made now to a client's first record is too long
 * for a turn, and this is what takes so long. */
extern void (*toy_work)(void);
extern bool toy_is_only_heavy; /* then it may leave where there is a helper for it */

struct layer *toy_new(bool is_server);

#endif
