/* SPDX-License-Identifier: Apache-2.0
 *
 * redis_server: a real redis-server of a test's own, in a temporary folder, on a unix socket and a
 * loopback port of its own. Calls fail the test where something is wrong.
 */
#ifndef TESTS_LIB_REDIS_SERVER_H
#define TESTS_LIB_REDIS_SERVER_H

#include <stdbool.h>
#include <sys/types.h>

struct redis_server {
	pid_t pid; /* 0: it does not run */
	bool is_sentinel;
	unsigned port;
	char folder[64];
	char socket[96];  /* "unix:/..." */
	char address[32]; /* "127.0.0.1:PORT" */
	char extra[1024]; /* lines of its configuration, for the next start too */
};

/* Makes the folder and starts it with these lines of configuration more; returns when it takes
 * commands. */
void redis_server_start(struct redis_server *s, const char *extra);
/* A Sentinel, with lines like "sentinel monitor ..."; returns when it watches. */
void redis_server_start_sentinel(struct redis_server *s, const char *lines);
/* Again, with its old files, port and configuration. */
void redis_server_restart(struct redis_server *s);
/* Ends it; SIGKILL or SIGTERM. */
void redis_server_end(struct redis_server *s, int signal_number);
/* Ends it, if it runs, and removes its folder. */
void redis_server_free(struct redis_server *s);
/* One command by redis-cli, words separated by blanks; its output in memory of the library, good
 * until the next. */
const char *redis_server_ask(const struct redis_server *s, const char *words);
/* A port of the loopback that nobody listens on. */
unsigned redis_server_free_port(void);

#endif
