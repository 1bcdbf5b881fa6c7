/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/control/startup.h"

#include <errno.h>
#include <grp.h>
#include <poll.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/net.h"

#define HOSTS_FILE "/etc/hosts" /* the default */

enum {
	KERNEL_MAJOR = 6,
	KERNEL_MINOR = 1,
	LISTEN_PATIENCE_MS = 2000,
	LISTEN_AGAIN_MS = 10,
	DESCRIPTORS_MIN = 256, /* segments, log, rings and a few connections */
};

bool
startup_check_kernel(struct buf *why)
{
	struct utsname name;
	int major = 0;
	int minor = 0;

	if (uname(&name) != 0 || sscanf(name.release, "%d.%d", &major, &minor) != 2)
		return true; /* a kernel that does not say: the ring will tell */
	if (major > KERNEL_MAJOR || (major == KERNEL_MAJOR && minor >= KERNEL_MINOR))
		return true;
	buf_printf(why, "kernel %s is too old: Linux %d.%d or newer is needed", name.release,
		   KERNEL_MAJOR, KERNEL_MINOR);
	return false;
}

bool
startup_raise_descriptors(struct buf *why)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
		return true;
	if (limit.rlim_cur < limit.rlim_max) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
	if (limit.rlim_cur >= DESCRIPTORS_MIN)
		return true;
	buf_printf(why,
		   "only %llu file descriptors may be open; raise the hard limit (LimitNOFILE= or "
		   "ulimit -Hn) to at least %d",
		   (unsigned long long)limit.rlim_cur, DESCRIPTORS_MIN);
	return false;
}

static void
explain_listen(const struct config_listener *l, int error, struct buf *why)
{
	buf_append_string(why, "listeners: ");
	net_address_show(&l->address, why);
	buf_printf(why, ": %s", strerror(error));
	if (error == EADDRINUSE)
		buf_append_string(why, "; stop what listens there (ss -ltnp), or use another port");
	else if (error == EACCES || error == EPERM)
		buf_append_string(why, "; ports below 1024 need root at start, or "
				       "AmbientCapabilities=CAP_NET_BIND_SERVICE");
	else if (error == EADDRNOTAVAIL)
		buf_append_string(why, "; this host has no such address");
}

/* Is the address free? Without SO_REUSEPORT, so that another process on it is noticed. After a
 * SIGKILL the kernel takes a killed process's ring apart a moment after the process is gone, and
 * its listeners with it (seen: up to some 10 ms), so a restart waits a little before it believes
 * that somebody else is there. */
static int
probe_address(const struct net_address *address)
{
	uint64_t until_ms = clock_monotonic_ms() + LISTEN_PATIENCE_MS;

	for (;;) {
		int fd = net_listen(address, 1, false);
		if (fd != -EADDRINUSE || clock_monotonic_ms() >= until_ms) {
			if (fd >= 0)
				net_close(fd);
			return fd < 0 ? fd : 0;
		}
		poll(NULL, 0, LISTEN_AGAIN_MS);
	}
}

bool
startup_listen(const struct config *config, size_t index, unsigned workers, int *fds,
	       struct buf *why)
{
	const struct config_listener *l = &config->listeners[index];
	int error = probe_address(&l->address);

	for (unsigned i = 0; i < workers && error == 0; i++) {
		fds[i] = net_listen(&l->address, (int)l->backlog, true);
		error = fds[i] < 0 ? fds[i] : 0;
	}
	if (error != 0)
		explain_listen(l, -error, why);
	return error == 0;
}

/* The root's keys as Debian has them: the package's own file, then the one that unbound keeps. */
static const char *
find_anchors(void)
{
	static const char *const files[] = { "/usr/share/dns/root.key",
					     "/var/lib/unbound/root.key" };

	for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
		if (access(files[i], R_OK) == 0)
			return files[i];
	}
	return NULL;
}

void
startup_resolver_options(const struct config *config, struct resolver_options *out)
{
	const struct config_dns *dns = &config->dns;
	bool no_hosts =
		span_eq(dns->hosts_file, SPAN("none")) ||
		/* What nobody asked for may be missing. */
		(span_eq(dns->hosts_file, SPAN(HOSTS_FILE)) && access(HOSTS_FILE, F_OK) != 0);

	*out = (struct resolver_options){
		.forwarders_auto = dns->forwarders.is_auto,
		.resolv_conf = "/etc/resolv.conf",
		.forwarder_count = (unsigned)dns->forwarders.count,
		.trust_anchors = (const char *)dns->trust_anchors.data,
		.hosts_file = no_hosts ? NULL : (const char *)dns->hosts_file.data,
		.search_count = (unsigned)dns->search_count,
		.transparent_count = (unsigned)dns->special_zones_count,
		.queries_max = dns->queries_max,
		.waiting_max = dns->waiting_max,
		.cache_bytes = dns->cache_size,
		.deadline_ms = dns->deadline_ms,
	};
	ASSERT(out->forwarder_count <= DNS_FORWARDERS_MAX && out->search_count <= DNS_SEARCH_MAX &&
	       out->transparent_count <= DNS_SEARCH_MAX);
	if (span_eq(dns->trust_anchors, SPAN("none")))
		out->trust_anchors = NULL;
	else if (span_eq(dns->trust_anchors, SPAN("auto")))
		out->trust_anchors = find_anchors();
	for (unsigned i = 0; i < out->forwarder_count; i++)
		out->forwarders[i] = dns->forwarders.items[i];
	for (unsigned i = 0; i < out->search_count; i++)
		out->search[i] = dns->search[i];
	for (unsigned i = 0; i < out->transparent_count; i++)
		out->transparent[i] = dns->special_zones[i];
}

bool
startup_asks_dns(const struct config *config)
{
	for (size_t i = 0; i < config->routes_count; i++) {
		const struct config_target *to = &config->routes[i].to;
		bool asks = to->kind == TARGET_MX;

		for (size_t n = 0; n < to->hosts_count; n++)
			asks |= to->hosts[n].name.size > 0;
		if (asks)
			return true;
	}
	return false;
}

static bool
become(const struct passwd *user, struct buf *why)
{
	if (initgroups(user->pw_name, user->pw_gid) != 0 || setgid(user->pw_gid) != 0 ||
	    setuid(user->pw_uid) != 0) {
		buf_printf(why, "user: cannot become %s: %s; start as root", user->pw_name,
			   strerror(errno));
		return false;
	}
	return true;
}

bool
startup_drop_user(const struct config *config, struct buf *why)
{
	if (config->user.size == 0) {
		if (geteuid() != 0 || config->allow_root)
			return true;
		buf_append_string(why, "started by root without a user to become; set `user`, or "
				       "`allow_root: true` where there is no other");
		return false;
	}
	/* Names in a snapshot end with a NUL that is not counted. */
	const struct passwd *user = getpwnam((const char *)config->user.data);
	if (user == NULL) {
		buf_printf(why, "user: there is no user %.*s; create it (useradd --system)",
			   SPAN_ARG(config->user));
		return false;
	}
	if (user->pw_uid == geteuid())
		return true;
	return become(user, why);
}

/* What is dumpable may be dumped, and looked at by processes of the same user (ptrace(2)). */
bool
startup_hide(const struct config *config, struct buf *why)
{
	struct rlimit none = { 0, 0 };
	/* Also where dumps are wanted: becoming another user has taken that away. */
	int failed = prctl(PR_SET_DUMPABLE, config->core_dumps ? 1 : 0, 0, 0, 0);

	if (failed == 0 && !config->core_dumps)
		failed = setrlimit(RLIMIT_CORE, &none);
	if (failed == 0)
		return true;
	buf_printf(why, "core_dumps: the process's memory cannot be kept to itself: %s",
		   strerror(errno));
	return false;
}

bool
startup_state_directory(const struct config *config, struct buf *why)
{
	const char *path = (const char *)config->queue.spool.path.data;

	if (mkdir(path, 0700) == 0 || (errno == EEXIST && access(path, R_OK | W_OK | X_OK) == 0))
		return true;
	buf_printf(why,
		   "queue.spool.path: %s: %s; what this host remembers is kept there: make the "
		   "directory, and let the user write there",
		   path, strerror(errno));
	return false;
}
