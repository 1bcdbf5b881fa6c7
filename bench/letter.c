/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/letter.h"

#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/base/assert.h"
#include "core/base/unit.h"

enum { LINE_SIZE = 78, CRLF_SIZE = 2 };

static const char head[] = "From: Load Source <source@bench.test>\r\n"
			   "To: Load Sink <sink@bench.test>\r\n"
			   "Subject: a mail of a load test\r\n"
			   "Date: Thu, 01 Jan 2026 00:00:00 +0000\r\n"
			   "Message-ID: <load@bench.test>\r\n"
			   "MIME-Version: 1.0\r\n"
			   "Content-Type: text/plain; charset=us-ascii\r\n"
			   "\r\n";

/* Sizes from `least` to `most`, with a share of `weight`; or one file. */
struct shape {
	uint64_t least;
	uint64_t most;
	uint64_t weight;
	struct letter letter; /* of the size `most` */
};

struct letters {
	size_t field_size;
	struct shape *shapes;
	size_t count;
	uint64_t weight; /* of all */
	uint8_t *text;   /* that all sizes are cut from; NULL: files */
};

/* ---- sizes ---- */

/* Lines of printable text that no compressor makes nothing of, and no dot at a line's start. */
static void
write_text(uint8_t *text, size_t size, uint64_t seed)
{
	static const char alphabet[] =
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+/";
	uint64_t random = seed | 1;

	memcpy(text, head, sizeof head - 1);
	for (size_t i = sizeof head - 1; i < size; i++) {
		size_t column = (i - (sizeof head - 1)) % LINE_SIZE;
		if (column >= LINE_SIZE - CRLF_SIZE)
			text[i] = column == LINE_SIZE - CRLF_SIZE ? '\r' : '\n';
		else
			text[i] = (uint8_t)alphabet[letter_random(&random) % 64];
	}
}

static bool
parse_size(struct span text, uint64_t *out)
{
	return size_parse(text, out) && *out >= LETTER_SIZE_MIN && *out <= LETTER_SIZE_MAX;
}

/* "1KiB..10KiB:70" */
static bool
parse_shape(struct span text, struct shape *out)
{
	size_t colon = span_find(text, ':', 0);
	struct span range = span_first(text, colon);
	size_t dots = span_find(range, '.', 0);

	*out = (struct shape){ .weight = 1 };
	if (colon < text.size && (!span_to_u64(span_after(text, colon + 1), &out->weight) ||
				  out->weight == 0 || out->weight > UINT32_MAX))
		return false;
	if (!parse_size(span_first(range, dots), &out->least))
		return false;
	out->most = out->least;
	if (dots == range.size)
		return true;
	return span_starts_with(span_after(range, dots), SPAN("..")) &&
	       parse_size(span_after(range, dots + 2), &out->most) && out->most >= out->least;
}

static bool
parse_shapes(struct letters *l, struct span sizes)
{
	while (sizes.size > 0) {
		size_t comma = span_find(sizes, ',', 0);
		if (l->count == LETTER_SHAPES_MAX ||
		    !parse_shape(span_first(sizes, comma), &l->shapes[l->count]))
			return false;
		l->weight += l->shapes[l->count].weight;
		l->count++;
		if (comma + 1 == sizes.size)
			return false; /* nothing behind it */
		sizes = span_after(sizes, comma + 1);
	}
	return l->count > 0;
}

static struct letters *
fail(struct letters *l, struct buf *why, const char *text)
{
	buf_append_string(why, text);
	letters_free(l);
	return NULL;
}

static struct letters *
letters_new(size_t field_size, size_t shapes_max)
{
	struct letters *l = calloc(1, sizeof *l);

	if (l == NULL)
		return NULL;
	l->field_size = field_size;
	l->shapes = calloc(shapes_max, sizeof *l->shapes);
	if (l->shapes != NULL)
		return l;
	letters_free(l);
	return NULL;
}

struct letters *
letters_of_sizes(struct span sizes, size_t field_size, uint64_t seed, struct buf *why)
{
	struct letters *l = letters_new(field_size, LETTER_SHAPES_MAX);
	uint64_t most = 0;

	ASSERT(field_size + sizeof head + CRLF_SIZE < LETTER_SIZE_MIN);
	if (l == NULL)
		return fail(l, why, "no memory for the mails");
	if (!parse_shapes(l, sizes)) {
		buf_printf(why,
			   "--size '%.*s' is not understood; write 10KiB, 1KiB..1MiB or "
			   "1KiB:70,10KiB..1MiB:30, each from 512B to 1GiB",
			   SPAN_ARG(span_first(sizes, 100)));
		letters_free(l);
		return NULL;
	}
	for (size_t i = 0; i < l->count; i++)
		most = l->shapes[i].most > most ? l->shapes[i].most : most;
	ASSERT(most >= LETTER_SIZE_MIN); /* so that the head fits */
	l->text = malloc(most);
	if (l->text == NULL)
		return fail(l, why, "no memory for the mails");
	write_text(l->text, most, seed);
	return l;
}

static struct letter
cut(const struct letters *l, uint64_t size)
{
	size_t rest = size - l->field_size - CRLF_SIZE;

	rest -= l->text[rest - 1] == '\r'; /* one byte less rather than a bare CR */
	struct span text = span_of(l->text, rest);
	return (struct letter){ text, text, l->field_size + rest + CRLF_SIZE };
}

struct letter
letters_pick(const struct letters *l, uint64_t *random)
{
	size_t i = 0;

	if (l->count > 1) {
		uint64_t at = letter_random(random) % l->weight;
		while (at >= l->shapes[i].weight)
			at -= l->shapes[i++].weight;
	}
	const struct shape *s = &l->shapes[i];
	if (l->text == NULL)
		return s->letter;
	uint64_t range = s->most - s->least + 1;
	return cut(l, s->least + (range == 1 ? 0 : letter_random(random) % range));
}

/* ---- files ---- */

static uint8_t *
read_file(const char *path, size_t size)
{
	FILE *f = fopen(path, "re");
	uint8_t *data = f == NULL ? NULL : malloc(size + 1);

	if (data != NULL && fread(data, 1, size, f) != size) {
		free(data);
		data = NULL;
	}
	if (f != NULL)
		fclose(f);
	return data;
}

/* Line ends become CRLF, all but the last, which is left out; `stuff` doubles dots. */
static struct span
copy_lines(struct span in, bool stuff)
{
	uint8_t *out = malloc(3 * in.size + 1);
	size_t n = 0;

	if (out == NULL)
		return span_none();
	for (bool first = true; in.size > 0; first = false) {
		size_t end = span_find(in, '\n', 0);
		struct span line = span_first(in, end);
		if (line.size > 0 && line.data[line.size - 1] == '\r')
			line.size--;
		if (!first) {
			out[n++] = '\r';
			out[n++] = '\n';
		}
		if (stuff && line.size > 0 && line.data[0] == '.')
			out[n++] = '.';
		if (line.size > 0)
			memcpy(out + n, line.data, line.size);
		n += line.size;
		in = span_after(in, end + 1);
	}
	return span_of(out, n);
}

static bool
add_file(struct letters *l, const char *path)
{
	struct stat about;

	if (stat(path, &about) != 0)
		return false;
	if (S_ISDIR(about.st_mode))
		return true;
	size_t size = (size_t)about.st_size;
	if (!S_ISREG(about.st_mode) || size > LETTER_SIZE_MAX)
		return false;
	uint8_t *data = read_file(path, size);
	if (data == NULL)
		return false;
	struct letter letter = { .plain = copy_lines(span_of(data, size), false),
				 .stuffed = copy_lines(span_of(data, size), true) };
	free(data);
	letter.size = l->field_size + letter.plain.size + CRLF_SIZE;
	l->shapes[l->count++] = (struct shape){ .weight = 1, .letter = letter };
	l->weight++;
	return letter.plain.data != NULL && letter.stuffed.data != NULL;
}

static int
no_hidden(const struct dirent *entry)
{
	return entry->d_name[0] != '.';
}

struct letters *
letters_of_folder(const char *folder, size_t field_size, struct buf *why)
{
	struct dirent **entries = NULL;
	int n = scandir(folder, &entries, no_hidden, alphasort);
	int error = errno;
	struct letters *l = letters_new(field_size, n > 0 ? (size_t)n : 1);
	bool good = n > 0 && l != NULL;

	if (n < 0)
		buf_printf(why, "--corpus %s: %s", folder, strerror(error));
	else if (l == NULL)
		buf_append_string(why, "no memory for the mails");
	for (int i = 0; i < n; i++) {
		char path[4096];
		int size = snprintf(path, sizeof path, "%s/%s", folder, entries[i]->d_name);
		if (good && (size < 0 || (size_t)size >= sizeof path || !add_file(l, path))) {
			buf_printf(why, "--corpus: %s cannot be read as a message", path);
			good = false;
		}
		free(entries[i]);
	}
	free(entries);
	if (n == 0 || (good && l->count == 0)) {
		buf_printf(why, "--corpus %s: no file in it; put messages there", folder);
		good = false;
	}
	if (good)
		return l;
	letters_free(l);
	return NULL;
}

void
letters_free(struct letters *l)
{
	if (l == NULL)
		return;
	for (size_t i = 0; l->text == NULL && i < l->count; i++) {
		free((void *)(uintptr_t)l->shapes[i].letter.plain.data);
		free((void *)(uintptr_t)l->shapes[i].letter.stuffed.data);
	}
	free(l->text);
	free(l->shapes);
	free(l);
}

/* ---- domains ---- */

struct domains {
	struct span name;
	uint32_t count;
	double *up_to; /* sum of the weights up to each; NULL: all alike */
};

struct domains *
domains_new(struct span name, uint32_t count, double zipf)
{
	struct domains *d = calloc(1, sizeof *d);
	double sum = 0;

	ASSERT(count > 0 && count <= DOMAINS_MAX);
	if (d == NULL)
		return NULL;
	*d = (struct domains){ .name = name, .count = count };
	if (zipf == 0)
		return d;
	d->up_to = malloc(count * sizeof *d->up_to);
	if (d->up_to == NULL) {
		free(d);
		return NULL;
	}
	for (uint32_t i = 0; i < count; i++)
		d->up_to[i] = sum += 1 / pow(i + 1, zipf);
	return d;
}

void
domains_free(struct domains *d)
{
	if (d != NULL)
		free(d->up_to);
	free(d);
}

uint32_t
domains_pick(const struct domains *d, uint64_t *random)
{
	if (d->up_to == NULL)
		return d->count == 1 ? 0 : (uint32_t)(letter_random(random) % d->count);
	double at = (double)(letter_random(random) >> 11) * 0x1p-53 * d->up_to[d->count - 1];
	uint32_t low = 0, high = d->count - 1;
	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		if (d->up_to[middle] > at)
			high = middle;
		else
			low = middle + 1;
	}
	return low;
}

bool
domains_show(const struct domains *d, uint32_t domain, struct buf *out)
{
	if (d->count > 1)
		buf_printf(out, "d%u.", domain);
	return buf_append(out, d->name);
}
