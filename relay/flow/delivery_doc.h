/* SPDX-License-Identifier: Apache-2.0
 *
 * delivery_doc: the reference page of what becomes of a recipient, made from the tables by which it
 * is decided (sender_replies.def, sender_causes.def, sender_phases.def, dns/mx.h).
 */
#ifndef RELAY_FLOW_DELIVERY_DOC_H
#define RELAY_FLOW_DELIVERY_DOC_H

#include <stdbool.h>

#include "core/base/buf.h"

/* Markdown. False where it does not fit. */
bool delivery_doc(struct buf *out);

#endif
