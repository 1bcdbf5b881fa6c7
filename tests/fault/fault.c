/* SPDX-License-Identifier: Apache-2.0
 *
 * fault: runs lives of the relay, one a seed, and says which of them broke a promise.
 *
 *   fault [--layer spool] --seeds A-B [--workers N] [--jobs N] [--verbose]
 *   fault [--layer spool] --seeds A-B --twice          each seed twice: must be the same run
 *   fault [--layer spool] --seeds A-B --crash-walk     a crash at every completion of each seed
 *   fault [--layer spool] --seeds A-B --teeth          each planted bug must be found in A-B
 *   fault [--layer spool] --seeds A-B --plant NAME     runs with one of them
 *   fault [--layer spool] --seeds A-B --find           some seed must fail: a bug was built in
 *
 * Exit 0: all promises were kept (--teeth, --find: every planted bug was found); 1: not; 2: usage.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/base/assert.h"
#include "tests/fault/drive.h"
#include "tests/fault/oracle.h"
#include "tests/fault/sim_files.h"
#ifdef FAULT_TOY
#include "tests/fault/toy/toy_store.h"
#endif

enum { SECONDS_MOST = 180 };

static const char *const plant_names[SIM_PLANT_COUNT] = {
	[SIM_PLANT_NONE] = "none",           [SIM_PLANT_DURABLE_WRITE] = "durable-write",
	[SIM_PLANT_FILE_SYNC] = "file-sync", [SIM_PLANT_DIRECTORY_SYNC] = "directory-sync",
	[SIM_PLANT_BYTE] = "byte",
};

static const char *const end_names[] = { "finished", "crashed", "failed", "died", "hung" };

/* What is driven: an incarnation, and the one that looks at what is left. */
struct layer {
	const char *name;
	void (*incarnation)(void *plan);
	void (*final)(void *plan);
	bool is_toy;    /* knows no errors of the disk */
	bool damages;   /* a stored bit is flipped between the incarnations */
	bool days;      /* mails are tried for days */
	bool redis;     /* mails are in a modelled Redis */
	unsigned nodes; /* relays over it; 0: one */
};

static const struct layer layers[] = {
#ifdef FAULT_TOY
	{ "toy", drive_spool, drive_spool_final, true, false, false, false, 0 },
	{ "proxy", drive_proxy, drive_proxy_final, true, false, false, false, 0 },
#else
	{ "spool", drive_spool, drive_spool_final, false, false, false, false, 0 },
	{ "damage", drive_spool, drive_spool_final, false, true, false, false, 0 },
	{ "redis", drive_spool, drive_spool_final, true, false, false, true, 0 },
#endif
#if defined(FAULT_RELAY) && defined(FAULT_TOY)
	{ "relay", drive_relay, drive_relay_final, true, false, false, false, 0 },
	{ "days", drive_relay, drive_relay_final, true, false, true, false, 0 },
#elif defined(FAULT_RELAY)
	{ "relay", drive_relay, drive_relay_final, false, false, false, false, 0 },
	{ "days", drive_relay, drive_relay_final, false, false, true, false, 0 },
	{ "redis_relay", drive_relay, drive_relay_final, true, false, false, true, 0 },
	{ "redis_days", drive_relay, drive_relay_final, true, false, true, true, 0 },
	{ "cluster", drive_relay, drive_relay_final, true, false, false, true, 2 },
	{ "cluster_days", drive_relay, drive_relay_final, true, false, true, true, 2 },
#endif
};

/* Bugs planted in the code that is driven, beside those of the machine. */
#ifdef FAULT_TOY
static const char *const bug_names[TOY_BUGS] = {
	"none",
	"confirms-early",
	"forgets-outcomes",
	"forgets-some-outcomes",
	"skips-name-sync",
	"loses-last-byte",
	"leaks-descriptor",
	"gives-twice",
	"writes-to-lent",
	"splits-notice",
	"forgets-told",
	"forgets-due",
	"comes-early",
};

static void
set_bug(unsigned bug)
{
	toy_bug = (enum toy_bug)bug;
}
enum { BUGS = TOY_BUGS };
#else
static const char *const bug_names[] = { "none" };

static void
set_bug(unsigned bug)
{
	(void)bug;
}
enum { BUGS = 1 };
#endif

struct options {
	const struct layer *layer;
	uint64_t first, last;
	unsigned workers;
	unsigned jobs;
	bool verbose;
	bool crash_walk;
	bool twice;
	bool find;
	bool teeth;
	enum sim_plant plant;
	unsigned bug;
};

struct totals {
	uint64_t lives, crashes, kept, refused, outcomes, duplicates, doubts, arrivals, bytes,
		completions, events, eventless, dropped, notices, attempts, expired, delays,
		wall_ms, latest_ms, questions, strangers;
};

/* ---- one life ---- */

static bool
is_over(enum sim_end end)
{
	return end != SIM_FINISHED && end != SIM_CRASHED;
}

static void
explain(enum sim_end end)
{
	if (end != SIM_FAILED)
		snprintf(world->failure, sizeof world->failure, "the relay %s", end_names[end]);
}

/* Power comes back after a while. */
static void
pause_between(const struct drive_plan *plan)
{
	uint64_t hours = plan->days ? 30 : 1;

	world->wall_ms += sim_below(plan->incarnation % 2 == 0 ? 1000 : hours * 3600 * 1000);
	sim_advance(world->now_us + sim_below(1000000));
}

/* True: all promises were kept. walk_at: where the first incarnation crashes; 0: as planned. */
static bool
live(const struct options *o, uint64_t seed, uint64_t walk_at, struct totals *t)
{
	struct drive_plan plan;
	enum sim_end end = SIM_FINISHED;

	sim_reset(seed);
	uint64_t began_ms = world->wall_ms;
	world->verbose = o->verbose;
	world->plant = o->plant;
	oracle_new();
	/* The operator has made the spool's directory: its name does not depend on the relay. */
	sim_name_create(sim_files_root(world->files), "/spool", true);
	sim_directory_sync(sim_files_root(world->files));
	drive_plan(&plan, o->workers);
	if (o->layer->is_toy)
		drive_plan_no_disk_errors(&plan);
	if (o->layer->days)
		drive_plan_days(&plan);
	if (o->layer->redis)
		drive_plan_redis(&plan, o->layer->incarnation != drive_spool);
	if (o->layer->nodes > 0)
		plan.nodes = o->layer->nodes;
	world->oracle->is_remote = o->layer->redis;
	set_bug(o->bug);
	if (o->crash_walk) {
		plan.incarnations = 1;
		plan.crash_after[0] = walk_at;
	}
	for (plan.incarnation = 0; plan.incarnation <= plan.incarnations && !is_over(end);
	     plan.incarnation++) {
		bool last = drive_is_last(&plan);
		uint64_t after = last ? 0 : plan.crash_after[plan.incarnation];
		world->faults = last ? (struct sim_faults){ 0 } : plan.faults;
		world->crash_at = after == 0 ? 0 : world->completions + after;
		if (last)
			sim_files_set_capacity(world->files, (uint64_t)1 << 24);
		sim_note("incarnation", plan.incarnation, drive_is_last(&plan));
		end = sim_run(o->layer->incarnation, &plan, SECONDS_MOST);
		t->crashes += end == SIM_CRASHED;
		if (end == SIM_CRASHED)
			for (unsigned node = 0; node < ORACLE_NODES; node++)
				oracle_crashed(node);
		pause_between(&plan);
		if (o->layer->damages && !last)
			world->oracle->damaged |= sim_files_damage(world->files);
	}
	if (!is_over(end)) {
		plan.incarnation = plan.incarnations;
		world->crash_at = 0;
		end = sim_run(o->layer->final, &plan, SECONDS_MOST);
	}
	t->lives++;
	t->kept += world->oracle->kept;
	t->refused += world->oracle->refused;
	t->outcomes += world->oracle->outcomes;
	t->duplicates += world->oracle->duplicates;
	t->doubts += world->oracle->doubts;
	t->arrivals += world->oracle->arrivals;
	t->bytes += world->oracle->bytes_checked;
	t->events += world->oracle->events;
	t->eventless += world->oracle->eventless;
	t->dropped += world->oracle->dropped;
	t->notices += world->oracle->notices;
	t->completions += world->completions;
	t->attempts += world->oracle->attempts;
	t->expired += world->oracle->expired;
	t->delays += world->oracle->delays;
	t->questions += world->oracle->questions;
	t->strangers += world->oracle->strangers;
	t->wall_ms += oracle_wall_ms() - began_ms;
	if (world->oracle->latest_ms > t->latest_ms)
		t->latest_ms = world->oracle->latest_ms;
	if (end == SIM_FINISHED)
		return true;
	explain(end);
	return false;
}

static void
report(const struct options *o, uint64_t seed, uint64_t walk_at)
{
	printf("seed %llu: %s\n", (unsigned long long)seed, world->failure);
	if (walk_at > 0)
		printf("  with the crash at completion %llu\n", (unsigned long long)walk_at);
	printf("  again: fault --layer %s --seeds %llu-%llu", o->layer->name,
	       (unsigned long long)seed, (unsigned long long)seed);
	if (o->workers > 0)
		printf(" --workers %u", o->workers);
	if (o->crash_walk)
		printf(" --crash-walk");
	if (o->plant != SIM_PLANT_NONE)
		printf(" --plant %s", plant_names[o->plant]);
	if (o->bug != 0)
		printf(" --plant %s", bug_names[o->bug]);
	printf(" --verbose\n");
	fflush(stdout);
}

/* A crash at every completion that the first incarnation has without one. */
static unsigned
walk(const struct options *o, uint64_t seed, struct totals *t)
{
	unsigned failures = 0;

	if (!live(o, seed, 0, t)) {
		report(o, seed, 0);
		return 1;
	}
	uint64_t completions = world->completions;
	for (uint64_t at = 1; at <= completions; at++)
		if (!live(o, seed, at, t)) {
			report(o, seed, at);
			failures++;
		}
	return failures;
}

/* The same seed is the same run, down to every completion: else no failure could be looked at. */
static unsigned
run_twice(const struct options *o, uint64_t seed, struct totals *t)
{
	uint64_t traces[2];
	bool ok = true;

	for (unsigned i = 0; i < 2; i++) {
		ok &= live(o, seed, 0, t);
		traces[i] = world->trace;
	}
	if (ok && traces[0] != traces[1]) {
		snprintf(world->failure, sizeof world->failure, "the second run was another");
		ok = false;
	}
	if (!ok)
		report(o, seed, 0);
	return !ok;
}

/* ---- many ---- */

static unsigned
run_seeds(const struct options *o, unsigned job, struct totals *t)
{
	unsigned failures = 0;

	for (uint64_t seed = o->first; seed <= o->last; seed++) {
		if (seed % o->jobs != job)
			continue;
		if (o->crash_walk)
			failures += walk(o, seed, t);
		else if (o->twice)
			failures += run_twice(o, seed, t);
		else if (!live(o, seed, 0, t)) {
			report(o, seed, 0);
			failures++;
		}
	}
	return failures;
}

static void
print_totals(const struct totals *t, unsigned failures)
{
	printf("%llu lives, %llu crashes, %llu completions: %llu mails kept, %llu refused, "
	       "%llu outcomes, %llu arrivals, %llu reports, %llu bytes compared, %llu permitted "
	       "duplicates, %llu "
	       "in doubt and kept, %llu events of outcomes, %llu lost in a crash, %llu bodies "
	       "dropped, %.1f days, %llu attempts put off, at most %llu s late, %llu recipients "
	       "expired, %llu late ones told, %llu questions to sinks, %llu strangers refused; "
	       "%u lives broke a promise\n",
	       (unsigned long long)t->lives, (unsigned long long)t->crashes,
	       (unsigned long long)t->completions, (unsigned long long)t->kept,
	       (unsigned long long)t->refused, (unsigned long long)t->outcomes,
	       (unsigned long long)t->arrivals, (unsigned long long)t->notices,
	       (unsigned long long)t->bytes, (unsigned long long)t->duplicates,
	       (unsigned long long)t->doubts, (unsigned long long)t->events,
	       (unsigned long long)t->eventless, (unsigned long long)t->dropped,
	       (double)t->wall_ms / (24 * 3600 * 1000), (unsigned long long)t->attempts,
	       (unsigned long long)t->latest_ms / 1000, (unsigned long long)t->expired,
	       (unsigned long long)t->delays, (unsigned long long)t->questions,
	       (unsigned long long)t->strangers, failures);
	fflush(stdout);
}

static bool
run_job(const struct options *o, unsigned job)
{
	struct totals t = { 0 };
	unsigned failures = run_seeds(o, job, &t);

	print_totals(&t, failures);
	return failures == 0;
}

static bool
run_jobs(const struct options *o)
{
	bool ok = true;

	if (o->jobs == 1)
		return run_job(o, 0);
	for (unsigned job = 0; job < o->jobs; job++) {
		pid_t child = fork();
		ASSERT(child >= 0);
		if (child == 0)
			exit(run_job(o, job) ? 0 : 1);
	}
	for (unsigned job = 0; job < o->jobs; job++) {
		int status;
		ASSERT(wait(&status) > 0);
		ok &= WIFEXITED(status) && WEXITSTATUS(status) == 0;
	}
	return ok;
}

/* Does some seed of the range find the planted bug? What the dying say is of no interest. */
static bool
find_plant(const struct options *with, const char *name)
{
	struct totals t = { 0 };
	int loud = dup(STDERR_FILENO);
	int quiet = open("/dev/null", O_WRONLY);
	bool found = false;
	uint64_t seed = with->first;
	struct options clean = *with;

	dup2(quiet, STDERR_FILENO);
	/* A seed that fails without the planted bug as well has not found it. */
	clean.plant = SIM_PLANT_NONE;
	clean.bug = 0;
	for (; seed <= with->last && !found; seed++)
		found = !live(with, seed, 0, &t) && (with->find || live(&clean, seed, 0, &t)) &&
			!live(with, seed, 0, &t);
	dup2(loud, STDERR_FILENO);
	close(loud);
	close(quiet);
	if (found)
		printf("%s: found by seed %llu: %s\n", name, (unsigned long long)(seed - 1),
		       world->failure);
	else
		printf("%s: not found\n", name);
	fflush(stdout);
	return found;
}

static bool
run_teeth(const struct options *o)
{
	struct options with = *o;
	bool ok = true;

	for (unsigned plant = SIM_PLANT_NONE + 1; plant < SIM_PLANT_COUNT; plant++) {
		if (o->layer->is_toy && plant == SIM_PLANT_FILE_SYNC)
			continue; /* it syncs no files */
		with.plant = plant;
		ok &= find_plant(&with, plant_names[plant]);
	}
	with.plant = SIM_PLANT_NONE;
	for (with.bug = 1; with.bug < BUGS; with.bug++)
		ok &= find_plant(&with, bug_names[with.bug]);
	return ok;
}

/* ---- command line ---- */

_Noreturn static void
usage(const char *what)
{
	fprintf(stderr,
		"fault: %s\nusage: fault [--layer NAME] --seeds A-B [--workers N] [--jobs N] "
		"[--verbose] [--twice | --crash-walk | --teeth | --find | --plant NAME]\n",
		what);
	exit(2);
}

static unsigned
number_of(const char *text, unsigned most)
{
	char *end;
	unsigned long n = strtoul(text, &end, 10);

	if (*end != '\0' || n == 0 || n > most)
		usage(text);
	return (unsigned)n;
}

static void
parse_value(struct options *o, const char *name, const char *value)
{
	char *end;

	if (strcmp(name, "--seeds") == 0) {
		o->first = strtoull(value, &end, 10);
		o->last = *end == '-' ? strtoull(end + 1, &end, 10) : o->first;
		if (*end != '\0' || o->last < o->first)
			usage(value);
	} else if (strcmp(name, "--workers") == 0) {
		o->workers = number_of(value, DRIVE_WORKERS_MAX);
	} else if (strcmp(name, "--jobs") == 0) {
		o->jobs = number_of(value, 64);
	} else if (strcmp(name, "--layer") == 0) {
		o->layer = NULL;
		for (size_t i = 0; i < sizeof layers / sizeof layers[0]; i++)
			if (strcmp(value, layers[i].name) == 0)
				o->layer = &layers[i];
		if (o->layer == NULL)
			usage(value);
	} else if (strcmp(name, "--plant") == 0) {
		for (unsigned i = 0; i < SIM_PLANT_COUNT; i++)
			if (strcmp(value, plant_names[i]) == 0)
				o->plant = i;
		for (unsigned i = 0; i < BUGS; i++)
			if (strcmp(value, bug_names[i]) == 0)
				o->bug = i;
		if (o->plant == SIM_PLANT_NONE && o->bug == 0)
			usage(value);
	} else {
		usage(name);
	}
}

int
main(int argc, char **argv)
{
	struct options o = { .layer = &layers[0], .first = 1, .last = 100, .jobs = 1 };

	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--verbose") == 0)
			o.verbose = true;
		else if (strcmp(argv[i], "--crash-walk") == 0)
			o.crash_walk = true;
		else if (strcmp(argv[i], "--find") == 0)
			o.find = true;
		else if (strcmp(argv[i], "--twice") == 0)
			o.twice = true;
		else if (strcmp(argv[i], "--teeth") == 0)
			o.teeth = true;
		else if (i + 1 < argc) {
			parse_value(&o, argv[i], argv[i + 1]);
			i++;
		} else {
			usage(argv[i]);
		}
	}
	bool ok = o.teeth  ? run_teeth(&o)
		  : o.find ? find_plant(&o, "the bug of this build")
			   : run_jobs(&o);
	return ok ? 0 : 1;
}
