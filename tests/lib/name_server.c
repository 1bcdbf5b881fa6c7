/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/name_server.h"

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/base/assert.h"

enum {
	HEADER_SIZE = 12,
	PACKET_SIZE = 1500,
	NAME_SIZE = 256,
	SEEN_MAX = 20000,
	HELD_MAX = 256,
	TYPE_A = 1,
	TYPE_PTR = 12,
	TYPE_MX = 15,
	TYPE_TXT = 16,
	RCODE_SERVFAIL = 2,
	RCODE_NXDOMAIN = 3,
	TTL_S = 60,
};

struct held {
	struct sockaddr_in from;
	uint8_t packet[PACKET_SIZE];
	size_t size;
};

struct name_server {
	int udp;
	int tcp;
	int wake;
	bool stopping;
	bool released;
	pthread_t thread;
	pthread_mutex_t lock; /* of all below and the two flags */
	char seen[SEEN_MAX][32];
	unsigned seen_count;
	struct held held[HELD_MAX];
	unsigned held_count;
};

static bool
begins(const char *name, const char *with)
{
	return strncmp(name, with, strlen(with)) == 0;
}

/* The name of the question as text; its size on the wire. */
static size_t
read_question(const uint8_t *packet, size_t size, char name[NAME_SIZE])
{
	size_t at = HEADER_SIZE;
	size_t length = 0;

	while (at < size && packet[at] != 0) {
		for (unsigned i = 1; i <= packet[at] && at + i < size; i++)
			name[length++] = (char)ascii_lower(packet[at + i]);
		name[length++] = '.';
		at += packet[at] + 1u;
	}
	name[length] = 0;
	return at + 1 - HEADER_SIZE;
}

static void
put(uint8_t *packet, size_t *size, const void *bytes, size_t count)
{
	ASSERT(*size + count <= PACKET_SIZE);
	memcpy(packet + *size, bytes, count);
	*size += count;
}

static void
put_record(uint8_t *packet, size_t *size, unsigned type, unsigned ttl_s, const void *data,
	   size_t count)
{
	uint8_t head[] = { 0xc0, HEADER_SIZE, 0, (uint8_t)type,  0, 1,
			   0,    0,           0, (uint8_t)ttl_s, 0, (uint8_t)count };

	put(packet, size, head, sizeof head);
	put(packet, size, data, count);
}

/* The TXT record of a name, with its length in front; NULL: none. */
static const char *
text_of(const char *name)
{
	if (strstr(name, ".spf.") != NULL)
		return "\x24"
		       "v=spf1 a include:ok.inc.example -all";
	if (strstr(name, ".inc.") != NULL)
		return "\x19"
		       "v=spf1 ip4:192.0.2.7 ?all";
	return NULL;
}

/* Builds the reply in place; 0: none. */
static size_t
answer(uint8_t *packet, size_t size, bool is_tcp)
{
	static const uint8_t soa[] = { 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0,
				       0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 30 };
	static const uint8_t pointer[] = { "\x02ok\x07"
					   "example" };
	char name[NAME_SIZE];
	size_t name_size = read_question(packet, size, name);
	unsigned type = packet[HEADER_SIZE + name_size + 1];
	unsigned ttl_s = begins(name, "short") ? 0 : TTL_S;
	unsigned rcode = begins(name, "nx") || strstr(name, ".nx.") != NULL ? RCODE_NXDOMAIN : 0;

	if (begins(name, "silent"))
		return 0;
	if (begins(name, "fail"))
		rcode = RCODE_SERVFAIL;
	size = HEADER_SIZE + name_size + 4;
	packet[2] = 0x81; /* a reply, recursion desired */
	packet[3] = (uint8_t)(0x80 | rcode);
	memset(packet + 6, 0, 6);
	if (begins(name, "big") && !is_tcp) {
		packet[2] |= 0x02; /* truncated */
		return size;
	}
	const char *text = type == TYPE_TXT ? text_of(name) : NULL;
	bool found = rcode == 0 &&
		     (type == TYPE_A || type == TYPE_MX || type == TYPE_PTR || text != NULL);
	packet[7] = found;
	if (begins(name, "pair") && type == TYPE_MX) {
		packet[7] = 2;
		put_record(packet, &size, type, ttl_s, "\x00\x14\x06silent\x00", 10);
		put_record(packet, &size, type, ttl_s, "\x00\x0a\x02ok\x00", 6);
		return size;
	}
	packet[9] = !found && rcode != RCODE_SERVFAIL;
	if (found && text != NULL)
		put_record(packet, &size, type, ttl_s, text, strlen(text));
	else if (found && type == TYPE_A)
		put_record(packet, &size, type, ttl_s, "\xc0\x00\x02\x01", 4);
	else if (found && type == TYPE_MX)
		put_record(packet, &size, type, ttl_s, "\x00\x0a\xc0\x0c", 4);
	else if (found)
		put_record(packet, &size, type, ttl_s, pointer, sizeof pointer);
	else if (packet[9] != 0)
		put_record(packet, &size, 6, ttl_s, soa, sizeof soa);
	return begins(name, "loose") ? size - 3 : size;
}

static void
serve_udp(struct name_server *s)
{
	struct held h;
	socklen_t from_size = sizeof h.from;
	char name[NAME_SIZE];
	ssize_t got = recvfrom(s->udp, h.packet, sizeof h.packet, MSG_DONTWAIT,
			       (struct sockaddr *)&h.from, &from_size);

	if (got < HEADER_SIZE + 5)
		return;
	h.size = (size_t)got;
	read_question(h.packet, h.size, name);
	pthread_mutex_lock(&s->lock);
	ASSERT(s->seen_count < SEEN_MAX);
	snprintf(s->seen[s->seen_count++], sizeof s->seen[0], "%.*s", (int)sizeof s->seen[0] - 1,
		 name);
	bool holds = begins(name, "held") && !s->released;
	if (holds) {
		ASSERT(s->held_count < HELD_MAX);
		s->held[s->held_count++] = h;
	}
	pthread_mutex_unlock(&s->lock);
	size_t size = holds ? 0 : answer(h.packet, h.size, false);
	if (size > 0)
		sendto(s->udp, h.packet, size, 0, (struct sockaddr *)&h.from, from_size);
}

static bool
read_all(int fd, uint8_t *out, size_t size)
{
	for (size_t done = 0; done < size;) {
		ssize_t got = read(fd, out + done, size - done);
		if (got <= 0)
			return false;
		done += (size_t)got;
	}
	return true;
}

static void
serve_tcp(struct name_server *s)
{
	uint8_t frame[2 + PACKET_SIZE];
	int fd = accept(s->tcp, NULL, NULL);

	if (fd < 0)
		return;
	while (read_all(fd, frame, 2)) {
		size_t size = (size_t)frame[0] << 8 | frame[1];
		if (size > PACKET_SIZE || !read_all(fd, frame + 2, size))
			break;
		size = answer(frame + 2, size, true);
		frame[0] = (uint8_t)(size >> 8);
		frame[1] = (uint8_t)size;
		if (size > 0 && write(fd, frame, size + 2) < 0)
			break;
		shutdown(fd, SHUT_WR); /* one question a connection */
	}
	close(fd);
}

/* True: to go on. */
static bool
serve_wake(struct name_server *s)
{
	uint64_t count;

	pthread_mutex_lock(&s->lock);
	bool go_on = read(s->wake, &count, sizeof count) > 0 && !s->stopping;
	for (unsigned i = 0; i < s->held_count && s->released; i++) {
		struct held *h = &s->held[i];
		size_t size = answer(h->packet, h->size, false);
		sendto(s->udp, h->packet, size, 0, (struct sockaddr *)&h->from, sizeof h->from);
	}
	if (s->released)
		s->held_count = 0;
	pthread_mutex_unlock(&s->lock);
	return go_on;
}

static void *
serve(void *argument)
{
	struct name_server *s = argument;
	struct pollfd fds[] = { { s->wake, POLLIN, 0 },
				{ s->udp, POLLIN, 0 },
				{ s->tcp, POLLIN, 0 } };

	for (;;) {
		if (poll(fds, 3, -1) < 0 && errno != EINTR)
			return NULL;
		if (fds[0].revents != 0 && !serve_wake(s))
			return NULL;
		if (fds[1].revents != 0)
			serve_udp(s);
		if (fds[2].revents != 0)
			serve_tcp(s);
	}
}

/* UDP and TCP with the same port. */
static bool
bind_both(struct name_server *s, struct sockaddr_in *a)
{
	socklen_t size = sizeof *a;

	*a = (struct sockaddr_in){ .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
	s->tcp = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	s->udp = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	bool bound = bind(s->tcp, (struct sockaddr *)a, size) == 0 && listen(s->tcp, 64) == 0 &&
		     getsockname(s->tcp, (struct sockaddr *)a, &size) == 0 &&
		     bind(s->udp, (struct sockaddr *)a, size) == 0;
	if (!bound) {
		close(s->tcp);
		close(s->udp);
	}
	return bound;
}

struct name_server *
name_server_start(struct net_address *out)
{
	struct name_server *s = calloc(1, sizeof *s);
	struct sockaddr_in a;
	int room = 4 << 20;
	bool bound = false;

	ASSERT(s != NULL);
	for (unsigned i = 0; i < 20 && !bound; i++)
		bound = bind_both(s, &a);
	ASSERT(bound);
	setsockopt(s->udp, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof room);
	s->wake = eventfd(0, EFD_CLOEXEC);
	pthread_mutex_init(&s->lock, NULL);
	net_address_of_ip(&a.sin_addr, 4, ntohs(a.sin_port), out);
	int failed = pthread_create(&s->thread, NULL, serve, s);
	ASSERT(failed == 0);
	return s;
}

static void
wake(struct name_server *s)
{
	uint64_t one = 1;
	ssize_t written = write(s->wake, &one, sizeof one);

	ASSERT(written == sizeof one);
}

void
name_server_release(struct name_server *s)
{
	pthread_mutex_lock(&s->lock);
	s->released = true;
	pthread_mutex_unlock(&s->lock);
	wake(s);
}

unsigned
name_server_count(struct name_server *s, const char *begin)
{
	unsigned count = 0;

	pthread_mutex_lock(&s->lock);
	for (unsigned i = 0; i < s->seen_count; i++)
		count += begins(s->seen[i], begin);
	pthread_mutex_unlock(&s->lock);
	return count;
}

void
name_server_stop(struct name_server *s)
{
	pthread_mutex_lock(&s->lock);
	s->stopping = true;
	pthread_mutex_unlock(&s->lock);
	wake(s);
	pthread_join(s->thread, NULL);
	close(s->udp);
	close(s->tcp);
	close(s->wake);
	pthread_mutex_destroy(&s->lock);
	free(s);
}
