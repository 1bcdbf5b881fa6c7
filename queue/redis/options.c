/* SPDX-License-Identifier: Apache-2.0 */
#include "queue/redis/options.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/assert.h"
#include "core/file.h"
#include "core/net.h"
#include "tls/tls.h"

/* Two commands of each worker to each server: what an idle cluster may cost (ten commands a second
 * in all) bounds it from below, what a weaker setting may lose from above. */
enum { ASK_AGAIN_MS = 30 * 1000, LISTENERS_MOST = 512 };

struct loaded {
	struct redis_options options; /* first */
	const struct config *config;  /* one reference */
	char *texts[2];               /* of the files of passwords */
	size_t sizes[2];
	struct tls_trust *trust;
	uint8_t listeners[LISTENERS_MOST];
};

/* ---- passwords ---- */

/* The first line, without its end; the file stays in memory, since the span points into it. */
static bool
read_password(struct loaded *l, unsigned which, struct span path, const char *option,
	      struct span *out, struct buf *why)
{
	const char *name = (const char *)path.data;
	struct file_identity identity;

	if (!config_names_file(path))
		return true;
	buf_printf(why, "queue.redis.%s: ", option);
	if (!file_is_private(name, why))
		return false;
	l->texts[which] = file_read(name, 64 * 1024, &l->sizes[which], &identity);
	if (l->texts[which] == NULL) {
		buf_printf(why, "%s: cannot be read: %s", name, strerror(errno));
		return false;
	}
	struct span line = span_of(l->texts[which], l->sizes[which]);
	line = span_first(line, span_find(line, '\n', 0));
	if (line.size > 0 && line.data[line.size - 1] == '\r')
		line.size--;
	if (line.size == 0 || line.size > REDIS_PASSWORD_MOST) {
		buf_printf(
			why,
			"%s: has no password of up to %d bytes in its first line; write it there",
			name, REDIS_PASSWORD_MOST);
		return false;
	}
	buf_reset(why);
	*out = line;
	return true;
}

static bool
read_passwords(struct loaded *l, struct buf *why)
{
	const struct config_queue_redis *r = &l->config->queue.redis;

	return read_password(l, 0, r->password_file, "password_file", &l->options.password, why) &&
	       read_password(l, 1, r->sentinel_password_file, "sentinel_password_file",
			     &l->options.sentinel_password, why);
}

/* ---- the rest ---- */

static enum redis_durability
durability_of(const struct config_queue_redis *r)
{
	switch (r->durability) {
	case REDIS_DURABILITY_AUTO:
		return r->server.size > 0 ? REDIS_DISK : REDIS_REPLICA;
	case REDIS_DURABILITY_DISK:
		return REDIS_DISK;
	case REDIS_DURABILITY_DISK_NO_FAILOVER:
		return REDIS_DISK_NO_FAILOVER;
	case REDIS_DURABILITY_REPLICA:
		return REDIS_REPLICA;
	case REDIS_DURABILITY_MEMORY:
		return REDIS_MEMORY;
	}
	ASSERT(false);
	return REDIS_DISK;
}

static void
fill_place(struct redis_options *o, const struct config_queue_redis *r)
{
	if (r->server.size > 0) {
		o->kind = REDIS_SINGLE;
		o->addresses = &r->server;
		o->address_count = 1;
	} else if (r->sentinels_count > 0) {
		o->kind = REDIS_SENTINEL;
		o->addresses = r->sentinels;
		o->address_count = (unsigned)r->sentinels_count;
	} else {
		o->kind = REDIS_CLUSTER;
		o->addresses = r->cluster;
		o->address_count = (unsigned)r->cluster_count;
	}
	ASSERT(o->address_count > 0);
}

/* As many as there is room for. */
static struct span
show_listeners(struct loaded *l)
{
	struct buf out = buf_of(l->listeners, sizeof l->listeners);

	for (size_t i = 0; i < l->config->listeners_count; i++) {
		size_t before = out.size;
		if (i > 0)
			buf_append_byte(&out, ' ');
		net_address_show(&l->config->listeners[i].address, &out);
		if (out.overflow)
			return span_of(l->listeners, before);
	}
	return buf_span(&out);
}

static void
fill(struct loaded *l, const struct config_queue_redis *r)
{
	struct redis_options *o = &l->options;

	*o = (struct redis_options){
		.master_name = r->master,
		.user = r->user,
		.sentinel_user = r->sentinel_user,
		.database = r->database,
		.tls = r->tls,
		.prefix = r->prefix,
		.shards = r->shards,
		.durability = durability_of(r),
		.replicas = r->replicas,
		.promises_declared = r->promises == PROMISES_DECLARED,
		.deadline_ms = r->deadline_ms,
		.lease_ms = r->lease_ms,
		.ask_again_ms = ASK_AGAIN_MS,
		.node = r->node.size > 0 ? r->node : l->config->hostname,
		.compress = r->compress,
	};
	o->listeners = show_listeners(l);
	fill_place(o, r);
}

struct redis_options *
redis_options_load(const struct config *config, struct buf *why)
{
	struct loaded *l = calloc(1, sizeof *l);
	const struct config_queue_redis *r = &config->queue.redis;

	ASSERT(config->queue.store == STORE_REDIS);
	if (l == NULL) {
		buf_append_string(why, "out of memory for the options of queue.redis");
		return NULL;
	}
	l->config = config_get(config);
	fill(l, r);
	bool loaded = read_passwords(l, why);
	if (loaded && r->tls) {
		l->trust = tls_trust_load(r->ca_file, why);
		l->options.trust = l->trust;
		loaded = l->trust != NULL;
	}
	if (loaded)
		return &l->options;
	redis_options_free(&l->options);
	return NULL;
}

void
redis_options_free(struct redis_options *o)
{
	struct loaded *l;

	if (o == NULL)
		return;
	l = CONTAINER_OF(o, struct loaded, options);
	for (unsigned i = 0; i < 2; i++) {
		if (l->texts[i] != NULL)
			explicit_bzero(l->texts[i], l->sizes[i]);
		free(l->texts[i]);
	}
	tls_trust_free(l->trust);
	config_put(l->config);
	free(l);
}

bool
redis_options_warn(const struct redis_options *o, struct buf *out)
{
	size_t before = out->size;

	if (o->durability == REDIS_DISK_NO_FAILOVER)
		buf_append_string(out, "queue.redis.durability is disk-no-failover: a fail-over "
				       "loses accepted mail that no replica has yet");
	else if (o->durability == REDIS_MEMORY)
		buf_append_string(out, "queue.redis.durability is memory: a crash of Redis loses "
				       "accepted mail");
	return out->size > before;
}
