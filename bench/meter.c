/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/meter.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/assert.h"

enum { TREE_MAX = 4096, PATH_SIZE = 64, TEXT_SIZE = 4096 };

struct process {
	pid_t pid;
	pid_t parent;
	char name[METER_NAME_SIZE];
	uint64_t user_ticks, system_ticks; /* its own and those of children it has waited for */
};

/* A whole small file of /proc, as a string; empty where it cannot be read. */
static void
read_proc(pid_t pid, const char *file, char text[TEXT_SIZE])
{
	char path[PATH_SIZE];
	size_t n = 0;

	snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, file);
	FILE *f = fopen(path, "re");
	if (f != NULL) {
		n = fread(text, 1, TEXT_SIZE - 1, f);
		fclose(f);
	}
	text[n] = '\0';
}

/* The number behind a word at the start of a line; 0 where there is none. */
static uint64_t
number_of(const char *text, const char *word)
{
	size_t size = strlen(word);

	for (const char *line = text; line != NULL; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (strncmp(line, word, size) == 0)
			return strtoull(line + size, NULL, 10);
	}
	return 0;
}

static bool
read_process(pid_t pid, struct process *p)
{
	char text[TEXT_SIZE];
	unsigned long long user, system;
	long long waited_user, waited_system;
	int parent;

	read_proc(pid, "stat", text);
	/* The name is in brackets and may hold anything, brackets too. */
	char *open = strchr(text, '(');
	char *shut = strrchr(text, ')');
	if (open == NULL || shut == NULL ||
	    sscanf(shut + 1, " %*c %d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu %lld %lld",
		   &parent, &user, &system, &waited_user, &waited_system) != 5)
		return false;
	*shut = '\0';
	*p = (struct process){
		.pid = pid,
		.parent = parent,
		.user_ticks = user + (unsigned long long)waited_user,
		.system_ticks = system + (unsigned long long)waited_system,
	};
	snprintf(p->name, sizeof p->name, "%.*s", METER_NAME_SIZE - 1, open + 1);
	return true;
}

static size_t
read_all(struct process *all, size_t most)
{
	DIR *proc = opendir("/proc");
	struct dirent *entry;
	size_t n = 0;

	if (proc == NULL)
		return 0;
	while (n < most && (entry = readdir(proc)) != NULL) {
		int pid = entry->d_name[0] >= '1' && entry->d_name[0] <= '9'
				  ? (int)strtol(entry->d_name, NULL, 10)
				  : 0;
		if (pid > 0)
			n += read_process(pid, &all[n]);
	}
	closedir(proc);
	return n;
}

static uint64_t
switches_of(pid_t pid)
{
	char path[PATH_SIZE];
	char text[TEXT_SIZE];
	struct dirent *entry;
	uint64_t n = 0;

	snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
	DIR *tasks = opendir(path);
	if (tasks == NULL)
		return 0;
	while ((entry = readdir(tasks)) != NULL) {
		if (entry->d_name[0] == '.')
			continue;
		snprintf(path, sizeof path, "task/%.20s/status", entry->d_name);
		read_proc(pid, path, text);
		n += number_of(text, "voluntary_ctxt_switches:") +
		     number_of(text, "nonvoluntary_ctxt_switches:");
	}
	closedir(tasks);
	return n;
}

static struct meter_process *
name_of(struct meter *m, const char *name)
{
	for (unsigned i = 0; i < m->name_count; i++)
		if (strcmp(m->names[i].name, name) == 0)
			return &m->names[i];
	if (m->name_count == METER_NAMES_MAX) {
		struct meter_process *last = &m->names[METER_NAMES_MAX - 1];
		snprintf(last->name, sizeof last->name, "others");
		return last;
	}
	struct meter_process *p = &m->names[m->name_count++];
	snprintf(p->name, sizeof p->name, "%s", name);
	return p;
}

static void
add(struct meter *m, const struct process *p, bool with_pss)
{
	uint64_t tick_us = 1000000 / (uint64_t)sysconf(_SC_CLK_TCK);
	char text[TEXT_SIZE];

	struct meter_process *name = name_of(m, p->name);
	name->count++;
	name->user_us += p->user_ticks * tick_us;
	name->system_us += p->system_ticks * tick_us;
	m->processes++;
	m->user_us += p->user_ticks * tick_us;
	m->system_us += p->system_ticks * tick_us;
	m->context_switches += switches_of(p->pid);
	read_proc(p->pid, "io", text);
	m->bytes_written += number_of(text, "write_bytes:");
	if (!with_pss)
		return;
	read_proc(p->pid, "smaps_rollup", text);
	m->pss_bytes += number_of(text, "Pss:") * 1024;
}

bool
meter_read(pid_t root, bool with_pss, struct meter *out)
{
	struct process *all = malloc(TREE_MAX * sizeof *all);
	pid_t tree[TREE_MAX];
	size_t count = all == NULL ? 0 : read_all(all, TREE_MAX);
	size_t in_tree = 0;

	*out = (struct meter){ 0 };
	tree[in_tree++] = root;
	/* Children of what is in the tree, until no more are found. */
	for (size_t at = 0; at < in_tree; at++) {
		for (size_t i = 0; i < count; i++) {
			if (all[i].pid == tree[at])
				add(out, &all[i], with_pss);
			else if (all[i].parent == tree[at] && in_tree < TREE_MAX)
				tree[in_tree++] = all[i].pid;
		}
	}
	free(all);
	return out->processes > 0;
}
