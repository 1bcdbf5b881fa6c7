/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/ctl/link.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

enum { ANSWER_FIRST = 64 * 1024, ANSWER_MAX = 256 * 1024 * 1024 };

static void
explain_connect(const char *path, int error, struct buf *why)
{
	const char *remedy = "";

	if (error == ENOENT)
		remedy = "; is ringpostd running, and is this its admin.socket (--socket)?";
	else if (error == ECONNREFUSED)
		remedy = "; ringpostd does not run";
	else if (error == EACCES)
		remedy = "; become root, its user, or a member of its admin.group";
	buf_printf(why, "%s: %s%s", path, strerror(error), remedy);
}

static int
open_socket(const char *path, uint64_t timeout_ms, struct buf *why)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct timeval timeout = {
		.tv_sec = (time_t)(timeout_ms / 1000),
		.tv_usec = (suseconds_t)(timeout_ms % 1000 * 1000),
	};

	if (strlen(path) >= sizeof address.sun_path) {
		buf_printf(why, "%.100s...: too long for the path of a socket", path);
		return -1;
	}
	memcpy(address.sun_path, path, strlen(path));
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout) != 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout) != 0 ||
	    connect(fd, (const struct sockaddr *)&address, sizeof address) != 0) {
		explain_connect(path, errno, why);
		if (fd >= 0)
			close(fd);
		return -1;
	}
	return fd;
}

static bool
send_line(int fd, struct span line, struct buf *why)
{
	while (line.size > 0) {
		ssize_t sent = send(fd, line.data, line.size, MSG_NOSIGNAL);
		/* Turned away at once: the answer says why. */
		if (sent < 0 && errno == EPIPE)
			return true;
		if (sent < 0) {
			buf_printf(why, "ringpostd does not take the request: %s", strerror(errno));
			return false;
		}
		line = span_after(line, (size_t)sent);
	}
	return true;
}

static void
explain_receive(ssize_t got, struct buf *why)
{
	if (got == 0)
		buf_append_string(why, "ringpostd closed the connection without an answer");
	else if (errno == EAGAIN || errno == EWOULDBLOCK)
		buf_append_string(why, "ringpostd does not answer in time (--timeout)");
	else
		buf_printf(why, "no answer of ringpostd: %s", strerror(errno));
}

static char *
receive_line(int fd, struct buf *why)
{
	size_t capacity = ANSWER_FIRST;
	size_t size = 0;
	char *answer = malloc(capacity);

	while (answer != NULL) {
		ssize_t got = recv(fd, answer + size, capacity - size, 0);
		if (got <= 0) {
			explain_receive(got, why);
			free(answer);
			return NULL;
		}
		char *end = memchr(answer + size, '\n', (size_t)got);
		size += (size_t)got;
		if (end != NULL) {
			*end = 0;
			return answer;
		}
		if (size < capacity)
			continue;
		char *more = capacity < ANSWER_MAX ? realloc(answer, capacity *= 2) : NULL;
		if (more == NULL)
			free(answer);
		answer = more;
	}
	buf_append_string(why, "no memory for the answer");
	return NULL;
}

char *
link_ask(const char *path, struct span line, uint64_t timeout_ms, struct buf *why)
{
	int fd = open_socket(path, timeout_ms, why);
	char *answer = NULL;

	if (fd < 0)
		return NULL;
	if (send_line(fd, line, why))
		answer = receive_line(fd, why);
	close(fd);
	return answer;
}
