/* SPDX-License-Identifier: Apache-2.0
 *
 * config: the configuration, read from a YAML file into one immutable snapshot.
 *
 * All options are rows of core/tables/options.def; `struct config` is generated from them, so that
 * the row `queue.spool.segment_size` is the field config->queue.spool.segment_size. Durations are
 * milliseconds with _ms behind the name; sizes are bytes; a list x has x_count. What stands as
 * `auto` in the file is 0 here: config_worker_count() and config_memory_budget() resolve it.
 *
 * A snapshot has its own memory and a count of references. config_load() gives one reference;
 * whoever keeps a snapshot beyond the call (a session, a delivery) takes its own with config_get()
 * and gives it back with config_put(), from any thread. Nobody writes to a snapshot.
 *
 * A reload loads a second snapshot and asks config_restart_needed() which changed options cannot be
 * applied; where there is none, the new one replaces the old, and sessions finish on the one that
 * they began with. Errors of the file are a list of lines `file:line: message; remedy`; the caller
 * prints them and exits 78 (EX_CONFIG) at start, or keeps the old snapshot at a reload.
 */
#ifndef CORE_CONFIG_H
#define CORE_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/buf.h"
#include "core/base/span.h"
#include "core/base/net_address.h"
#include "core/network.h"

#define CONFIG_EXIT             78
#define CONFIG_ERRORS_MAX       20
#define CONFIG_ERROR_SIZE       320
#define CONFIG_FINGERPRINT_SIZE 32 /* SHA-256 */
/* The largest file, and the most that config_print() needs for one of that size. */
#define CONFIG_FILE_SIZE_MAX ((size_t)64 << 20)

/* clang-format off */
#define CHOICES(tag)                   enum tag {
#define WORD(tag, name, word, remedy)          name,
#define CHOICES_END(tag)               };
#include "core/tables/choices.def"
#undef CHOICES
#undef WORD
#undef CHOICES_END
/* clang-format on */

enum config_recipients_kind { RECIPIENTS_ANY, RECIPIENTS_FILE, RECIPIENTS_CALLOUT };

/* How it is known which recipients a domain has. */
struct config_recipients {
	enum config_recipients_kind kind;
	struct span file; /* RECIPIENTS_FILE: its absolute path, with a NUL behind it */
};

enum config_target_kind { TARGET_SMTP, TARGET_LMTP, TARGET_MX, TARGET_DISCARD };

/* A next hop, by number or by name. */
struct config_host {
	struct net_address address; /* size 0: by name */
	struct span name;           /* lower case; empty: by number */
	uint16_t port;              /* of a name */
	bool tls;                   /* smtps: from the first byte on */
};

/* Where a route leads. Routes with the same text are the same destination. */
struct config_target {
	enum config_target_kind kind;
	const struct config_host *hosts; /* none for TARGET_MX and TARGET_DISCARD */
	size_t hosts_count;
	struct span text; /* canonical: "smtp://192.0.2.1:25,smtp://192.0.2.2:25" */
};

/* The resolvers to ask: those of this host, or these; none where it asks the roots itself. */
struct config_forwarders {
	bool is_auto;
	const struct net_address *items;
	size_t count;
};

/* clang-format off */
#define FIELD_BOOL(name)         bool name;
#define FIELD_GIVEN(name)        bool name;
#define FIELD_NUMBER(name)       uint32_t name;
#define FIELD_POWER(name)        uint32_t name;
#define FIELD_AUTO_NUMBER(name)  uint32_t name; /* 0 is auto */
#define FIELD_SIZE(name)         size_t name;
#define FIELD_AUTO_SIZE(name)    size_t name; /* 0 is auto */
#define FIELD_DURATION(name)     uint64_t name##_ms;
#define FIELD_HOSTNAME(name)     struct span name;
#define FIELD_NAME(name)         struct span name;
#define FIELD_PATH(name)         struct span name;
#define FIELD_DOMAIN(name)       struct span name;
#define FIELD_ROUTE_DOMAIN(name) struct span name;
#define FIELD_MAILBOX(name)      struct span name;
#define FIELD_ADDRESS(name)      struct net_address name; /* size 0: none */
#define FIELD_NETWORKS(name)     struct network_list name;
#define FIELD_TARGET(name)       struct config_target name;
#define FIELD_RECIPIENTS(name)   struct config_recipients name;
#define FIELD_DELIMITERS(name)   struct span name; /* each byte is one */
#define FIELD_DURATIONS(name)    const uint64_t *name##_ms; size_t name##_count;
#define FIELD_DOMAINS(name)      const struct span *name; size_t name##_count;
#define FIELD_WORD(name)         struct span name; /* empty: left out */
#define FIELD_SERVER(name)       struct span name; /* empty: left out */
#define FIELD_SERVERS(name)      const struct span *name; size_t name##_count;
#define FIELD_FORWARDERS(name)   struct config_forwarders name;
#define FIELD_FILE(name)         struct span name; /* "none" where there is none */
#define FIELD_AUTO_FILE(name)    struct span name; /* "none", "auto" */
#define FIELD_FINGERPRINTS(name) \
	const uint8_t (*name)[CONFIG_FINGERPRINT_SIZE]; size_t name##_count;

#define OPTION(kind, owner, name, standard, least, most, when, doc) FIELD_##kind(name)
#define CHOICE(tag, owner, name, standard, when, doc)               enum tag name;
#define GROUP(owner, name, doc)                                     struct owner##_##name {
#define GROUP_END(name)                                             } name;
#define LIST(item, owner, name, least, most, when, doc)             const struct item {
#define LIST_END(name)                                              } *name; size_t name##_count;
struct config {
#include "core/tables/options.def"
};
#undef OPTION
#undef CHOICE
#undef GROUP
#undef GROUP_END
#undef LIST
#undef LIST_END
/* clang-format on */
#undef FIELD_BOOL
#undef FIELD_GIVEN
#undef FIELD_NUMBER
#undef FIELD_POWER
#undef FIELD_AUTO_NUMBER
#undef FIELD_SIZE
#undef FIELD_AUTO_SIZE
#undef FIELD_DURATION
#undef FIELD_HOSTNAME
#undef FIELD_NAME
#undef FIELD_PATH
#undef FIELD_DOMAIN
#undef FIELD_ROUTE_DOMAIN
#undef FIELD_MAILBOX
#undef FIELD_ADDRESS
#undef FIELD_NETWORKS
#undef FIELD_TARGET
#undef FIELD_RECIPIENTS
#undef FIELD_DELIMITERS
#undef FIELD_DURATIONS
#undef FIELD_DOMAINS
#undef FIELD_WORD
#undef FIELD_SERVER
#undef FIELD_SERVERS
#undef FIELD_FORWARDERS
#undef FIELD_FILE
#undef FIELD_AUTO_FILE
#undef FIELD_FINGERPRINTS

struct config_errors {
	size_t count; /* of all errors; the first CONFIG_ERRORS_MAX are in `lines` */
	char lines[CONFIG_ERRORS_MAX][CONFIG_ERROR_SIZE];
};

/* The snapshot, with one reference for the caller; NULL with at least one error where the file
 * cannot be used. Reads the file and nothing else. */
const struct config *config_load(const char *path, struct config_errors *errors);
/* The same for a text in memory; `name` stands for the file in errors. */
const struct config *config_parse(const char *name, struct span text, struct config_errors *errors);
const struct config *config_get(const struct config *config);
void config_put(const struct config *config);

/* The effective configuration as YAML, every option with its value, which parses to an equal
 * snapshot. False where it does not fit. */
bool config_print(const struct config *config, struct buf *out);
/* Have both snapshots the same values? */
bool config_eq(const struct config *a, const struct config *b);
/* Appends the paths of the options that differ and need a restart, separated by ", "; nothing
 * where a reload can apply all differences. */
bool config_restart_needed(const struct config *old, const struct config *new, struct buf *out);
/* The reference page of all options, Markdown. */
bool config_doc(struct buf *out);

/* Does an option of kind FILE name one? */
static inline bool
config_names_file(struct span file)
{
	return file.size > 0 && !span_eq(file, SPAN("none"));
}

/* The word of a role: "relay". */
const char *config_role_word(enum config_role role);
/* The number of workers: as configured, or the processors that this process may run on. */
unsigned config_worker_count(const struct config *config);
/* The number of helper threads: as configured, or one for each two such processors. */
unsigned config_helper_count(const struct config *config);
/* The memory budget of the process in bytes: as configured, or half of the least of the control
 * group's limits and the machine's memory. */
size_t config_memory_budget(const struct config *config);

/* The route for a recipient's domain, by the order of the documentation: exact, then the longest
 * parent, then "*". NULL where there is none. ASCII case is ignored. O(labels of the domain). */
const struct config_route *config_route_find(const struct config *config, struct span domain);
/* The row of relay.domains that covers the domain, or NULL. */
const struct config_domain *config_domain_find(const struct config *config, struct span domain);
/* The row of senders that covers the domain, or NULL. */
const struct config_sender *config_sender_find(const struct config *config, struct span domain);
/* Is the client's address in the list? False for a unix socket. */
bool config_network_contains(const struct network_list *list, const struct sockaddr *client);

#endif
