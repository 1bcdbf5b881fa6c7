/* SPDX-License-Identifier: Apache-2.0
 *
 * sim: the simulated world that the production code runs in: virtual time, one seeded generator,
 * memory that outlives a crash, the fault rates of this run, and the ways in which a run ends.
 *
 * The world lies in one shared mapping. An incarnation of the relay is a forked child: what it
 * allocates is its own and dies with it, what it did to the world stays. A crash is _exit() in the
 * middle of everything, after the disk has decided what of the unfinished survives (sim_crash). So
 * nothing in the world may point into an incarnation's memory, and the world's memory comes from
 * sim_allocate() alone.
 *
 * All choices come from one generator seeded per run; the relay's own random numbers come from it
 * as well. Nothing depends on addresses, the real clock or the environment, so that one seed is one
 * run: sim_note() folds all that happens into a trace hash, which the tests compare.
 *
 * The parts: sim_files.h (what the disk keeps), sim_disk.c (core/disk.h), sim_ring.c (core/ring.h),
 * sim_net.h (streams and peers, core/net.h), sim_clock.c (core/base/clock.h). One thread.
 */
#ifndef TESTS_FAULT_SIM_H
#define TESTS_FAULT_SIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sim_files;
struct sim_net;
struct sim_spares;
struct oracle;

/* How likely things go wrong, out of 1000. All zero: a machine without faults. */
struct sim_faults {
	unsigned short_io;     /* a read or write moves less than asked */
	unsigned slow_io;      /* a file operation takes up to slow_us */
	unsigned write_error;  /* EIO; the range written is left in an unknown state */
	unsigned read_error;   /* EIO */
	unsigned sync_error;   /* EIO; what was not durable never becomes so by a later sync */
	unsigned no_space;     /* ENOSPC although there would be room */
	unsigned destage;      /* a sector overwritten while not durable had reached the disk */
	unsigned early_submit; /* operations go to the kernel before the turn ends */
	unsigned accept_ends;  /* a multishot accept ends and must be started again */
	unsigned reset;        /* a connection breaks at an event */
	uint64_t slow_us;
	uint64_t clock_step_us; /* time that passes by looking at the clock */
};

/* Bugs planted in the machine, to prove that the oracles find them. */
enum sim_plant {
	SIM_PLANT_NONE,
	SIM_PLANT_DURABLE_WRITE,  /* now and then a durable write is only in the page cache */
	SIM_PLANT_FILE_SYNC,      /* a sync of a file does nothing */
	SIM_PLANT_DIRECTORY_SYNC, /* a sync of a directory does nothing */
	SIM_PLANT_BYTE,           /* now and then a written byte is another */
	SIM_PLANT_COUNT
};

enum sim_end {
	SIM_FINISHED, /* the child returned */
	SIM_CRASHED,  /* at world->crash_at */
	SIM_FAILED,   /* an oracle said so: world->failure */
	SIM_DIED,     /* an assertion, a sanitizer, a signal, an unknown exit code */
	SIM_HUNG,     /* used up its real time */
};

struct world {
	uint64_t seed;
	uint64_t random; /* the generator's state */
	uint64_t now_us;
	uint64_t wall_ms; /* the wall clock at now_us == 0; moved by restarts */
	struct sim_faults faults;
	enum sim_plant plant;

	uint64_t completions; /* of all incarnations: every event at which a crash could fall */
	uint64_t crash_at;    /* crash right after this one; 0: never */
	uint64_t trace;       /* hash of all notes */
	bool verbose;
	char failure[512];

	unsigned node; /* whose turn it is, where several relays run */
	struct sim_files *files;
	struct sim_net *net;
	struct sim_spares *spares; /* of sim_keys.c */
	struct oracle *oracle;
	void *cast; /* the peers of a driver, or NULL */
};

/* The world of this process; made once, shared with all children. */
extern struct world *world;

/* Maps the world's memory; once a process. */
void sim_map(void);
/* Empties the world and seeds it; files and net are new and empty. */
void sim_reset(uint64_t seed);
/* Zeroed memory of the world, or the end of the run where it is used up. Sizes up to a page are
 * given back with sim_release(), others stay until the reset. */
void *sim_allocate(size_t size);
void sim_release(void *memory, size_t size);

/* Runs body in a child; `seconds` of real time at most. */
enum sim_end sim_run(void (*body)(void *context), void *context, unsigned seconds);

/* Ends this incarnation as a power failure would. */
_Noreturn void sim_crash(void);
/* Ends it because something that must hold does not. */
_Noreturn void sim_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Something became visible to the relay or to the disk: here it may crash. */
void sim_completed(void);
/* Folds an event into the trace, and prints it where the run is verbose. */
void sim_note(const char *what, uint64_t a, uint64_t b);

/* ---- chance ---- */

uint64_t sim_random(void);
/* 0 .. below - 1; `below` > 0. */
uint64_t sim_below(uint64_t below);
/* least .. most, both included. */
uint64_t sim_between(uint64_t least, uint64_t most);
/* True `per_mille` times of 1000; draws nothing for 0. */
bool sim_chance(unsigned per_mille);
/* Pseudo-random bytes that depend on `key` alone, for contents that can be checked later. */
void sim_fill(uint64_t key, uint8_t *out, size_t size);
uint64_t sim_hash(uint64_t seed, const void *data, size_t size);

/* ---- the world's hands: called by the driver between the turns of the workers ---- */

/* Time of the next event of disk or network; UINT64_MAX: nothing will happen by itself. */
uint64_t sim_next_us(void);
/* Lets one event happen that is due at or before until_us, moving the clock to it; false where
 * there is none. */
bool sim_step(uint64_t until_us);
/* Moves the clock forward. */
void sim_advance(uint64_t to_us);
/* Nothing of the relay may be left: operations, descriptors, sockets. Fails where there is. */
void sim_check_nothing_left(void);
/* Neither may memory, at the end of an orderly incarnation. Sees something under ASan only. */
void sim_check_no_leaks(void);

#endif
