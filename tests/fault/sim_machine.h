/* SPDX-License-Identifier: Apache-2.0
 *
 * sim_machine: what the parts of the simulated machine know of each other, and what drivers may ask
 * of the ring beyond core/ring.h.
 *
 * Descriptors (handles) and operations belong to one incarnation: they live in the child's own
 * memory and are gone with it. A descriptor's number is never used twice in an incarnation, so that
 * any use of a closed one is found (it ends the run as a failure).
 */
#ifndef TESTS_FAULT_SIM_MACHINE_H
#define TESTS_FAULT_SIM_MACHINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sim_file;
struct sim_socket;
struct sim_listener;
struct ring;

/* ---- descriptors: sim_disk.c ---- */

enum sim_handle_kind { SIM_HANDLE_CLOSED, SIM_HANDLE_FILE, SIM_HANDLE_SOCKET, SIM_HANDLE_LISTENER };

struct sim_handle {
	enum sim_handle_kind kind;
	struct sim_file *file;
	bool direct; /* O_DIRECT: everything is aligned to 4096 */
	bool locked; /* has the file's lock */
	bool writable;
	struct sim_socket *socket;
	struct sim_listener *listener;
	unsigned node; /* of the relay that has it */
};

/* A new descriptor; 1000 and up, so that no real one is taken for it. */
int sim_handle_new(struct sim_handle handle);
/* Fails the run where fd is not open. The pointer is valid until the next sim_handle_new(). */
struct sim_handle *sim_handle(int fd);
struct sim_file *sim_handle_file(int fd);
void sim_handle_close(int fd);
void sim_handles_check_closed(void);

/* open(2) on the simulated disk: a descriptor or -errno. Directory AT_FDCWD is the root, where a
 * path with slashes is one name. */
int sim_open(int directory, const char *path, int flags);

/* ---- the ring: sim_ring.c ---- */

uint64_t sim_ring_next_us(void);
void sim_ring_step(void);
/* Decides what of the operations in flight has reached the disk. */
void sim_ring_crash(void);
void sim_ring_check_empty(void);

/* ---- one relay of several is killed, which has no files ---- */

/* Both, the ring first: operations end without a word, descriptors are closed. */
void sim_ring_kill(unsigned node);
void sim_handles_kill(unsigned node);

/* What an oracle wants to see of the traffic between relay and machine. */
struct sim_watch {
	/* A durable write begins; numbers count up over all rings of the incarnation. */
	void (*on_write)(uint64_t number, struct ring *r, uint32_t file, const uint8_t *data,
			 size_t size);
	/* It has ended, and the relay has not seen it yet. */
	void (*on_written)(uint64_t number, bool whole);
	/* Bytes are handed over to be sent. */
	void (*on_send)(struct ring *r, struct sim_socket *s, const uint8_t *data, size_t size);
};
void sim_ring_watch(const struct sim_watch *watch);

#endif
