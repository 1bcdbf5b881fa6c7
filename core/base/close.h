/* SPDX-License-Identifier: Apache-2.0
 *
 * close: why a connection ends. From core/tables/closes.def; exactly one reason a connection.
 */
#ifndef CORE_BASE_CLOSE_H
#define CORE_BASE_CLOSE_H

enum close_reason {
#define CLOSE(name, label, text) CLOSE_##name,
#include "core/tables/closes.def"
#undef CLOSE
	CLOSE_COUNT
};

/* "too_many" */
const char *close_label(enum close_reason r);
/* A text for people. */
const char *close_text(enum close_reason r);

#endif
