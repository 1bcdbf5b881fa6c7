/* SPDX-License-Identifier: Apache-2.0
 *
 * record: what the spool writes, as bytes: records, the frame of a batch, the head of a segment.
 * Pure: no I/O, no allocation. All numbers are little-endian. Nothing that is read is trusted: a
 * parse either proves every length and the checksum or says false.
 *
 * A segment is: two copies of its head (4096 bytes each), then batches, each padded to 4096. A
 * batch is a frame and records; what is durable at once or not at all is one record. A record is
 * meta (header and fields; checksums by block of a body in a file), then body bytes, padded to 8.
 * Its checksum covers the meta, the body's own is in the meta; both depend on the epoch of the
 * segment's present use and on the record's place, so nothing left over from a former use can be
 * taken for a record.
 *
 * An INDEX record has as its body the metas of the records before it (up to the former INDEX),
 * and in its meta places and sizes of all former INDEX records: whoever reads the last one knows
 * where all are, reads each in one piece, and needs no bodies. (The first spools noted no sizes.)
 *
 * Records may be met again (copied forward), in any order but for one thing: a mail's PUT lies in
 * a segment with a lower or the same sequence as what refers to it. So each carries what it needs
 * to be merged: a final state beats a pending one, more attempts beat fewer, a higher hold revision
 * beats a lower one, a start counts as closed up to a number, the PUT with the highest sequence is
 * where the mail is. put_sequence: the segment of the PUT that it was written for. An outcome whose
 * notice is a mail of its own and the PUT of that mail lie in one batch, which counts whole or not.
 */
#ifndef QUEUE_SPOOL_RECORD_H
#define QUEUE_SPOOL_RECORD_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/buf.h"
#include "core/base/span.h"
#include "queue/mail.h"

enum {
	RECORD_VERSION = 2, /* 1 is read as well, see record_next_recipient */
	SPOOL_BLOCK = 4096,
	RECORD_HEADER_SIZE = 32,
	FRAME_SIZE = 64,
	SEGMENT_HEAD_SIZE = 128, /* of each 4096: less than a sector, so that it is never torn */
	SEGMENT_FIRST = 2 * SPOOL_BLOCK, /* the first batch */
	RECORD_META_MOST = 896 * 1024,
	RECORD_REPLY_MOST = 512,
	RECORD_INDEX_PLACES_MOST = 4096,
};

enum record_type {
	RECORD_PUT = 1, /* a mail, new or copied forward with its present state */
	RECORD_OUTCOME, /* of one attempt, by recipient */
	RECORD_GONE,  /* the mail is void as far as put_sequence goes: cancelled, removed, moved */
	RECORD_HOLD,  /* held or let go */
	RECORD_START, /* an attempt begins (invariant 9) */
	RECORD_CLOSE, /* it was given up in an orderly way */
	RECORD_INDEX,
	RECORD_TYPES
};

enum record_gone { GONE_CANCELLED = 1, GONE_REMOVED, GONE_MOVED };
enum record_body { BODY_INLINE, BODY_FILE };

/* What the store knows of a recipient beyond mail.h. */
struct record_starts {
	uint16_t starts; /* attempts ever begun under watch */
	uint16_t closed; /* of these, up to this number have ended */
	bool alone;      /* the last one was alone on its worker */
};

/* A PUT to be written. */
struct record_put {
	const struct mail_envelope *envelope;
	const struct record_starts *starts; /* by recipient; NULL: none */
	uint64_t previous_sequence;         /* of the PUT that this replaces; 0: none */
	uint16_t hold_revision;             /* odd: held */
	uint8_t body_kind;                  /* enum record_body */
	uint32_t body_crc;
	uint64_t body_size;
	struct span block_crcs; /* of a body in a file, 4 bytes for each block of it */
};

/* One line of OUTCOME, START or CLOSE. */
struct record_line {
	uint32_t recipient;
	uint8_t state;
	bool alone;
	bool notified; /* of OUTCOME: once true, always true */
	uint16_t attempts;
	uint16_t number; /* starts (START) or closed up to (OUTCOME, CLOSE) */
	uint64_t retry_at_ms;
	struct span reply;
};

struct record_change {
	uint8_t type; /* OUTCOME, START, CLOSE, HOLD, GONE */
	struct mail_id id;
	uint64_t put_sequence;
	uint8_t gone;           /* enum record_gone, of GONE */
	uint16_t hold_revision; /* of HOLD */
	struct span who;        /* of HOLD, GONE */
	struct span why;
	uint32_t line_count;
	const struct record_line *lines;
};

/* Of an INDEX: where it lies in its segment and what it takes there; 0: not known. */
struct record_place {
	uint32_t at;
	uint32_t size;
};

/* What was read. Spans point into the input. */
struct record {
	uint8_t type;
	uint8_t version; /* that it was written with */
	uint32_t meta_size;
	uint64_t body_size; /* bytes behind the meta in the log */
	uint32_t body_crc;
	uint64_t place;
	struct span meta; /* all of it, header too */
	struct span body; /* empty where only metas were read */
	struct mail_id id;
	uint64_t put_sequence; /* previous_sequence of a PUT */
	/* PUT */
	uint64_t accepted_at_ms;
	uint64_t mail_size; /* of the body, wherever it is */
	uint32_t flags;
	uint8_t ret;
	uint8_t body_kind;
	uint16_t hold_revision; /* HOLD too */
	struct span sender;
	struct span envid;
	struct span client;
	struct span block_crcs;
	/* GONE, HOLD */
	uint8_t gone;
	struct span who;
	struct span why;
	/* Recipients of a PUT, lines of others, places of an INDEX: to be walked. */
	bool places_have_sizes;
	uint32_t count;
	struct span rest;
};

/* Bytes in the log: meta and body, padded to 8. */
static inline uint64_t
record_size(uint64_t meta_size, uint64_t body_size)
{
	return (meta_size + body_size + 7) / 8 * 8;
}

/* Bytes of the meta that the encoder will write. */
uint64_t record_put_size(const struct record_put *p);
uint64_t record_change_size(const struct record_change *c);
static inline uint64_t
record_index_size(uint32_t place_count)
{
	return RECORD_HEADER_SIZE + 8 + 8 * (uint64_t)place_count;
}

/* Append a meta at the end of `out`, where there must be room. For an inline PUT the caller
 * appends the body; both pad. */
void record_write_put(struct buf *out, const struct record_put *p, uint64_t epoch, uint64_t place);
void record_write_change(struct buf *out, const struct record_change *c, uint64_t epoch,
			 uint64_t place);
void record_write_index(struct buf *out, const struct record_place *places, uint32_t place_count,
			struct span metas, uint64_t epoch, uint64_t place);
/* Writes the meta of another record anew, for its new place, in the version that it has. No PUT or
 * INDEX. */
void record_write_again(struct buf *out, struct span meta, uint64_t epoch, uint64_t place);
void record_pad(struct buf *out);

/* Bytes with body and padding of the record at the start of `in`, which we have just written. */
uint64_t record_written(struct span in, uint32_t *meta_size);
/* The record at the start of `in`. with_body: bodies follow their metas (a log), else metas only
 * (an index). False: nothing that we wrote for this epoch, or cut. Does not check the body. */
bool record_parse(struct span in, uint64_t epoch, bool with_body, struct record *out);
/* Is the body what was written? */
bool record_body_is_good(const struct record *r, struct span body);
/* Walks record.rest, `count` times; never fails on what record_parse accepted. Version 1 kept
 * failed recipients for a bounce to come: they are read as pending and due at once, so that whoever
 * tries them again bounces them. */
void record_next_recipient(struct span *rest, uint8_t version, struct mail_recipient *out,
			   struct record_starts *starts);
void record_next_line(struct span *rest, uint8_t version, struct record_line *out);
struct record_place record_next_place(struct span *rest, bool has_size);
/* Is `data`, what lies at block `number` of the file (padded with zeros), what was written? */
bool record_block_is_good(struct span block_crcs, uint64_t number, const uint8_t *data);
/* A block's entry in block_crcs. */
void record_block_crc(uint8_t entry[4], const uint8_t *data);

/* The frame of a batch. */
struct frame {
	uint64_t epoch;
	uint64_t lsn;   /* number of the batch in its log, from 1 */
	uint64_t acked; /* all batches up to this one had been acknowledged */
	uint64_t place; /* where in the segment */
	uint32_t size;  /* bytes with frame, without padding */
	uint32_t count; /* records */
};
void frame_write(uint8_t *at, const struct frame *f);
bool frame_parse(struct span in, uint64_t epoch, uint64_t place, struct frame *out);

enum segment_use { SEGMENT_IS_FREE = 1, SEGMENT_IS_OPEN, SEGMENT_IS_SEALED };

struct segment_head {
	uint32_t use; /* enum segment_use */
	uint64_t sequence;
	uint64_t epoch;
	uint64_t log;       /* the log (a worker's, of one run) that it is a part of */
	uint64_t first_lsn; /* of its first batch; what came before with this number is void */
	uint64_t size;      /* of the file */
	/* Where sealed: */
	uint64_t end_lsn;    /* of the last batch, plus 1 */
	uint64_t tail;       /* where the next batch would have been */
	uint64_t last_index; /* place of the last INDEX */
	uint64_t puts;
};
/* Fills both copies: SEGMENT_FIRST bytes. */
void segment_head_write(uint8_t *at, const struct segment_head *h);
/* From both copies; one suffices. */
bool segment_head_parse(struct span in, struct segment_head *out);

#endif
