/* SPDX-License-Identifier: Apache-2.0
 *
 * file: whole files, read or written at once: lists and keys that an operator writes, what the
 * relay itself wants to know after a restart; not mail.
 *
 * Blocking, so for the main and the control thread and for helpers, never for a worker. What is
 * read is one state of the file: one that changed while it was being read is read again, and given
 * up with EBUSY where it goes on changing. A file_identity tells whether a file may have changed
 * since; all of it must be equal, and all is zero where there is no file.
 */
#ifndef CORE_FILE_H
#define CORE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/span.h"
#include "core/base/buf.h"

struct file_identity {
	uint64_t device;
	uint64_t inode;
	uint64_t size;
	uint64_t modified_ns;
	uint64_t changed_ns; /* also moves when the time above was set back by hand */
};

/* What the path leads to now; zeroed where that cannot be told. */
struct file_identity file_look(const char *path);
bool file_identity_eq(const struct file_identity *a, const struct file_identity *b);
/* All of it, to be freed, never NULL for an empty file; NULL with errno, EFBIG above size_max,
 * EINVAL where it is no regular file. */
char *file_read(const char *path, size_t size_max, size_t *size, struct file_identity *identity);
/* Puts these bytes in its place, all or nothing, also across a crash: written beside it (PATH.new,
 * mode 0600), synced, renamed, the directory synced. False with errno; the old one stays. */
bool file_replace(const char *path, struct span bytes);

/* Can nobody but its owner read or write it? For files with passwords, verifiers of passwords and
 * keys, which are refused otherwise. If not, `why` gets one line, with the remedy. True where there
 * is no file: reading it tells. */
bool file_is_private(const char *path, struct buf *why);

#endif
