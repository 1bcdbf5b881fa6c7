/* SPDX-License-Identifier: Apache-2.0
 *
 * disk: the few file operations that happen at start, before the workers run, and may block.
 *
 * While the relay runs, files are touched through ring.h alone. The simulation in tests/fault
 * replaces both, over the same simulated files, so that recovery is tested with what a crash left.
 * Directories are held open as descriptors; paths are relative to them, without slashes.
 */
#ifndef CORE_DISK_H
#define CORE_DISK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "core/base/err.h"

/* Opens a directory, making it (mode 0700) where `create`; a descriptor, or -errno. */
int disk_open_directory(int directory, const char *path, bool create);
/* Opens or creates a file. `direct`: O_DIRECT; falls back where the file system has none and then
 * sets *direct to false. A descriptor, or -errno. */
int disk_open(int directory, const char *path, int flags, mode_t mode, bool *direct);
void disk_close(int fd);
/* Exclusive, held until the descriptor is closed; false where somebody else has it. */
bool disk_lock(int fd);

typedef void (*disk_name_fn)(void *context, const char *name);
/* Calls on_name for every name but . and .. in no certain order. */
enum err disk_list(int directory, disk_name_fn on_name, void *context);

int64_t disk_size(int fd); /* bytes, or -errno */
/* All of it or an error: ERR_CORRUPT where the file ends before. */
enum err disk_read(int fd, void *data, size_t size, uint64_t offset);
/* All of it, on stable storage. */
enum err disk_write_durable(int fd, const void *data, size_t size, uint64_t offset);
enum err disk_unlink(int directory, const char *path);
enum err disk_rename(int from_directory, const char *from, int to_directory, const char *to);
enum err disk_sync_directory(int directory);
/* Bytes that an unprivileged process may still take, and the file system's size. */
enum err disk_space(int directory, uint64_t *free_bytes, uint64_t *total_bytes);
/* tmpfs, ramfs, overlay: does not survive the machine or the container. */
bool disk_is_volatile(int directory);

#endif
