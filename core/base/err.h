/* SPDX-License-Identifier: Apache-2.0
 *
 * err: the outcome of an action that depends on the outside. From core/tables/errors.def.
 *
 * Bugs are ASSERTs, not errors. errno is translated once, at the edge (err_of_errno). Every error
 * is temporary or permanent and has an enhanced status code of RFC 3463.
 */
#ifndef CORE_BASE_ERR_H
#define CORE_BASE_ERR_H

#include <stdbool.h>

enum err {
#define ERROR(name, label, class, enhanced, text) ERR_##name,
#include "core/tables/errors.def"
#undef ERROR
	ERR_COUNT
};

/* A short name in lower case, for logs and metric labels: "no_room". */
const char *err_name(enum err e);
/* A text for people. */
const char *err_text(enum err e);
/* "4.3.1" */
const char *err_enhanced(enum err e);
bool err_is_temporary(enum err e);
/* The row for an errno value (positive, or negative as io_uring returns it). */
enum err err_of_errno(int number);

#endif
