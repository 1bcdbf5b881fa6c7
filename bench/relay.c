/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/relay.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "core/base/assert.h"
#include "core/base/clock.h"

enum {
	START_SECONDS = 60,
	STOP_SECONDS = 30,
	LOOK_MS = 50,
	GREETING_MS = 5000,
};

/* Nothing tells when a port opens in another process, so it is looked at again and again. */
static void
pause_ms(unsigned ms)
{
	struct timespec t = { .tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000 };

	nanosleep(&t, NULL);
}

static bool
greets(const struct relay *r, const struct net_address *address)
{
	int fd = socket(address->head.family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	char first = 0;
	bool good = false;

	if (fd < 0)
		return false;
	bool connected = connect(fd, &address->any, address->size) == 0;
	if (connected && r->silent) {
		good = true;
	} else if (connected) {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		good = poll(&p, 1, GREETING_MS) == 1 && recv(fd, &first, 1, 0) == 1 && first == '2';
		(void)!send(fd, "QUIT\r\n", 6, MSG_NOSIGNAL);
	}
	close(fd);
	return good;
}

static bool
is_interrupted(void)
{
	sigset_t pending;

	return sigpending(&pending) == 0 &&
	       (sigismember(&pending, SIGINT) == 1 || sigismember(&pending, SIGTERM) == 1);
}

static bool
has_ended(const struct relay *r)
{
	siginfo_t info = { 0 };

	return r->ours && waitid(P_PID, (id_t)r->pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
	       info.si_pid != 0;
}

bool
relay_await(const struct relay *r, const struct net_address *address, unsigned seconds,
	    struct buf *why)
{
	uint64_t until_ms = clock_monotonic_ms() + seconds * 1000;

	while (!greets(r, address)) {
		bool ended = has_ended(r);
		bool interrupted = is_interrupted();
		if (!ended && !interrupted && clock_monotonic_ms() < until_ms) {
			pause_ms(LOOK_MS);
			continue;
		}
		buf_append_string(why, interrupted ? "interrupted before the relay at "
						   : "the relay at ");
		net_address_show(address, why);
		if (interrupted)
			buf_append_string(why, " greeted");
		else if (ended)
			buf_append_string(why, " has ended instead of greeting; see its output");
		else
			buf_printf(why, " does not greet in %u s", seconds);
		return false;
	}
	return true;
}

/* In the child. It begins as if a shell had started it. */
static _Noreturn void
run_command(char **command)
{
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	setpgid(0, 0);
	execvp(command[0], command);
	fprintf(stderr, "ringpost-bench: %s: %s\n", command[0], strerror(errno));
	_exit(127);
}

bool
relay_start(struct relay *r, char **command, const struct net_address *address, struct buf *why)
{
	ASSERT(command[0] != NULL);
	if (greets(r, address)) {
		buf_append_string(why, "something listens already at ");
		net_address_show(address, why);
		buf_append_string(why, ", so the command was not started");
		return false;
	}
	pid_t pid = fork();
	if (pid == 0)
		run_command(command);
	if (pid < 0) {
		buf_printf(why, "%s cannot be started: %s", command[0], strerror(errno));
		return false;
	}
	*r = (struct relay){ .pid = pid, .ours = true, .silent = r->silent };
	if (relay_await(r, address, START_SECONDS, why))
		return true;
	relay_stop(r);
	return false;
}

bool
relay_is_gone(const struct relay *r, const struct net_address *address)
{
	return has_ended(r) && !greets(r, address);
}

void
relay_stop(struct relay *r)
{
	if (!r->ours)
		return;
	uint64_t until_ms = clock_monotonic_ms() + STOP_SECONDS * 1000;
	kill(r->pid, SIGTERM);
	while (!has_ended(r) && clock_monotonic_ms() < until_ms)
		pause_ms(LOOK_MS);
	/* Its id is its group's, and nobody else's until it has been waited for. */
	kill(-r->pid, has_ended(r) ? SIGTERM : SIGKILL);
	waitpid(r->pid, NULL, 0);
	*r = (struct relay){ .silent = r->silent };
}
