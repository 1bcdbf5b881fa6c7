/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/scan.h"

enum {
	BLOCK = 64,
	END_SIZE = 5,
	NAME_SIZE = sizeof TRACK_FIELD - sizeof ": ",
	FIELD_SIZE = sizeof TRACK_FIELD - 1
};

static const uint8_t end_of_data[END_SIZE] = { '\r', '\n', '.', '\r', '\n' };

void
scan_init(struct scan *s)
{
	/* DATA begins at the start of a line: a dot that comes first ends an empty mail. */
	*s = (struct scan){ .ending = 2, .place = SCAN_NAME };
}

/* ---- end of data ---- */

static uint8_t
ending_behind(uint8_t ending, uint8_t c)
{
	if (c == end_of_data[ending])
		return (uint8_t)(ending + 1);
	return c == '\r';
}

/* Is there a dot behind a line feed in these bytes? Without branches, so that the compiler makes
 * vector code of it. Reads block[-1]. */
static bool
block_has_dot(const uint8_t *block)
{
	uint8_t found = 0;

	for (size_t i = 0; i < BLOCK; i++)
		found |= (uint8_t)((block[i] == '.') & ((block - 1)[i] == '\n'));
	return found != 0;
}

/* The first dot behind a line feed, at `from` (which is not 0) or later; in.size: none. */
static size_t
find_dot(struct span in, size_t from)
{
	size_t i = from;

	while (in.size - i >= BLOCK && !block_has_dot(in.data + i))
		i += BLOCK;
	while ((i = span_find(in, '.', i)) < in.size && in.data[i - 1] != '\n')
		i++;
	return i;
}

size_t
scan_end(struct scan *s, struct span in, bool *ended)
{
	size_t from = 0;

	*ended = false;
	while (s->ending > 0 && from < in.size) {
		s->ending = ending_behind(s->ending, in.data[from++]);
		if (s->ending == END_SIZE) {
			*ended = true;
			return from;
		}
	}
	/* Nothing in front of `from` is a part of the end any more, so all of it lies behind. */
	for (size_t dot = from; from + 2 < in.size; dot++) {
		dot = find_dot(in, dot > from + 2 ? dot : from + 2);
		if (in.size - dot < 3)
			break;
		if (memcmp(in.data + dot - 2, end_of_data, END_SIZE) == 0) {
			*ended = true;
			return dot + 3;
		}
	}
	/* What may be its beginning is no longer than four bytes. */
	if (in.size - from >= END_SIZE)
		from = in.size - (END_SIZE - 1);
	while (from < in.size)
		s->ending = ending_behind(s->ending, in.data[from++]);
	return in.size;
}

/* ---- id ---- */

/* Looks at one byte; false where it is to be looked at again in the new place. */
static bool
look(struct scan *s, uint8_t c)
{
	bool white = c == ' ' || c == '\t';

	switch (s->place) {
	case SCAN_NAME:
		if (s->matched == 0 && (c == '\r' || c == '\n')) {
			s->place = SCAN_DONE; /* the empty line */
			return true;
		}
		if (s->matched < NAME_SIZE &&
		    ascii_lower(c) == ascii_lower((uint8_t)TRACK_FIELD[s->matched]))
			s->matched++;
		else if (s->matched == NAME_SIZE && c == ':')
			s->place = SCAN_LEAD;
		else if (s->matched < NAME_SIZE || !white) { /* old mail has space there */
			s->place = SCAN_SKIP;
			return false;
		}
		return true;
	case SCAN_SKIP:
		if (c == '\n') {
			s->place = SCAN_NAME;
			s->matched = 0;
		}
		return true;
	case SCAN_LEAD_LF:
		s->place = white ? SCAN_LEAD : SCAN_NAME;
		s->matched = 0;
		return white;
	case SCAN_LEAD:
		if (c == '\n')
			s->place = SCAN_LEAD_LF;
		else if (!white && c != '\r')
			s->place = SCAN_VALUE;
		return s->place != SCAN_VALUE;
	default: /* VALUE */
		if (white || c == '\r' || c == '\n' || s->id_size == sizeof s->id)
			s->place = SCAN_DONE;
		else
			s->id[s->id_size++] = c;
		return true;
	}
}

/* The field as the source writes it, whole: byte by byte it would be the longest part of the work
 * on a small mail. */
static bool
take_whole(struct scan *s, struct span in)
{
	const uint8_t *id = in.data + FIELD_SIZE;

	if (in.size <= FIELD_SIZE + TRACK_ID_SIZE || memcmp(in.data, TRACK_FIELD, FIELD_SIZE) != 0)
		return false;
	for (unsigned i = 0; i < TRACK_ID_SIZE; i++)
		if (id[i] <= ' ')
			return false;
	if (id[TRACK_ID_SIZE] != '\r')
		return false;
	memcpy(s->id, id, TRACK_ID_SIZE);
	s->id_size = TRACK_ID_SIZE;
	s->place = SCAN_DONE;
	return true;
}

void
scan_header(struct scan *s, struct span in)
{
	size_t i = 0;

	while (i < in.size && s->place != SCAN_DONE) {
		if (s->place == SCAN_NAME && s->matched == 0 && take_whole(s, span_after(in, i)))
			return;
		if (s->place == SCAN_SKIP)
			i = span_find(in, '\n', i);
		if (i < in.size && look(s, in.data[i]))
			i++;
	}
}
