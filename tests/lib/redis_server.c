/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/redis_server.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static bool
is_free(unsigned port)
{
	struct sockaddr_in a = { .sin_family = AF_INET,
				 .sin_port = htons((uint16_t)port),
				 .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool ok = bind(fd, (struct sockaddr *)&a, sizeof a) == 0;

	close(fd);
	return ok;
}

/* Below those that the kernel gives to clients, each process in another place. A node of a cluster
 * has a bus at its port + BUS. */
unsigned
redis_server_free_port(void)
{
	enum { FIRST = 11000, COUNT = 10000, BUS = 10000 };
	static unsigned next;

	for (unsigned tries = 0; tries < COUNT; tries++) {
		unsigned port = FIRST + ((unsigned)getpid() * 61 + next++) % COUNT;
		if (is_free(port) && is_free(port + BUS))
			return port;
	}
	fail_msg("no port is free");
	return 0;
}

static void
write_configuration(const struct redis_server *s)
{
	char path[128];

	snprintf(path, sizeof path, "%s/redis.conf", s->folder);
	FILE *f = fopen(path, "w");
	assert_non_null(f);
	fprintf(f, "bind 127.0.0.1\nport %u\nunixsocket %s\ndir %s\ndaemonize no\n%s%s\n", s->port,
		s->socket + strlen("unix:"), s->folder,
		s->is_sentinel ? "" : "save \"\"\nshutdown-timeout 0\n", s->extra);
	assert_int_equal(fclose(f), 0);
}

/* Its log comes by a pipe, so nothing is waited for that is not said. */
static void
wait_until_ready(int log, const char *sign)
{
	char text[16384];
	size_t size = 0;
	ssize_t n;

	while ((n = read(log, text + size, sizeof text - 1 - size)) > 0) {
		size += (size_t)n;
		text[size] = 0;
		if (strstr(text, sign) != NULL)
			return;
		assert_true(size < sizeof text - 1);
	}
	text[size] = 0;
	fail_msg("redis-server does not start:\n%s", text);
}

void
redis_server_restart(struct redis_server *s)
{
	char path[128];
	int fds[2];

	assert_int_equal(s->pid, 0);
	snprintf(path, sizeof path, "%s/redis.conf", s->folder);
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	s->pid = fork();
	assert_true(s->pid >= 0);
	if (s->pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		signal(SIGPIPE, SIG_IGN); /* the test reads its log only until it is ready */
		dup2(fds[1], 1);
		dup2(fds[1], 2);
		execlp("redis-server", "redis-server", path,
		       s->is_sentinel ? "--sentinel" : (char *)NULL, (char *)NULL);
		_exit(127);
	}
	close(fds[1]);
	wait_until_ready(fds[0], s->is_sentinel ? "+monitor" : "Ready to accept connections");
	close(fds[0]);
}

static void
start(struct redis_server *s, const char *extra)
{
	strcpy(s->folder, "/tmp/ringpost-redis-XXXXXX");
	assert_non_null(mkdtemp(s->folder));
	s->port = redis_server_free_port();
	snprintf(s->socket, sizeof s->socket, "unix:%s/socket", s->folder);
	snprintf(s->address, sizeof s->address, "127.0.0.1:%u", s->port);
	assert_true(strlen(extra) < sizeof s->extra);
	strcpy(s->extra, extra);
	write_configuration(s);
	redis_server_restart(s);
}

void
redis_server_start(struct redis_server *s, const char *extra)
{
	*s = (struct redis_server){ .is_sentinel = false };
	start(s, extra);
}

void
redis_server_start_sentinel(struct redis_server *s, const char *lines)
{
	*s = (struct redis_server){ .is_sentinel = true };
	start(s, lines);
}

void
redis_server_end(struct redis_server *s, int signal_number)
{
	int status;

	if (s->pid == 0)
		return;
	kill(s->pid, signal_number);
	assert_int_equal(waitpid(s->pid, &status, 0), s->pid);
	s->pid = 0;
}

void
redis_server_free(struct redis_server *s)
{
	char command[128];

	redis_server_end(s, SIGKILL);
	if (s->folder[0] == 0)
		return;
	snprintf(command, sizeof command, "rm -rf %s", s->folder);
	assert_int_equal(system(command), 0);
	s->folder[0] = 0;
}

const char *
redis_server_ask(const struct redis_server *s, const char *words)
{
	static char answer[65536];
	char command[1024];

	snprintf(command, sizeof command, "redis-cli -s '%s' %s", s->socket + strlen("unix:"),
		 words);
	FILE *f = popen(command, "r");
	assert_non_null(f);
	size_t n = fread(answer, 1, sizeof answer - 1, f);
	pclose(f);
	answer[n] = 0;
	return answer;
}
