/* SPDX-License-Identifier: Apache-2.0
 *
 * config_table: the rows of options.def as data, and the kinds of values. Inside of config_*.c
 * only.
 *
 * The table is flat: a GROUP or LIST row is followed by its members and closed by an END row, so
 * that a walk over a struct is a loop over rows (option_skip jumps over a group). Offsets count
 * from the struct that holds the option.
 *
 * Values are pure text work: value_parse() makes the field from the scalars of the file, or says
 * why not in the form "message; remedy"; value_print() writes it so that it parses to the same;
 * both know nothing of YAML. A sequence is more than one item, or one in brackets.
 */
#ifndef CORE_CONFIG_TABLE_H
#define CORE_CONFIG_TABLE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/arena.h"
#include "core/base/buf.h"
#include "core/base/span.h"
#include "core/config.h"

enum option_kind {
	OPTION_GROUP,
	OPTION_GROUP_END,
	OPTION_LIST,
	OPTION_LIST_END,
	OPTION_CHOICE,
	OPTION_BOOL,        /* true or false */
	OPTION_GIVEN,       /* in a group: does it stand in the file? No option by itself. */
	OPTION_NUMBER,      /* a whole number */
	OPTION_POWER,       /* a power of two */
	OPTION_AUTO_NUMBER, /* a whole number or `auto` (0) */
	OPTION_SIZE,        /* bytes with a unit */
	OPTION_AUTO_SIZE,   /* bytes with a unit or `auto` (0) */
	OPTION_DURATION,    /* milliseconds, with a unit */
	OPTION_HOSTNAME,
	OPTION_NAME,         /* of a user of this host */
	OPTION_PATH,         /* absolute */
	OPTION_DOMAIN,       /* example.org or .example.org */
	OPTION_ROUTE_DOMAIN, /* the same or * */
	OPTION_MAILBOX,      /* local@domain, ASCII */
	OPTION_ADDRESS,      /* IP and port */
	OPTION_NETWORKS,     /* a list of CIDR networks */
	OPTION_TARGET,       /* mx, one URL, a list of them, or discard */
	OPTION_RECIPIENTS,   /* any, callout or the path of a file */
	OPTION_DELIMITERS,   /* bytes, or none */
	OPTION_DURATIONS,    /* a list, at least one */
	OPTION_DOMAINS,      /* a list of plain domains */
	OPTION_FORWARDERS,   /* auto, none, or a list of IP or IP@port */
	OPTION_FILE,         /* absolute path, or none */
	OPTION_AUTO_FILE,    /* absolute path, auto, or none */
	OPTION_FINGERPRINTS, /* a list of SHA-256 digests, in hexadecimal */
	OPTION_WORD,         /* letters, digits, and - _ . : @ + / */
	OPTION_SERVER,       /* host:port or unix:/path (base/server_address.h) */
	OPTION_SERVERS,      /* a list of host:port */
	OPTION_KINDS
};

struct choice_word {
	const char *word;
	const char *remedy; /* NULL: can be used */
};

struct choice {
	const struct choice_word *words;
	size_t count;
};

struct option {
	enum option_kind kind;
	const char *name;
	const char *standard; /* the default; NULL: required */
	const char *least;    /* NULL: no range */
	const char *most;
	const char *doc;
	const struct choice *choice; /* OPTION_CHOICE */
	size_t offset;               /* of the field */
	size_t count_offset;         /* of the list's or sequence's count */
	size_t item_size;            /* OPTION_LIST */
	bool restart;                /* a reload cannot change it */
};

extern const struct option option_rows[];
extern const size_t option_rows_count;

/* The row behind the option: behind its END for a group or list. */
size_t option_skip(size_t row);
bool option_is_sequence(const struct option *o);
/* A pointer to the array of a list, or NULL, and how many items it has. */
const void *option_items(const struct option *o, const void *base, size_t *count);

/* Makes the field in the struct at `base`. False with the reason in `why`, and the item that is to
 * blame in *bad. */
bool value_parse(const struct option *o, const struct span *items, size_t count,
		 struct arena *arena, void *base, struct buf *why, size_t *bad);
/* The same from the row's default. True, with a zeroed field, where that is "". */
bool value_parse_default(const struct option *o, struct arena *arena, void *base);
/* Appends the value as YAML on one line. */
bool value_print(const struct option *o, const void *base, struct buf *out);
bool value_eq(const struct option *o, const void *a, const void *b);
/* What may stand there, for the reference page and for errors. */
const char *value_describe(enum option_kind kind);
/* Writes the reason in front of which stands the text of the file; always false. */
bool value_refuse(struct buf *why, struct span text, const char *message);
/* Does the text look as if a name stood where an address must? */
bool value_is_named(struct span text);
bool target_parse(const struct span *items, size_t count, struct arena *arena,
		  struct config_target *out, struct buf *why, size_t *bad);
void target_print(const struct config_target *target, struct buf *out);
bool forwarders_parse(const struct span *items, size_t count, struct arena *arena,
		      struct config_forwarders *out, struct buf *why, size_t *bad);
void forwarders_print(const struct config_forwarders *f, struct buf *out);
bool forwarders_eq(const struct config_forwarders *a, const struct config_forwarders *b);
/* Of domains, and of servers. */
bool domains_parse(const struct option *o, const struct span *items, size_t count,
		   struct arena *arena, void *base, struct buf *why, size_t *bad);
void domains_print(const struct option *o, const void *base, struct buf *out);
bool domains_eq(const struct option *o, const void *a, const void *b);
bool fingerprints_parse(const struct option *o, const struct span *items, size_t count,
			struct arena *arena, void *base, struct buf *why, size_t *bad);
void fingerprints_print(const struct option *o, const void *base, struct buf *out);
bool fingerprints_eq(const struct option *o, const void *a, const void *b);
/* Letters, digits and hyphens in labels; with `wide` also what mail domains have besides: UTF-8
 * (RFC 6531) and underscores. */
bool value_is_domain(struct span text, bool wide);

/* A hash table from domain to index in an array; built once. */
struct domain_index {
	uint32_t *slots; /* index + 1; 0 is empty */
	size_t mask;
};

struct snapshot {
	uint32_t magic;
	_Atomic uint32_t references;
	struct arena arena; /* of everything but this struct */
	struct domain_index routes;
	struct domain_index domains;
	struct domain_index senders;
	struct config config;
};

#define SNAPSHOT_MAGIC 0x434f4e46u

struct snapshot *snapshot_new(void);
void snapshot_free(struct snapshot *s);

/* Reporting by the checks that follow parsing: `path` is "routes[3].domain". */
typedef void (*config_report_fn)(void *context, const char *path, const char *message);
/* Of the group queue.redis. */
void config_check_queue(const struct config *config, config_report_fn report, void *context);
/* What no single row can check; builds the indexes. False where memory is short. */
bool config_finish(struct snapshot *s, config_report_fn report, void *context);

#endif
