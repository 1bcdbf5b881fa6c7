/* SPDX-License-Identifier: Apache-2.0 */
/* test: uses core */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/config.h"

#define HEAD                          \
	"hostname: mx1.example.org\n" \
	"listeners: [{ address: \"127.0.0.1:2525\" }]\n" /* 2 lines; rows below start at line 3 */

static struct config_errors errors;
static char memory[1 << 20];

static const struct config *
must_parse(const char *text)
{
	const struct config *config = config_parse("test.yaml", span_of_string(text), &errors);

	if (config == NULL)
		fail_msg("%s", errors.lines[0]);
	return config;
}

static void
defaults_are_those_of_the_table(void **state)
{
	const struct config *c = must_parse(HEAD);

	(void)state;
	assert_true(span_eq(c->hostname, SPAN("mx1.example.org")));
	assert_int_equal(c->workers, 0);
	assert_int_equal(c->listeners_count, 1);
	assert_int_equal(ntohs(c->listeners[0].address.head.port_network_order), 2525);
	assert_int_equal(c->listeners[0].role, ROLE_RELAY);
	const struct config_listener_spf *spf = &c->listeners[0].spf;
	assert_true(spf->enabled && spf->iprev && !spf->received_spf && spf->given);
	assert_int_equal(spf->fail, SPF_ACTION_REFUSE);
	assert_int_equal(spf->temperror, SPF_ACTION_DEFER);
	assert_int_equal(spf->pass, SPF_ACTION_MARK);
	assert_int_equal(spf->permerror, SPF_ACTION_MARK);
	assert_int_equal(spf->helo, SPF_HELO_OF_NULL_SENDER);
	assert_int_equal(spf->at, SPF_AT_MAIL);
	assert_int_equal(spf->deadline_ms, 20000);
	assert_int_equal(c->metrics.address.size, 0);
	assert_int_equal(c->log.file.size, 0);
	assert_int_equal(c->queue.spool.segment_size, 64 << 20);
	assert_int_equal(c->queue.spool.flights, 2);
	assert_int_equal(c->durability, DURABILITY_DISK);
	assert_int_equal(c->limits.message_size_max, 50 << 20);
	assert_int_equal(c->timeouts.send.end_ms, 600000);
	assert_int_equal(c->retry.schedule_count, 7);
	assert_int_equal(c->retry.schedule_ms[6], 4 * 3600000);
	assert_int_equal(c->retry.lifetime_ms, 5 * 86400000);
	assert_true(c->delivery.pipelining);
	assert_true(c->dns.forwarders.is_auto);
	assert_int_equal(c->dns.forwarders.count, 0);
	assert_true(span_eq(c->dns.trust_anchors, SPAN("auto")));
	assert_true(span_eq(c->dns.hosts_file, SPAN("/etc/hosts")));
	assert_int_equal(c->dns.search_count, 0);
	assert_int_equal(c->dns.deadline_ms, 20000);
	assert_int_equal(c->routes_count, 0);
	assert_in_range(config_worker_count(c), 1, 64);
	assert_true(config_memory_budget(c) >= 1 << 20);
	config_put(c);
}

static void
check_routes(const struct config *c)
{
	assert_int_equal(c->routes_count, 5);
	assert_int_equal(c->routes[0].to.kind, TARGET_LMTP);
	assert_int_equal(c->routes[0].connections, 3);
	assert_true(span_eq(c->routes[0].to.text, SPAN("lmtp:///run/dovecot/lmtp")));
	assert_true(span_eq(c->routes[1].to.text,
			    SPAN("smtp://192.0.2.1:25,smtp://[2001:db8::25]:2525")));
	assert_int_equal(c->routes[1].to.hosts_count, 2);
	assert_int_equal(c->routes[1].connections, 20);
	assert_int_equal(c->routes[2].to.kind, TARGET_DISCARD);
	assert_true(span_eq(c->routes[3].to.text,
			    SPAN("smtp://mail.example.org:25,smtp://b.example.org:2525")));
	assert_int_equal(c->routes[4].to.kind, TARGET_MX);
	assert_int_equal(config_sender_find(c, SPAN("A.example"))->weight, 9);
	assert_int_equal(config_sender_find(c, SPAN("x.b.example"))->weight, 1);
	assert_null(config_sender_find(c, SPAN("b.example.org")));
	assert_int_equal(c->sites_count, 1);
	assert_int_equal(c->sites[0].connections, 7);
	assert_int_equal(c->sites[0].connections_first, 5);
	assert_int_equal(c->sites[0].rate, 100);
}

static void
every_kind_of_value_is_read(void **state)
{
	const struct config *c = must_parse(
		HEAD
		"workers: 64\n"
		"user: ringpost\n"
		"bounces: { from: \"post+master@mx.example.org\" }\n"
		"allow_root: true\n"
		"metrics: { address: \"[::1]:9925\" }\n"
		"log: { file: \"/var/log/a b.log\", level: debug }\n"
		"durability: memory\n"
		"bare_newline: normalize\n"
		"dns:\n"
		"  forwarders: [192.0.2.53, \"2001:db8::53@5353\"]\n"
		"  trust_anchors: none\n"
		"  hosts_file: none\n"
		"  search: [example.org, test]\n"
		"  special_zones: test\n"
		"memory: { budget: 512MiB, clients: { count: 4, size: 1024B } }\n"
		"queue:\n"
		"  spool:\n"
		"    segment_size: 4MiB\n"
		"timeouts: { receive: { command: 90s }, send: { reset: 1500ms } }\n"
		"retry: { schedule: [10s, 1h], lifetime: 1d }\n"
		"relay:\n"
		"  networks: [127.0.0.0/8, \"2001:db8::/32\"]\n"
		"  domains:\n"
		"    - name: example.org\n"
		"    - { name: .example.net, recipients: any }\n"
		"routes:\n"
		"  - { domain: example.org, to: \"lmtp:///run/dovecot/lmtp\", connections: 3 }\n"
		"  - domain: \"*\"\n"
		"    to:\n"
		"      - smtp://192.0.2.1\n"
		"      - smtp://[2001:db8::25]:2525\n"
		"  - { domain: .example.com, to: discard }\n"
		"  - { domain: named.example, to: [\"smtp://Mail.Example.org\", "
		"\"smtp://b.example.org:2525\"] }\n"
		"  - { domain: .world.example, to: mx }\n"
		"sites: [{ mx: google.com, connections: 7, rate: 100 }]\n"
		"senders: [{ domain: a.example, weight: 9 }, { domain: .b.example }]\n");

	(void)state;
	assert_int_equal(c->workers, 64);
	assert_int_equal(config_worker_count(c), 64);
	assert_true(span_eq(c->user, SPAN("ringpost")));
	assert_true(c->allow_root);
	assert_true(span_eq(c->log.file, SPAN("/var/log/a b.log")));
	assert_int_equal(c->log.level, LEVEL_DEBUG);
	assert_int_equal(c->durability, DURABILITY_MEMORY);
	assert_int_equal(c->bare_newline, NEWLINE_NORMALIZE);
	assert_int_equal(c->dns.forwarders.count, 2);
	assert_false(c->dns.forwarders.is_auto);
	assert_int_equal(ntohs(c->dns.forwarders.items[0].head.port_network_order), 53);
	assert_int_equal(c->dns.forwarders.items[0].head.family, AF_INET);
	assert_int_equal(ntohs(c->dns.forwarders.items[1].head.port_network_order), 5353);
	assert_true(span_eq(c->dns.trust_anchors, SPAN("none")));
	assert_true(span_eq(c->dns.hosts_file, SPAN("none")));
	assert_int_equal(c->dns.search_count, 2);
	assert_true(span_eq(c->dns.search[1], SPAN("test")));
	assert_int_equal(c->dns.special_zones_count, 1);
	assert_int_equal(config_memory_budget(c), (size_t)512 << 20);
	assert_int_equal(c->memory.clients.count, 4);
	assert_int_equal(c->memory.clients.size, 1024);
	assert_int_equal(c->queue.spool.segment_size, 4 << 20);
	assert_int_equal(c->timeouts.receive.command_ms, 90000);
	assert_int_equal(c->timeouts.send.reset_ms, 1500);
	assert_int_equal(c->retry.schedule_count, 2);
	assert_int_equal(c->relay.networks.count, 2);
	assert_int_equal(c->relay.domains_count, 2);
	check_routes(c);
	config_put(c);
}

static void
ways_to_know_recipients_are_read(void **state)
{
	const struct config *c = must_parse(
		HEAD
		"relay:\n"
		"  domains:\n"
		"    - name: example.org\n"
		"    - { name: .example.net, recipients: any }\n"
		"    - { name: listed.example, recipients: \"/etc/a b\" }\n"
		"    - { name: asked.example, recipients: callout }\n"
		"  callout: { sender: \"verify.me@relay.example\", failure: accept, positive: 5m "
		"}\n"
		"  recipient_delimiter: \"+-\"\n"
		"routes: [{ domain: \"*\", to: \"lmtp://127.0.0.1:24\" }]\n");

	(void)state;
	assert_int_equal(c->relay.domains_count, 4);
	assert_int_equal(c->relay.domains[3].recipients.kind, RECIPIENTS_CALLOUT);
	assert_true(span_eq(c->relay.callout.sender, SPAN("verify.me@relay.example")));
	assert_int_equal(c->relay.callout.failure, FAILURE_ACCEPT);
	assert_int_equal(c->relay.callout.positive_ms, 300000);
	assert_int_equal(c->relay.callout.negative_ms, 600000);
	assert_int_equal(c->relay.domains[0].recipients.kind, RECIPIENTS_ANY);
	assert_int_equal(c->relay.domains[1].recipients.kind, RECIPIENTS_ANY);
	assert_int_equal(c->relay.domains[2].recipients.kind, RECIPIENTS_FILE);
	assert_true(span_eq(c->relay.domains[2].recipients.file, SPAN("/etc/a b")));
	assert_true(span_eq(c->relay.recipient_delimiter, SPAN("+-")));
	config_put(c);
}

/* Each text follows HEAD; the error is the first line, whole. */
static const struct {
	const char *text;
	const char *error;
} bad_rows[] = {
	{ "colour: red\n",
	  "test.yaml:3: colour is no option; see ringpostd --doc options for those that are" },
	{ "worker_s: 3\n", "test.yaml:3: worker_s is no option; did you mean workers?" },
	{ "queue:\n  spool:\n    segmentsize: 4MiB\n",
	  "test.yaml:5: queue.spool.segmentsize is no option; did you mean "
	  "queue.spool.segment_size?" },
	{ "workers: 1\nworkers: 2\n",
	  "test.yaml:4: workers stands twice, first in line 3; remove one" },
	{ "log: { level: info, level: info }\n",
	  "test.yaml:3: log.level stands twice, first in line 3; remove one" },
	{ "workers: 65\n", "test.yaml:3: workers: '65' is out of range; choose between 1 and 64" },
	{ "workers: many\n",
	  "test.yaml:3: workers: 'many' is not valid; write a whole number or auto" },
	{ "workers:\n", "test.yaml:3: workers has no single value; write a whole number or auto" },
	{ "workers: [1]\n",
	  "test.yaml:3: workers has no single value; write a whole number or auto" },
	{ "allow_root: yes\n", "test.yaml:3: allow_root: 'yes' is not valid; write true or false" },
	{ "limits: { message_size_max: 1000000 }\n",
	  "test.yaml:3: limits.message_size_max: '1000000' has no unit; write a size such as 64MiB "
	  "(units: B, KiB, MiB, GiB, TiB)" },
	{ "limits: { message_size_max: 10MB }\n",
	  "test.yaml:3: limits.message_size_max: '10MB' is not valid; write a size such as 64MiB "
	  "(units: B, KiB, MiB, GiB, TiB)" },
	{ "limits: { message_size_max: 99999999999999TiB }\n",
	  "test.yaml:3: limits.message_size_max: '99999999999999TiB' is not valid; write a size "
	  "such as 64MiB (units: B, KiB, MiB, GiB, TiB)" },
	{ "limits: { message_size_max: 1B }\n",
	  "test.yaml:3: limits.message_size_max: '1B' is out of range; choose between 64KiB and "
	  "2GiB" },
	{ "timeouts:\n  drain: 30\n",
	  "test.yaml:4: timeouts.drain: '30' has no unit; write a duration such as 30s (units: ms, "
	  "s, m, h, d)" },
	{ "memory: { clients: { count: 5 } }\n", "test.yaml:3: memory.clients.count: '5' is not a "
						 "power of two; choose one such as 64, 128 "
						 "or 256" },
	{ "log: { level: loud }\n",
	  "test.yaml:3: log.level: 'loud' is not valid; write error or warning or info or debug" },
	{ "log: { file: ringpost.log }\n", "test.yaml:3: log.file: 'ringpost.log' is no absolute "
					   "path; write one that starts with /" },
	{ "bounces: { from: \"Mailer <a@b>\" }\n",
	  "test.yaml:3: bounces.from: 'Mailer <a@b>' is no mail address; write one such as "
	  "postmaster@example.org, without a name or brackets" },
	{ "bounces: { from: a..b@example.org }\n",
	  "test.yaml:3: bounces.from: 'a..b@example.org' is no mail address; write one such as "
	  "postmaster@example.org, without a name or brackets" },
	{ "user: \"a b\"\n",
	  "test.yaml:3: user: 'a b' is no user name; write one such as ringpost" },
	{ "metrics: { address: \"localhost:9925\" }\n",
	  "test.yaml:3: metrics.address: 'localhost:9925' has a host name, which cannot be used "
	  "yet; "
	  "write the IP address and port" },
	{ "metrics: { address: 127.0.0.1 }\n",
	  "test.yaml:3: metrics.address: '127.0.0.1' is no address with port; write one such as "
	  "127.0.0.1:25 or \"[::1]:25\"" },
	{ "metrics: { address: \"127.0.0.1:0\" }\n",
	  "test.yaml:3: metrics.address: '127.0.0.1:0' is no address with port; write one such as "
	  "127.0.0.1:25 or \"[::1]:25\"" },
	{ "metrics: 9925\n",
	  "test.yaml:3: metrics has options of its own; write metrics: { name: value }" },
	{ "queue: { store: redis }\n",
	  "test.yaml:3: queue.redis.server: is left out, and nothing else says where Redis is; "
	  "name one of server, sentinels, cluster" },
	{ "queue: { store: redis, redis: { server: redis } }\n",
	  "test.yaml:3: queue.redis.server: 'redis' is no server; write one such as redis:6379, "
	  "127.0.0.1:6379 or unix:/run/redis/redis.sock" },
	{ "queue: { store: redis, redis: { server: \"a:1\", cluster: [\"b:1\"] } }\n",
	  "test.yaml:3: queue.redis.cluster: is one place too many; keep one of server, sentinels, "
	  "cluster" },
	{ "queue: { store: redis, redis: { sentinels: [\"a:1\"] } }\n",
	  "test.yaml:3: queue.redis.master: is left out; write the name that the Sentinels watch" },
	{ "queue: { store: redis, redis: { sentinels: [\"unix:/x\"], master: m } }\n",
	  "test.yaml:3: queue.redis.sentinels: 'unix:/x' is no server; write one such as "
	  "redis-1:6379, 192.0.2.1:6379 or \"[2001:db8::1]:6379\"" },
	{ "queue: { store: redis, redis: { server: \"a:1\", master: m } }\n",
	  "test.yaml:3: queue.redis.master: is not used without sentinels; name them, or remove "
	  "it" },
	{ "queue: { store: redis, redis: { cluster: [\"a:1\"], database: 1 } }\n",
	  "test.yaml:3: queue.redis.database: is not 0, which a Cluster has alone; remove it" },
	{ "queue: { store: redis, redis: { cluster: [\"a:1\"], durability: disk } }\n",
	  "test.yaml:3: queue.redis.durability: is disk, but a fail-over loses what no replica "
	  "has; write replica, or disk-no-failover where that may be" },
	{ "queue: { store: redis, redis: { server: \"a:1\", durability: disk-no-failover } }\n",
	  "test.yaml:3: queue.redis.durability: is for sentinels and cluster; write disk" },
	{ "queue: { store: redis, redis: { server: \"a:1\", password: x } }\n",
	  "test.yaml:3: queue.redis.password does not stand here, where others may read it; write "
	  "it into a file that only its owner can read, and name that in "
	  "queue.redis.password_file" },
	{ "queue: { store: redis, redis: { server: \"a:1\", user: post } }\n",
	  "test.yaml:3: queue.redis.user: has no password; name a file with it in password_file" },
	{ "queue: { store: redis, redis: { server: \"a:1\", sentinel_password_file: /x } }\n",
	  "test.yaml:3: queue.redis.sentinel_password_file: is not used without sentinels; name "
	  "them, or remove it" },
	{ "queue: { store: redis, redis: { server: \"unix:/x\", tls: true } }\n",
	  "test.yaml:3: queue.redis.tls: is not spoken over a unix socket; remove it" },
	{ "queue: { store: redis, redis: { server: \"a:1\", tls: true, ca_file: none } }\n",
	  "test.yaml:3: queue.redis.ca_file: is none, so that nobody would be believed; name a "
	  "file, or auto" },
	{ "queue: { store: redis, redis: { server: \"a:1\", deadline: 5s, lease: 5s } }\n",
	  "test.yaml:3: queue.redis.deadline: is not shorter than lease, which would run out while "
	  "a silent server is waited for; shorten it" },
	{ "queue: { store: redis, redis: { server: \"a:1\", prefix: \"{a}\" } }\n",
	  "test.yaml:3: queue.redis.prefix: '{a}' is no word of up to 48 letters, digits and - _ . "
	  ": @ + /; write one such as ringpost" },
	{ "durability: memory\nqueue: { store: redis, redis: { server: \"a:1\" } }\n",
	  "test.yaml:3: durability: is for the spool; remove it, or ask for less with "
	  "queue.redis.durability" },
	{ "relay:\n  networks:\n    - 10.0.0.0/8\n    - 10.0.0.1/8\n",
	  "test.yaml:6: relay.networks: '10.0.0.1/8' is no network; write one such as 192.0.2.0/24 "
	  "or "
	  "\"2001:db8::/32\", with no bits set behind the prefix" },
	{ "relay: { domains: [{ name: example.org, recipients: callout }] }\n"
	  "routes: [{ domain: \"*\", to: mx }]\n",
	  "test.yaml:3: relay.domains[0].recipients: callout cannot ask where the route of '*' "
	  "leads; "
	  "name a server of your own there (lmtp://HOST:PORT), or use a file" },
	{ "relay: { domains: [{ name: example.org, recipients: callout }] }\n"
	  "routes: [{ domain: example.org, to: discard }]\n",
	  "test.yaml:3: relay.domains[0].recipients: callout cannot ask where the route of "
	  "'example.org' leads; name a server of your own there (lmtp://HOST:PORT), or use a "
	  "file" },
	{ "relay:\n  domains:\n    - { name: a.example }\n    - { name: .example, recipients: "
	  "callout }\n"
	  "routes:\n  - { domain: .example, to: \"lmtp://127.0.0.1:24\" }\n"
	  "  - { domain: b.c.example, to: mx }\n  - { domain: a.example, to: mx }\n",
	  "test.yaml:6: relay.domains[1].recipients: callout cannot ask where the route of "
	  "'b.c.example' leads; name a server of your own there (lmtp://HOST:PORT), or use a "
	  "file" },
	{ "relay: { callout: { sender: verify } }\n",
	  "test.yaml:3: relay.callout.sender: 'verify' is no mail address; write one such as "
	  "postmaster@example.org, without a name or brackets" },
	{ "relay: { callout: { sender: \"a..b@example.org\" } }\n",
	  "test.yaml:3: relay.callout.sender: 'a..b@example.org' is no mail address; write one "
	  "such as "
	  "postmaster@example.org, without a name or brackets" },
	{ "relay: { callout: { sender: \"a@example.org> x\" } }\n",
	  "test.yaml:3: relay.callout.sender: 'a@example.org> x' is no mail address; write one "
	  "such as "
	  "postmaster@example.org, without a name or brackets" },
	{ "relay: { callout: { failure: ignore } }\n",
	  "test.yaml:3: relay.callout.failure: 'ignore' is not valid; write defer or accept" },
	{ "relay: { domains: [{ name: example.org, recipients: users.txt }] }\n",
	  "test.yaml:3: relay.domains[0].recipients: 'users.txt' is not valid; write any, callout "
	  "or the absolute path of a file" },
	{ "relay: { recipient_delimiter: \"+a\" }\n",
	  "test.yaml:3: relay.recipient_delimiter: '+a' are no delimiters; write characters such "
	  "as "
	  "+ or -, or \"\" for none" },
	{ "relay: { recipient_delimiter: \"+-=_.\" }\n",
	  "test.yaml:3: relay.recipient_delimiter: '+-=_.' are no delimiters; write characters "
	  "such "
	  "as + or -, or \"\" for none" },
	{ "relay: { recipients_look: 5 }\n", "test.yaml:3: relay.recipients_look: '5' has no unit; "
					     "write a duration such as 30s (units: "
					     "ms, s, m, h, d)" },
	{ "relay: { domains: [{ name: example.org. }] }\n",
	  "test.yaml:3: relay.domains[0].name: 'example.org.' is no domain; write one such as "
	  "example.org or .example.org, in UTF-8, without a dot at the end" },
	{ "relay: { domains: [example.org] }\n",
	  "test.yaml:3: relay.domains[0] has options; write - { name: value }" },
	{ "relay:\n  domains:\n    - { name: a.example }\n    - { name: b.example }\n"
	  "routes: [{ domain: a.example, to: discard }]\n",
	  "test.yaml:6: relay.domains[1].name: 'b.example' has no route; add one to routes, or one "
	  "for \"*\"" },
	{ "routes: { domain: example.org }\n",
	  "test.yaml:3: routes is a list; write - { name: value } for each item" },
	{ "routes:\n  - { to: discard }\n",
	  "test.yaml:4: routes[0].domain is missing; write a domain such as example.org or "
	  ".example.org, or \"*\"" },
	{ "routes:\n  - { domain: a.example, to: discard }\n  - domain: A.example\n    to: "
	  "discard\n",
	  "test.yaml:5: routes[1].domain: 'A.example' stands twice; remove one" },
	{ "routes: [{ domain: \"*\", to: \"smtp://192.0.2.1\", tls: dane }]\n",
	  "test.yaml:3: routes[0].tls: is dane, which needs next hops by SMTP and by name; name "
	  "them in to, or demand verify or a fingerprint" },
	{ "routes: [{ domain: \"*\", to: [\"smtp://a.test\", \"smtp://192.0.2.1\"], tls: dane "
	  "}]\n",
	  "test.yaml:3: routes[0].tls: is dane, which needs next hops by SMTP and by name; name "
	  "them in to, or demand verify or a fingerprint" },
	{ "routes: [{ domain: \"*\", to: \"lmtp://a.test:24\", tls: dane }]\n",
	  "test.yaml:3: routes[0].tls: is dane, which needs next hops by SMTP and by name; name "
	  "them in to, or demand verify or a fingerprint" },
	{ "dns: { trust_anchors: none }\nroutes: [{ domain: \"*\", to: mx, tls: dane }]\n",
	  "test.yaml:4: routes[0].tls: is dane, which needs validated answers; give "
	  "dns.trust_anchors a file, or demand verify or a fingerprint" },
	{ "routes: [{ domain: \"*\", to: mx, tls: fingerprint }]\n",
	  "test.yaml:3: routes[0].tls: has no fingerprint to compare with; add fingerprints: "
	  "[\"…\"]" },
	{ "routes: [{ domain: \"*\", to: mx, fingerprints: [ab:cd], tls: fingerprint }]\n",
	  "test.yaml:3: routes[0].fingerprints: 'ab:cd' is no SHA-256 fingerprint; write the 32 "
	  "bytes "
	  "that openssl x509 -noout -fingerprint -sha256 prints" },
	{ "routes: [{ domain: \"*\", to: [mx, \"smtp://192.0.2.1\"] }]\n",
	  "test.yaml:3: routes[0].to: 'mx' cannot stand in a list; write it alone, as in to: mx" },
	{ "routes: [{ domain: \"*\", to: \"smtp://mail_.example.org:25\" }]\n",
	  "test.yaml:3: routes[0].to: 'smtp://mail_.example.org:25' has no valid host; write it as "
	  "smtp://192.0.2.1:25, \"smtp://[2001:db8::1]:25\" or smtp://mail.example.org:25" },
	{ "routes: [{ domain: \"*\", to: \"smtp://mail.example.org:0\" }]\n",
	  "test.yaml:3: routes[0].to: 'smtp://mail.example.org:0' has no valid host; write it as "
	  "smtp://192.0.2.1:25, \"smtp://[2001:db8::1]:25\" or smtp://mail.example.org:25" },
	{ "routes: [{ domain: \"*\", to: \"http://192.0.2.1\" }]\n",
	  "test.yaml:3: routes[0].to: 'http://192.0.2.1' is no next hop; write mx, "
	  "smtp://HOST:port, smtps://HOST:port, "
	  "lmtp://HOST:port, lmtp:///path/to/socket or discard" },
	{ "routes: [{ domain: \"*\", to: \"smtps://192.0.2.1\", tls: none }]\n",
	  "test.yaml:3: routes[0].tls: is none, but smtps:// is TLS; write smtp:// or another "
	  "word" },
	{ "routes: [{ domain: \"*\", to: \"smtp://192.0.2.1:99999\" }]\n",
	  "test.yaml:3: routes[0].to: 'smtp://192.0.2.1:99999' has no valid host; write it as "
	  "smtp://192.0.2.1:25, \"smtp://[2001:db8::1]:25\" or smtp://mail.example.org:25" },
	{ "routes: [{ domain: \"*\", to: [\"smtp://192.0.2.1\", \"lmtp://192.0.2.1\"] }]\n",
	  "test.yaml:3: routes[0].to: 'lmtp://192.0.2.1' mixes SMTP and LMTP; use one of them for "
	  "the "
	  "whole list" },
	{ "routes: [{ domain: \"*\", to: [\"smtp://192.0.2.1\", \"smtp://192.0.2.1:25\"] }]\n",
	  "test.yaml:3: routes[0].to: 'smtp://192.0.2.1:25' is listed twice; remove one of them" },
	{ "routes: [{ domain: \"*\", to: [\"smtp://192.0.2.1\", discard] }]\n",
	  "test.yaml:3: routes[0].to: 'discard' cannot stand in a list; write it alone, as in "
	  "to: mx" },
	{ "routes: [{ domain: \"*\", to: [] }]\n",
	  "test.yaml:3: routes[0].to: '' has no next hop or more than 64; name 1 to 64" },
	{ "retry: { schedule: [] }\n",
	  "test.yaml:3: retry.schedule: '' is empty; write durations such as [1m, 5m, 1h]" },
	{ "retry: { lifetime: 1h }\n",
	  "test.yaml:3: retry.schedule: has a pause longer than retry.lifetime; shorten it or "
	  "lengthen the lifetime" },
	{ "dns: { forwarders: [192.0.2.1, resolver.example] }\n",
	  "test.yaml:3: dns.forwarders: 'resolver.example' is no address of a resolver; write one "
	  "such as 192.0.2.53 or \"2001:db8::53@5353\"" },
	{ "dns: { forwarders: [\"192.0.2.1@0\"] }\n",
	  "test.yaml:3: dns.forwarders: '192.0.2.1@0' is no address of a resolver; write one such "
	  "as 192.0.2.53 or \"2001:db8::53@5353\"" },
	{ "dns: { forwarders: [] }\n",
	  "test.yaml:3: dns.forwarders: '' has no resolver or more than 8; write auto, none, or 1 "
	  "to 8" },
	{ "dns: { trust_anchors: root.key }\n",
	  "test.yaml:3: dns.trust_anchors: 'root.key' is no absolute path; write one that starts "
	  "with /, or none" },
	{ "dns: { hosts_file: auto }\n", "test.yaml:3: dns.hosts_file: 'auto' is no absolute "
					 "path; write one that starts with /, or none" },
	{ "dns: { search: [a, .b] }\n",
	  "test.yaml:3: dns.search: '.b' is no domain; write one such as example.org, without a "
	  "dot at its beginning or end" },
	{ "dns: { search: [a, b, c, d, e, f, g] }\n",
	  "test.yaml:3: dns.search: '' has more than 6 domains; shorten the list" },
	{ "---\nworkers: 1\n", "test.yaml:4: a second document starts here; keep one in a file" },
	{ "a: &x [ *x ]\nb: {*x : 1}\n",
	  "test.yaml:3: a is no option; see ringpostd --doc options for those that are" },
};

static void
every_error_names_file_line_and_remedy(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof bad_rows / sizeof bad_rows[0]; i++) {
		char text[2000];
		snprintf(text, sizeof text, "%s%s", HEAD, bad_rows[i].text);
		assert_null(config_parse("test.yaml", span_of_string(text), &errors));
		assert_string_equal(errors.lines[0], bad_rows[i].error);
	}
}

static void
what_the_head_needs_is_missed(void **state)
{
	static const struct {
		const char *text;
		const char *first, *second;
	} rows[] = {
		{ "", "x:1: hostname is missing; write a host name such as mx1.example.org",
		  "x:1: listeners has 0 items; give 1 to 64" },
		{ "hostname: -a\nlisteners:\n",
		  "x:1: hostname: '-a' is no host name; write one such as mx1.example.org",
		  "x:1: listeners has 0 items; give 1 to 64" },
		{ "hostname: a\nlisteners:\n"
		  " - { address: \"0.0.0.0:24\", role: lmtp }\n"
		  " - { address: \"0.0.0.0:25\", role: mx }\n",
		  "x:3: listeners[0].role: 'lmtp' cannot be used yet; receiving over LMTP comes in "
		  "a "
		  "later version; use relay",
		  "x:4: listeners[1].role: 'mx' is not valid; write relay or submission" },
		{ "hostname: a\nlisteners:\n"
		  " - { address: \"0.0.0.0:25\" }\n - { address: \"0.0.0.0:25\" }\n"
		  "routes: [{domain: a, to: discard}, {domain: a, to: discard}]\n",
		  "x:4: listeners[1].address: is bound twice; remove one or choose another port",
		  "x:5: routes[1].domain: 'a' stands twice; remove one" },
		{ "hostname: a\nlisteners:\n - { address: \"0.0.0.0:587\", role: submission }\n",
		  "x:3: listeners[0].role: submission needs users who can log in; name users.file "
		  "or "
		  "users.dovecot",
		  NULL },
		{ "hostname: a\nlisteners:\n - { address: \"0.0.0.0:587\", role: submission }\n"
		  "users: { file: /users }\n",
		  "x:3: listeners[0].role: submission needs TLS, behind which users log in; add a "
		  "certificate to tls.certificates, and leave out tls: none",
		  NULL },
		{ "hostname: a\nlisteners:\n"
		  " - { address: \"0.0.0.0:587\", role: submission, spf: {} }\n"
		  "users: { file: /users }\n"
		  "tls: { certificates: [{ chain: /c, key: /k }] }\n",
		  "x:3: listeners[0].spf: SPF is for listeners with the role relay; remove it "
		  "here, or make the role relay",
		  NULL },
		{ "hostname: a\nlisteners:\n"
		  " - { address: \"0.0.0.0:25\", spf: { given: true, fail: reject } }\n",
		  "x:3: listeners[0].spf.given is no option; see ringpostd --doc options for "
		  "those that are",
		  "x:3: listeners[0].spf.fail: 'reject' is not valid; write accept or mark or "
		  "refuse or defer" },
		{ "- a\n- b\n", "x:1: the file has no options; write name: value", NULL },
		{ "a: [1\nb: 2\n", NULL, NULL },
		{ "a: \xff\n", NULL, NULL },
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		assert_null(config_parse("x", span_of_string(rows[i].text), &errors));
		assert_true(errors.count > 0);
		if (rows[i].first != NULL)
			assert_string_equal(errors.lines[0], rows[i].first);
		if (rows[i].second != NULL)
			assert_string_equal(errors.lines[1], rows[i].second);
		if (rows[i].first == NULL)
			assert_non_null(strstr(errors.lines[0], "no valid YAML"));
	}
}

static void
errors_are_listed_by_line_up_to_twenty(void **state)
{
	char text[2000] = HEAD;

	(void)state;
	for (int i = 0; i < 30; i++)
		snprintf(text + strlen(text), sizeof text - strlen(text), "zz%d: 1\n", i);
	strcat(text, "workers: 0\n"); /* found first among values, last by line */
	assert_null(config_parse("x", span_of_string(text), &errors));
	assert_int_equal(errors.count, 31);
	for (int i = 0; i < CONFIG_ERRORS_MAX; i++) {
		char start[40];
		snprintf(start, sizeof start, "x:%d: zz%d ", i + 3, i);
		assert_memory_equal(errors.lines[i], start, strlen(start));
	}
	/* A late finding with an early line pushes the last one out. */
	snprintf(text, sizeof text, "workers: 0\n" HEAD);
	for (int i = 0; i < 30; i++)
		snprintf(text + strlen(text), sizeof text - strlen(text), "zz%d: 1\n", i);
	assert_null(config_parse("x", span_of_string(text), &errors));
	assert_string_equal(errors.lines[0],
			    "x:1: workers: '0' is out of range; choose between 1 and 64");
	assert_memory_equal(errors.lines[19], "x:22: zz18 ", 11);
}

static const char full[] =
	HEAD "workers: 3\n"
	     "metrics: { address: \"127.0.0.1:9925\" }\n"
	     "log: { file: \"/tmp/a \\\"quoted\\\" \\u00fc\\\\name\" }\n"
	     "limits: { exempt: [10.0.0.0/8], message_size_max: 1048577B }\n"
	     "timeouts: { drain: 0s, send: { reset: 1500ms } }\n"
	     "dns: { forwarders: [\"::1\", 192.0.2.1@5353], search: [a.example, b],"
	     " trust_anchors: /tmp/x, hosts_file: /tmp/y }\n"
	     "relay: { domains: [{ name: b\xc3\xbc"
	     "cher.example }, { name: c.example, recipients: callout }, { name: f.example, "
	     "recipients: \"/etc/my \\\"users\\\"\" }], networks: [\"::1\"], recipient_delimiter: "
	     "\"\" }\n"
	     "routes:\n"
	     "  - { domain: \"*\", to: [\"smtp://192.0.2.1\", \"smtp://[::1]:26\"] }\n"
	     "  - { domain: a.example, to: \"lmtp:///tmp/it's \\\"x\\\".sock\" }\n"
	     "  - { domain: .a.example, to: discard, connections: 7 }\n"
	     "  - { domain: s.example, to: [\"smtps://192.0.2.1\", \"smtps://b.example:25\"] }\n"
	     "  - domain: f.example\n"
	     "    to: \"smtp://192.0.2.1\"\n"
	     "    tls: fingerprint\n"
	     "    fingerprints:\n"
	     "      - 000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1eff\n"
	     "      - \"ab:01:02:03:04:05:06:07:08:09:0A:0b:0c:0d:0e:0f:10:11:12:13:14:15:16:17:18:"
	     "19:1a:1b:1c:1d:1e:FF\"\n";

static void
what_is_printed_parses_to_the_same(void **state)
{
	static const char *const texts[] = {
		HEAD, full,
		HEAD "queue: { store: redis, redis: { server: \"unix:/run/redis.sock\" } }\n",
		HEAD "queue:\n  store: redis\n  redis:\n    sentinels: [\"s-1:26379\", "
		     "\"[::1]:26379\"]\n"
		     "    master: post\n    user: relay\n    password_file: /etc/ringpost/redis\n"
		     "    prefix: mail/1\n    tls: true\n    durability: disk-no-failover\n"
		     "    promises: declared\n    compress: false\n"
	};

	(void)state;
	for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
		struct buf first = buf_of(memory, sizeof memory / 2);
		struct buf second = buf_of(memory + sizeof memory / 2, sizeof memory / 2);
		const struct config *a = must_parse(texts[i]);
		assert_true(config_print(a, &first));
		const struct config *b = config_parse("printed", buf_span(&first), &errors);
		if (b == NULL)
			fail_msg("%s", errors.lines[0]);
		assert_true(config_eq(a, b));
		assert_true(config_print(b, &second));
		assert_true(span_eq(buf_span(&first), buf_span(&second)));
		assert_non_null(memmem(first.data, first.size, "segment_size: 64MiB\n", 20));
		config_put(a);
		config_put(b);
	}
}

/* Where SPF is not in effect its options are not shown. */
static void
spf_is_printed_for_relays_alone(void **state)
{
	static const char text[] =
		"hostname: a\nlisteners:\n"
		" - { address: \"0.0.0.0:25\", spf: { fail: mark, except: [10.0.0.0/8] } }\n"
		" - { address: \"0.0.0.0:587\", role: submission }\n"
		"users: { file: /users }\n"
		"tls: { certificates: [{ chain: /c, key: /k }] }\n";
	struct buf out = buf_of(memory, sizeof memory);
	const struct config *a = must_parse(text);

	(void)state;
	assert_true(config_print(a, &out));
	const char *first = memmem(out.data, out.size, "spf:\n", 5);
	assert_non_null(first);
	size_t rest = out.size - (size_t)(first + 5 - (const char *)out.data);
	assert_null(memmem(first + 5, rest, "spf:\n", 5));
	const struct config *b = config_parse("printed", buf_span(&out), &errors);
	assert_non_null(b);
	assert_true(config_eq(a, b));
	assert_int_equal(b->listeners[0].spf.fail, SPF_ACTION_MARK);
	assert_int_equal(b->listeners[0].spf.except.count, 1);
	config_put(a);
	config_put(b);
}

static void
a_reload_names_what_needs_a_restart(void **state)
{
	static const struct {
		const char *from, *to;
		const char *restart;
	} rows[] = {
		{ "", "", "" },
		{ "workers: 1\n", "workers: 2\n", "workers" },
		{ "", "limits: { recipients_max: 500 }\n", "" },
		{ "", "log: { level: debug, file: /tmp/x }\n", "" },
		{ "", "routes: [{ domain: \"*\", to: discard }]\n", "" },
		{ "", "relay: { networks: [10.0.0.0/8] }\n", "" },
		{ "", "relay: { callout: { deadline: 5s }, recipient_delimiter: \"\" }\n", "" },
		{ "", "queue: { spool: { path: /tmp/q, flights: 1, file_threshold: 8KiB } }\n",
		  "queue.spool.path, queue.spool.flights" },
		{ "", "durability: memory\nworker: { ring_entries: 64 }\n",
		  "durability, worker.ring_entries" },
		{ "", "metrics: { address: \"127.0.0.1:1\" }\n", "metrics.address" },
		{ "", "dns: { forwarders: none, search: [a] }\n", "dns.forwarders, dns.search" },
		{ "dns: { forwarders: [192.0.2.1] }\n", "dns: { forwarders: [192.0.2.2] }\n",
		  "dns.forwarders" },
		{ "dns: { search: [a] }\n", "dns: { search: [b] }\n", "dns.search" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		char text[1000];
		struct buf out = buf_of(memory, sizeof memory);
		snprintf(text, sizeof text, "%s%s", HEAD, rows[i].from);
		const struct config *old = must_parse(text);
		snprintf(text, sizeof text, "%s%s", HEAD, rows[i].to);
		const struct config *new = must_parse(text);
		assert_int_equal(config_restart_needed(old, new, &out), rows[i].restart[0] != 0);
		assert_true(span_eq(buf_span(&out), span_of_string(rows[i].restart)));
		assert_int_equal(config_eq(old, new), strcmp(rows[i].from, rows[i].to) == 0);
		config_put(old);
		config_put(new);
	}
	/* Two changed listeners are one option; another number of them is the list. */
	const struct config *a =
		must_parse("hostname: a\nlisteners:\n - { address: \"1.1.1.1:1\" }\n"
			   " - { address: \"1.1.1.1:2\" }\n");
	const struct config *b =
		must_parse("hostname: a\nlisteners:\n - { address: \"1.1.1.1:3\" }\n"
			   " - { address: \"1.1.1.1:4\" }\n");
	const struct config *c =
		must_parse("hostname: a\nlisteners: [{ address: \"1.1.1.1:1\" }]\n");
	struct buf out = buf_of(memory, sizeof memory);
	assert_true(config_restart_needed(a, b, &out));
	assert_true(span_eq(buf_span(&out), SPAN("listeners.address")));
	buf_reset(&out);
	assert_true(config_restart_needed(a, c, &out));
	assert_true(span_eq(buf_span(&out), SPAN("listeners")));
	config_put(a);
	config_put(b);
	config_put(c);
}

static void
routes_go_by_exact_then_longest_parent_then_star(void **state)
{
	static const struct {
		const char *domain;
		int route; /* -1: none */
	} rows[] = {
		{ "example.org", 0 },
		{ "EXAMPLE.Org", 0 },
		{ "a.example.org", 1 },
		{ "b.a.example.org", 1 },
		{ "deep.example.org", 1 },
		{ "x.deep.example.org", 2 },
		{ "y.x.DEEP.example.org", 2 },
		{ "example.net", 3 },
		{ "xexample.org", 3 },
		{ "org", 3 },
		{ "", 3 },
		{ "[192.0.2.1]", 3 },
	};
	const struct config *c = must_parse(HEAD "routes:\n"
						 " - { domain: example.org, to: discard }\n"
						 " - { domain: .example.org, to: discard }\n"
						 " - { domain: .deep.example.org, to: discard }\n"
						 " - { domain: \"*\", to: discard }\n");
	const struct config *none = must_parse(HEAD);

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		const struct config_route *found =
			config_route_find(c, span_of_string(rows[i].domain));
		assert_ptr_equal(found, &c->routes[rows[i].route]);
		assert_null(config_route_find(none, span_of_string(rows[i].domain)));
	}
	config_put(c);
	config_put(none);
}

static void
many_routes_are_found_and_domains_have_no_star(void **state)
{
	size_t capacity = 1 << 20;
	char *text = malloc(capacity);
	struct buf out = buf_of(text, capacity);

	(void)state;
	buf_append_string(&out, HEAD "relay: { domains: [{ name: d7.example }, "
				     "{ name: .d8.example }] }\nroutes:\n");
	for (int i = 0; i < 5000; i++)
		buf_printf(&out, " - { domain: d%d.example, to: \"smtp://10.0.0.1\" }\n", i);
	buf_append_string(&out, " - { domain: .d8.example, to: discard }\n");
	const struct config *c = config_parse("x", buf_span(&out), &errors);
	assert_non_null(c);
	for (int i = 0; i < 5000; i++) {
		char domain[30];
		snprintf(domain, sizeof domain, "D%d.Example", i);
		assert_ptr_equal(config_route_find(c, span_of_string(domain)), &c->routes[i]);
	}
	assert_null(config_route_find(c, SPAN("d5000.example")));
	assert_ptr_equal(config_domain_find(c, SPAN("d7.EXAMPLE")), &c->relay.domains[0]);
	assert_ptr_equal(config_domain_find(c, SPAN("x.d8.example")), &c->relay.domains[1]);
	assert_null(config_domain_find(c, SPAN("d8.example")));
	assert_null(config_domain_find(c, SPAN("*")));
	config_put(c);
	free(text);
}

static void
clients_are_matched_by_network(void **state)
{
	const struct config *c =
		must_parse(HEAD "relay: { networks: [127.0.0.0/8, \"2001:db8::/32\"] }\n");
	static const struct {
		const char *client;
		bool inside;
	} rows[] = {
		{ "127.9.9.9:1", true },      { "128.0.0.1:1", false }, { "[2001:db8::1]:1", true },
		{ "[2001:db9::1]:1", false }, { "unix:/tmp/x", false },
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct net_address address;
		assert_true(net_address_parse(span_of_string(rows[i].client), &address));
		assert_int_equal(config_network_contains(&c->relay.networks, &address.any),
				 rows[i].inside);
	}
	/* As an IPv6 socket shows an IPv4 client. */
	struct sockaddr_in6 mapped = { .sin6_family = AF_INET6 };
	assert_int_equal(inet_pton(AF_INET6, "::ffff:127.0.0.1", &mapped.sin6_addr), 1);
	assert_true(config_network_contains(&c->relay.networks,
					    (const struct sockaddr *)(const void *)&mapped));
	config_put(c);
}

static void
a_snapshot_lives_as_long_as_its_last_user(void **state)
{
	const struct config *c = must_parse(full);

	(void)state;
	assert_ptr_equal(config_get(c), c);
	config_put(c);
	assert_true(span_eq(c->hostname, SPAN("mx1.example.org"))); /* ASan would see it freed */
	config_put(c);
}

static void
files_are_read_or_named(void **state)
{
	char path[] = "/tmp/ringpost-config-XXXXXX";
	int fd = mkstemp(path);

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(write(fd, full, sizeof full - 1), sizeof full - 1);
	close(fd);
	const struct config *c = config_load(path, &errors);
	assert_non_null(c);
	config_put(c);
	unlink(path);
	assert_null(config_load(path, &errors));
	assert_int_equal(errors.count, 1);
	assert_non_null(strstr(errors.lines[0], "cannot be read: No such file or directory; name"));
	assert_null(config_load("/tmp", &errors));
	assert_non_null(strstr(errors.lines[0], "cannot be read: Is a directory; name"));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(defaults_are_those_of_the_table),
		cmocka_unit_test(every_kind_of_value_is_read),
		cmocka_unit_test(ways_to_know_recipients_are_read),
		cmocka_unit_test(every_error_names_file_line_and_remedy),
		cmocka_unit_test(what_the_head_needs_is_missed),
		cmocka_unit_test(errors_are_listed_by_line_up_to_twenty),
		cmocka_unit_test(what_is_printed_parses_to_the_same),
		cmocka_unit_test(spf_is_printed_for_relays_alone),
		cmocka_unit_test(a_reload_names_what_needs_a_restart),
		cmocka_unit_test(routes_go_by_exact_then_longest_parent_then_star),
		cmocka_unit_test(many_routes_are_found_and_domains_have_no_star),
		cmocka_unit_test(clients_are_matched_by_network),
		cmocka_unit_test(a_snapshot_lives_as_long_as_its_last_user),
		cmocka_unit_test(files_are_read_or_named),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
