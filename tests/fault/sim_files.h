/* SPDX-License-Identifier: Apache-2.0
 *
 * sim_files: the files and directories of the simulated disk, and what of them a crash keeps.
 *
 * Every byte exists twice: as programs see it, and as it is on the platter. A write changes only
 * what is seen and marks its 512-byte sectors dirty; a sync copies them down. At a crash each dirty
 * sector survives or not as the seed says (in runs: whole, not at all, a prefix, any subset), and
 * every overwritten dirty sector may have gone down before. A file's size and a directory's names
 * are metadata with the same two faces: names change on the platter only by a sync of a directory,
 * and at a crash any subset of the pending changes has happened (a rename wholly or not, and never
 * without the earlier changes of the same names).
 *
 * A failed sync leaves what it did not write clean but lost: no later sync writes it (as Linux
 * does). A failed write leaves each sector of its range old or new.
 *
 * This is the model alone, without faults, time or descriptors, which are those of sim_disk.c and
 * sim_ring.c. Pages of zeros take no memory. Room is counted in pages of 4096 bytes.
 */
#ifndef TESTS_FAULT_SIM_FILES_H
#define TESTS_FAULT_SIM_FILES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	SIM_PAGE = 4096,
	SIM_SECTOR = 512,
	SIM_NAME_MAX = 128,
};

struct sim_file;

/* Makes an empty disk; `pages` is its capacity. */
struct sim_files *sim_files_new(uint64_t pages);
uint64_t sim_files_free_pages(const struct sim_files *all);
uint64_t sim_files_pages(const struct sim_files *all);
void sim_files_set_capacity(struct sim_files *all, uint64_t pages);
/* The disk after a power failure. All locks are gone. */
void sim_files_crash(struct sim_files *all);

/* ---- names; errors are negative errno ---- */

struct sim_file *sim_files_root(struct sim_files *all);
struct sim_file *sim_name_find(struct sim_file *directory, const char *name);
struct sim_file *sim_name_create(struct sim_file *directory, const char *name, bool is_directory);
int sim_name_unlink(struct sim_file *directory, const char *name);
int sim_name_rename(struct sim_file *from_directory, const char *from,
		    struct sim_file *to_directory, const char *to);
/* Calls on_name for each name; the directory may change meanwhile. */
void sim_name_list(struct sim_file *directory, void (*on_name)(void *context, const char *name),
		   void *context);
void sim_directory_sync(struct sim_file *directory);

/* ---- contents ---- */

bool sim_file_is_directory(const struct sim_file *f);
uint32_t sim_file_number(const struct sim_file *f);
uint64_t sim_file_size(const struct sim_file *f);
/* Returns the bytes read; short at the end of the file. */
size_t sim_file_read(const struct sim_file *f, void *out, size_t size, uint64_t offset);
/* Returns the bytes written, which is less where the disk is full. */
size_t sim_file_write(struct sim_file *f, const void *data, size_t size, uint64_t offset);
/* Each sector of the range is written or not, as the seed says: EIO or a crash. */
void sim_file_write_torn(struct sim_file *f, const void *data, size_t size, uint64_t offset);
/* Reserves room and extends the size; false where the disk is full. */
bool sim_file_allocate(struct sim_file *f, uint64_t offset, uint64_t size);
void sim_file_truncate(struct sim_file *f, uint64_t size);
/* What was written to the range before is durable, and the size if the range needs it. */
void sim_file_sync_range(struct sim_file *f, uint64_t offset, uint64_t size);
void sim_file_sync(struct sim_file *f);
void sim_file_sync_failed(struct sim_file *f);
/* Damages what is stored, behind everybody's back. */
void sim_file_flip(struct sim_file *f, uint64_t offset, uint8_t bits);

/* Flips one bit of what is stored anywhere; false on an empty disk. */
bool sim_files_damage(struct sim_files *all);

/* Held open by a descriptor: its contents stay even without a name. */
void sim_file_open(struct sim_file *f);
void sim_file_close(struct sim_file *f);
bool sim_file_lock(struct sim_file *f);
void sim_file_unlock(struct sim_file *f);

#endif
