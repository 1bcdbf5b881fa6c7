/* SPDX-License-Identifier: Apache-2.0
 *
 * The real sockets behind net.h.
 */
#include "core/net.h"

#include <errno.h>
#include <ifaddrs.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/un.h>
#include <unistd.h>

#include "core/base/assert.h"

static int
switch_on(int fd, int level, int option)
{
	int on = 1;
	return setsockopt(fd, level, option, &on, sizeof on) == 0 ? 0 : -errno;
}

/* Closes fd and passes the error on. */
static int
give_up(int fd, int error)
{
	ASSERT(error < 0);
	close(fd);
	return error;
}

int
net_socket(const struct net_address *peer)
{
	int family = peer->head.family;
	int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	if (family == AF_UNIX)
		return fd;
	int failed = switch_on(fd, IPPROTO_TCP, TCP_NODELAY);
	return failed == 0 ? fd : give_up(fd, failed);
}

/* Accepted sockets inherit TCP_NODELAY from the listener. */
static int
prepare(int fd, const struct net_address *a, bool reuse_port)
{
	int failed = 0;

	if (a->head.family == AF_UNIX)
		return 0;
	failed = switch_on(fd, SOL_SOCKET, SO_REUSEADDR);
	if (failed == 0 && reuse_port)
		failed = switch_on(fd, SOL_SOCKET, SO_REUSEPORT);
	if (failed == 0 && a->head.family == AF_INET6)
		failed = switch_on(fd, IPPROTO_IPV6, IPV6_V6ONLY);
	return failed;
}

/* The file of a unix socket outlives its listener. Removes it where nobody answers there; true:
 * the name is free now. */
static bool
remove_dead_socket(const struct net_address *a)
{
	struct sockaddr_un path;
	int fd;
	bool dead;

	if (a->head.family != AF_UNIX)
		return false;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return false;
	dead = connect(fd, &a->any, a->size) != 0 && errno == ECONNREFUSED;
	close(fd);
	path = (struct sockaddr_un){ 0 };
	memcpy(&path, a->bytes, a->size);
	return dead && unlink(path.sun_path) == 0;
}

static int
bind_to(int fd, const struct net_address *a)
{
	if (bind(fd, &a->any, a->size) == 0)
		return 0;
	if (errno != EADDRINUSE)
		return -errno;
	if (!remove_dead_socket(a))
		return -EADDRINUSE;
	return bind(fd, &a->any, a->size) == 0 ? 0 : -errno;
}

void
net_close(int fd)
{
	close(fd);
}

int
net_listen(const struct net_address *a, int backlog, bool reuse_port)
{
	int fd = net_socket(a);

	if (fd < 0)
		return fd;
	int failed = prepare(fd, a, reuse_port);
	if (failed == 0)
		failed = bind_to(fd, a);
	if (failed == 0 && listen(fd, backlog) != 0)
		failed = -errno;
	return failed == 0 ? fd : give_up(fd, failed);
}

typedef int (*name_fn)(int fd, struct sockaddr *address, socklen_t *size);

static bool
ask(name_fn name, int fd, struct net_address *out)
{
	*out = (struct net_address){ .size = sizeof out->bytes };
	if (name(fd, &out->any, &out->size) == 0 && out->size <= sizeof out->bytes)
		return true;
	*out = (struct net_address){ 0 };
	return false;
}

bool
net_peer(int fd, struct net_address *out)
{
	return ask(getpeername, fd, out);
}

bool
net_local(int fd, struct net_address *out)
{
	return ask(getsockname, fd, out);
}

unsigned
net_own_addresses(sa_family_t family, struct net_address *out, unsigned most)
{
	socklen_t size =
		family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
	struct ifaddrs *all;
	unsigned count = 0;

	if (getifaddrs(&all) != 0)
		return 0;
	for (const struct ifaddrs *i = all; i != NULL && count < most; i = i->ifa_next) {
		if (i->ifa_addr == NULL || i->ifa_addr->sa_family != family)
			continue;
		out[count].size = size;
		memcpy(out[count++].bytes, i->ifa_addr, size);
	}
	freeifaddrs(all);
	return count;
}
