/* SPDX-License-Identifier: Apache-2.0
 *
 * What no single row of queue.redis can check. Pure.
 */
#include <stdio.h>

#include "core/base/server_address.h"
#include "core/config_table.h"

struct checker {
	config_report_fn report;
	void *context;
};

static void
say(const struct checker *c, const char *name, const char *message)
{
	char path[80];

	snprintf(path, sizeof path, "queue.redis.%s", name);
	c->report(c->context, path, message);
}

/* Exactly one of three ways says where it is. */
static void
check_place(const struct config_queue_redis *r, const struct checker *c)
{
	bool places[] = { r->server.size > 0, r->sentinels_count > 0, r->cluster_count > 0 };
	unsigned count = 0;

	for (unsigned i = 0; i < 3; i++)
		count += places[i];

	if (count == 0)
		say(c, "server",
		    "is left out, and nothing else says where Redis is; name one of server, "
		    "sentinels, cluster");
	if (count > 1)
		say(c, r->sentinels_count > 0 ? "sentinels" : "cluster",
		    "is one place too many; keep one of server, sentinels, cluster");
	if (r->sentinels_count > 0 && r->master.size == 0)
		say(c, "master", "is left out; write the name that the Sentinels watch");
	if (r->sentinels_count == 0 && r->master.size > 0)
		say(c, "master", "is not used without sentinels; name them, or remove it");
	if (r->cluster_count > 0 && r->database > 0)
		say(c, "database", "is not 0, which a Cluster has alone; remove it");
}

/* A fail-over loses what only the disk of the old master has. */
static void
check_promise(const struct config *config, const struct config_queue_redis *r,
	      const struct checker *c)
{
	bool fails_over = r->sentinels_count > 0 || r->cluster_count > 0;

	if (fails_over && r->durability == REDIS_DURABILITY_DISK)
		say(c, "durability",
		    "is disk, but a fail-over loses what no replica has; write replica, or "
		    "disk-no-failover where that may be");
	if (!fails_over && r->durability == REDIS_DURABILITY_DISK_NO_FAILOVER)
		say(c, "durability", "is for sentinels and cluster; write disk");
	if (config->durability == DURABILITY_MEMORY)
		c->report(c->context, "durability",
			  "is for the spool; remove it, or ask for less with "
			  "queue.redis.durability");
	if (r->deadline_ms >= r->lease_ms)
		say(c, "deadline",
		    "is not shorter than lease, which would run out while a silent server is "
		    "waited for; shorten it");
}

static void
check_login(const struct config_queue_redis *r, const struct checker *c)
{
	struct server_address a;

	if (r->user.size > 0 && !config_names_file(r->password_file))
		say(c, "user", "has no password; name a file with it in password_file");
	if (r->sentinel_user.size > 0 && !config_names_file(r->sentinel_password_file))
		say(c, "sentinel_user",
		    "has no password; name a file with it in sentinel_password_file");
	if (r->sentinels_count == 0 && config_names_file(r->sentinel_password_file))
		say(c, "sentinel_password_file",
		    "is not used without sentinels; name them, or remove it");
	if (r->tls && r->server.size > 0 && server_address_parse(r->server, &a) && a.host.size == 0)
		say(c, "tls", "is not spoken over a unix socket; remove it");
	if (r->tls && span_eq(r->ca_file, SPAN("none")))
		say(c, "ca_file",
		    "is none, so that nobody would be believed; name a file, or auto");
}

void
config_check_queue(const struct config *config, config_report_fn report, void *context)
{
	struct checker c = { report, context };
	const struct config_queue_redis *r = &config->queue.redis;

	if (config->queue.store != STORE_REDIS) {
		if (config->queue.fallback != FALLBACK_NONE)
			report(context, "fallback",
			       "is for store redis; the spool needs none: remove it");
		return;
	}
	check_place(r, &c);
	check_promise(config, r, &c);
	check_login(r, &c);
}
