/* SPDX-License-Identifier: Apache-2.0
 *
 * protocol: the language of the admin socket, one JSON object a line each way. Shared by ringpostd,
 * which reads requests, and ringpostctl, which makes them.
 *
 *   {"version":1,"command":"queue list","state":"held","limit":10}
 *   {"version":1,"ok":true,"result":{"rows":[...]}}
 *   {"version":1,"ok":false,"error":"not_found","text":"there is no such mail"}
 *
 * The rules are the rows of core/tables/admin_commands.def: which arguments a command takes, their
 * kinds and ranges. Everything else is refused: an argument that is misspelt must not be an
 * argument that is not there. `version` is 1 as long as requests of today mean the same; members
 * may be added to answers.
 *
 * PURE, but for the memory that jansson takes for the values of a request (protocol_put).
 */
#ifndef RELAY_ADMIN_PROTOCOL_H
#define RELAY_ADMIN_PROTOCOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/buf.h"
#include "core/base/span.h"
#include "queue/mail.h"
#include "relay/admin/shape.h"

enum {
	PROTOCOL_VERSION = 1,
	PROTOCOL_REQUEST_MAX = 8 * 1024, /* with its line end */
	PROTOCOL_ROWS_MAX = 1000,
	PROTOCOL_ROWS = 100, /* where no limit is given */
	PROTOCOL_IDS_MAX = 100,
	PROTOCOL_LISTS_MAX = 2,
};

/* clang-format off */
enum admin_error {
#define ADMIN_ERROR(name, word, status, text) ADMIN_##name,
#include "core/tables/admin_errors.def"
#undef ADMIN_ERROR
	ADMIN_ERRORS
};

enum admin_argument {
#define ARGUMENT(name, kind, word, least, most, doc) ADMIN_ARG_##name,
#include "core/tables/admin_commands.def"
#undef ARGUMENT
	ADMIN_ARGS
};

enum admin_command {
#define COMMAND(name, words, takes, needs, place, kind, shape, doc) ADMIN_##name,
#define ROWS(command, name, shape, doc)
#include "core/tables/admin_commands.def"
#undef COMMAND
#undef ROWS
	ADMIN_COMMANDS
};

enum admin_word {
#define WORD(set, name, word) ADMIN_##set##_##name,
#include "core/tables/admin_words.def"
#undef WORD
	ADMIN_WORDS
};
/* clang-format on */

enum argument_kind {
	ARG_TEXT,
	ARG_ID,
	ARG_IDS,
	ARG_NUMBER,
	ARG_DURATION,
	ARG_FLAG,
	/* One of the words of a set. */
	ARG_STATE,
	ARG_BY,
	ARG_TO,
	ARG_KINDS
};

struct argument_row {
	const char *name;
	enum argument_kind kind;
	uint64_t least;
	uint64_t most; /* 0: no limit */
	const char *doc;
};

struct command_row {
	const char *words;
	uint32_t takes; /* 1 << enum admin_argument, ... */
	uint32_t needs;
	enum admin_argument place;
	bool acts;
	enum admin_shape shape;
	const char *doc;
};

struct rows_row {
	enum admin_command command;
	const char *name;
	enum admin_shape shape;
	const char *doc;
};

const struct argument_row *protocol_argument(enum admin_argument a);
const struct command_row *protocol_command(enum admin_command c);
/* The n-th list in the answer to a command; NULL behind the last. */
const struct rows_row *protocol_rows(enum admin_command c, unsigned n);
const char *protocol_error_word(enum admin_error e);
const char *protocol_error_text(enum admin_error e);
/* What ringpostctl exits with; 1 for a word that it does not know. */
int protocol_exit_status(struct span error_word);
const char *protocol_word(enum admin_word w);
/* Is this a word of the set that arguments of this kind choose from? */
bool protocol_word_is_of(enum admin_word w, enum argument_kind kind);
/* A duration, number or id as a string: false where it is none or out of range. */
bool protocol_quantity(const struct argument_row *a, struct span text, uint64_t *out);

struct admin_request {
	enum admin_command command;
	uint32_t given; /* 1 << enum admin_argument, ... */
	struct span texts[ADMIN_ARGS];
	uint64_t numbers[ADMIN_ARGS]; /* also words and milliseconds */
	struct mail_id id;
	struct mail_id ids[PROTOCOL_IDS_MAX];
	unsigned id_count;
	void *json; /* what the texts are in */
};

static inline bool
request_has(const struct admin_request *r, enum admin_argument a)
{
	return (r->given & 1u << a) != 0;
}

/* Reads a line without its end. On ADMIN_OK the request is to be given back with protocol_put();
 * else `why` says what is wrong with it. */
enum admin_error protocol_read(struct span line, struct admin_request *out, struct buf *why);
void protocol_put(struct admin_request *r);

/* The line of a refusal, with its end. */
void protocol_write_error(struct buf *out, enum admin_error e, struct span text);
/* In front of and behind the result's object. */
void protocol_write_begin(struct buf *out);
void protocol_write_end(struct buf *out);

/* The reference page, Markdown. */
bool admin_doc(struct buf *out);

#endif
