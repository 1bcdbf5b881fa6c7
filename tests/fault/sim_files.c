/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/fault/sim_files.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/assert.h"
#include "core/base/list.h"
#include "tests/fault/sim.h"

enum { SECTORS = SIM_PAGE / SIM_SECTOR };

/* NULL contents are zeros. While a page is clean and not lost, both faces share one memory. */
struct page {
	uint8_t *seen;
	uint8_t *platter;
	uint8_t dirty; /* a bit a sector: the next sync writes it */
	bool reserved; /* takes room */
};

struct sim_file {
	struct sim_files *all;
	uint32_t number;
	bool is_directory;
	bool locked;
	unsigned opened;
	uint64_t size;
	uint64_t platter_size;
	struct page *pages;
	size_t page_count;  /* in use, from the first */
	size_t page_places; /* allocated */
	struct list_node node;
	/* Of a directory: struct name, as seen and on the platter. */
	struct list seen;
	struct list platter;
};

struct name {
	struct list_node node;
	struct sim_file *file;
	char text[SIM_NAME_MAX];
};

struct place {
	struct sim_file *directory; /* NULL: none */
	char text[SIM_NAME_MAX];
};

/* A change of names that is seen but not on the platter: `to` becomes `file`, `from` goes. */
struct change {
	struct list_node node;
	struct place from;
	struct place to;
	struct sim_file *file;
	bool chosen;
};

struct sim_files {
	uint64_t capacity; /* pages */
	uint64_t used;
	uint32_t count;
	struct list files;
	struct list changes; /* oldest first */
	struct sim_file *root;
};

static struct sim_file *
file_new(struct sim_files *all, bool is_directory)
{
	struct sim_file *f = sim_allocate(sizeof *f);

	f->all = all;
	f->number = ++all->count;
	f->is_directory = is_directory;
	list_init(&f->seen);
	list_init(&f->platter);
	list_append(&all->files, &f->node);
	return f;
}

struct sim_files *
sim_files_new(uint64_t pages)
{
	struct sim_files *all = sim_allocate(sizeof *all);

	all->capacity = pages;
	list_init(&all->files);
	list_init(&all->changes);
	all->root = file_new(all, true);
	return all;
}

uint64_t
sim_files_free_pages(const struct sim_files *all)
{
	return all->used < all->capacity ? all->capacity - all->used : 0;
}

uint64_t
sim_files_pages(const struct sim_files *all)
{
	return all->capacity;
}

void
sim_files_set_capacity(struct sim_files *all, uint64_t pages)
{
	all->capacity = pages;
}

struct sim_file *
sim_files_root(struct sim_files *all)
{
	return all->root;
}

bool
sim_file_is_directory(const struct sim_file *f)
{
	return f->is_directory;
}

uint32_t
sim_file_number(const struct sim_file *f)
{
	return f->number;
}

uint64_t
sim_file_size(const struct sim_file *f)
{
	return f->size;
}

/* ---- pages ---- */

static void
page_drop(struct page *p)
{
	if (p->platter != p->seen)
		sim_release(p->platter, SIM_PAGE);
	sim_release(p->seen, SIM_PAGE);
}

static void
pages_cut(struct sim_file *f, size_t count)
{
	while (f->page_count > count) {
		struct page *p = &f->pages[--f->page_count];
		page_drop(p);
		f->all->used -= p->reserved;
		*p = (struct page){ 0 };
	}
}

static void
pages_extend(struct sim_file *f, size_t count)
{
	if (count > f->page_places) {
		size_t places = f->page_places == 0 ? 16 : f->page_places;
		while (places < count)
			places *= 2;
		struct page *pages = sim_allocate(places * sizeof *pages);
		if (f->page_count > 0)
			memcpy(pages, f->pages, f->page_count * sizeof *pages);
		sim_release(f->pages, f->page_places * sizeof *pages);
		f->pages = pages;
		f->page_places = places;
	}
	if (count > f->page_count)
		f->page_count = count;
}

/* Room for page `index`; false where the disk is full. */
static bool
page_reserve(struct sim_file *f, size_t index)
{
	pages_extend(f, index + 1);
	if (f->pages[index].reserved)
		return true;
	if (sim_files_free_pages(f->all) == 0)
		return false;
	f->pages[index].reserved = true;
	f->all->used++;
	return true;
}

/* Memory of its own for the seen face. */
static uint8_t *
page_own_seen(struct page *p)
{
	if (p->seen == NULL || p->seen == p->platter) {
		uint8_t *fresh = sim_allocate(SIM_PAGE);
		if (p->seen != NULL)
			memcpy(fresh, p->seen, SIM_PAGE);
		p->seen = fresh;
	}
	return p->seen;
}

static uint8_t *
page_own_platter(struct page *p)
{
	if (p->platter == NULL || p->seen == p->platter) {
		uint8_t *fresh = sim_allocate(SIM_PAGE);
		if (p->platter != NULL)
			memcpy(fresh, p->platter, SIM_PAGE);
		p->platter = fresh;
	}
	return p->platter;
}

/* Copies a sector down, without cleaning it. */
static void
sector_down(struct page *p, unsigned sector)
{
	if (p->seen == p->platter)
		return;
	uint8_t *platter = page_own_platter(p) + sector * SIM_SECTOR;
	if (p->seen == NULL)
		memset(platter, 0, SIM_SECTOR);
	else
		memcpy(platter, p->seen + sector * SIM_SECTOR, SIM_SECTOR);
}

/* Makes the sectors of `mask` durable. */
static void
page_down(struct page *p, uint8_t mask)
{
	if (mask == 0xff && p->seen != p->platter) {
		sim_release(p->platter, SIM_PAGE);
		p->platter = p->seen;
	} else {
		for (unsigned s = 0; s < SECTORS; s++)
			if (mask & (1u << s))
				sector_down(p, s);
	}
	p->dirty &= (uint8_t)~mask;
}

/* The sectors of page `index` that the range touches. */
static uint8_t
range_mask(size_t index, uint64_t offset, uint64_t end)
{
	uint64_t start = (uint64_t)index * SIM_PAGE;
	uint8_t mask = 0;

	for (unsigned s = 0; s < SECTORS; s++) {
		uint64_t at = start + s * SIM_SECTOR;
		if (at < end && at + SIM_SECTOR > offset)
			mask |= (uint8_t)(1u << s);
	}
	return mask;
}

static bool
is_zero(const uint8_t *data, size_t size)
{
	return size == 0 || (data[0] == 0 && memcmp(data, data + 1, size - 1) == 0);
}

/* ---- contents ---- */

size_t
sim_file_read(const struct sim_file *f, void *out, size_t size, uint64_t offset)
{
	if (offset >= f->size)
		return 0;
	if (size > f->size - offset)
		size = f->size - offset;
	for (size_t done = 0; done < size;) {
		size_t index = (offset + done) / SIM_PAGE;
		size_t within = (offset + done) % SIM_PAGE;
		size_t n = SIM_PAGE - within < size - done ? SIM_PAGE - within : size - done;
		const uint8_t *seen = index < f->page_count ? f->pages[index].seen : NULL;
		if (seen == NULL)
			memset((uint8_t *)out + done, 0, n);
		else
			memcpy((uint8_t *)out + done, seen + within, n);
		done += n;
	}
	return size;
}

/* Writes within one page. */
static void
page_write(struct sim_file *f, size_t index, const uint8_t *data, size_t within, size_t n)
{
	struct page *p = &f->pages[index];
	uint64_t start = (uint64_t)index * SIM_PAGE + within;
	uint8_t mask = range_mask(index, start, start + n);

	for (unsigned s = 0; s < SECTORS; s++)
		if ((p->dirty & mask & (1u << s)) && sim_chance(world->faults.destage))
			sector_down(p, s);
	if (n == SIM_PAGE && is_zero(data, n)) {
		if (p->seen != p->platter)
			sim_release(p->seen, SIM_PAGE);
		p->seen = NULL;
	} else {
		memcpy(page_own_seen(p) + within, data, n);
	}
	p->dirty |= mask;
}

size_t
sim_file_write(struct sim_file *f, const void *data, size_t size, uint64_t offset)
{
	size_t done = 0;

	while (done < size) {
		size_t index = (offset + done) / SIM_PAGE;
		size_t within = (offset + done) % SIM_PAGE;
		size_t n = SIM_PAGE - within < size - done ? SIM_PAGE - within : size - done;
		if (!page_reserve(f, index))
			break;
		page_write(f, index, (const uint8_t *)data + done, within, n);
		done += n;
	}
	if (done > 0 && offset + done > f->size)
		f->size = offset + done;
	return done;
}

void
sim_file_write_torn(struct sim_file *f, const void *data, size_t size, uint64_t offset)
{
	unsigned survive = (unsigned)sim_below(1001); /* of 1000 sectors */
	size_t done = 0;

	/* A third of the time all, a third none, a third any subset. */
	switch (sim_below(3)) {
	case 0:
		survive = 1000;
		break;
	case 1:
		survive = 0;
		break;
	default:
		break;
	}
	while (done < size) {
		uint64_t at = offset + done;
		size_t n = SIM_SECTOR - at % SIM_SECTOR;
		if (n > size - done)
			n = size - done;
		if (sim_chance(survive) &&
		    sim_file_write(f, (const uint8_t *)data + done, n, at) < n)
			return;
		done += n;
	}
}

bool
sim_file_allocate(struct sim_file *f, uint64_t offset, uint64_t size)
{
	for (uint64_t at = offset / SIM_PAGE * SIM_PAGE; at < offset + size; at += SIM_PAGE)
		if (!page_reserve(f, at / SIM_PAGE))
			return false;
	if (offset + size > f->size)
		f->size = offset + size;
	return true;
}

void
sim_file_truncate(struct sim_file *f, uint64_t size)
{
	/* Durable at once: the model has no use for a truncation that a crash takes back. */
	pages_cut(f, (size + SIM_PAGE - 1) / SIM_PAGE);
	f->size = size;
	if (f->platter_size > size)
		f->platter_size = size;
}

void
sim_file_sync_range(struct sim_file *f, uint64_t offset, uint64_t size)
{
	uint64_t end = offset + size;

	for (size_t i = offset / SIM_PAGE; i < f->page_count && (uint64_t)i * SIM_PAGE < end; i++)
		page_down(&f->pages[i], f->pages[i].dirty & range_mask(i, offset, end));
	if (end > f->size)
		end = f->size;
	if (end > f->platter_size)
		f->platter_size = end;
}

void
sim_file_sync(struct sim_file *f)
{
	for (size_t i = 0; i < f->page_count; i++)
		page_down(&f->pages[i], f->pages[i].dirty);
	f->platter_size = f->size;
}

void
sim_file_sync_failed(struct sim_file *f)
{
	for (size_t i = 0; i < f->page_count; i++) {
		uint8_t lucky = f->pages[i].dirty & (uint8_t)sim_random();
		page_down(&f->pages[i], lucky);
		f->pages[i].dirty = 0;
	}
}

void
sim_file_flip(struct sim_file *f, uint64_t offset, uint8_t bits)
{
	ASSERT(offset < f->size);
	struct page *p = &f->pages[offset / SIM_PAGE];
	bool shared = p->seen == p->platter;
	page_own_seen(p)[offset % SIM_PAGE] ^= bits;
	if (shared) {
		sim_release(p->platter, SIM_PAGE);
		p->platter = p->seen;
	}
}

bool
sim_files_damage(struct sim_files *all)
{
	struct sim_file *file = NULL;
	uint64_t seen = 0;
	size_t index = 0;

	for (struct list_node *n = list_first(&all->files); n != NULL;
	     n = list_next(&all->files, n)) {
		struct sim_file *f = LIST_ITEM(n, struct sim_file, node);
		for (size_t i = 0; i < f->page_count; i++)
			if (f->pages[i].seen != NULL && sim_below(++seen) == 0) {
				file = f;
				index = i;
			}
	}
	if (file == NULL)
		return false;
	uint64_t offset = index * SIM_PAGE + sim_below(SIM_PAGE);
	if (offset >= file->size)
		return false;
	sim_note("damage", file->number, offset);
	sim_file_flip(file, offset, (uint8_t)(1u << sim_below(8)));
	return true;
}

/* What survives of a file that lost power. Dirty sectors are decided in runs, since a device
 * writes what is adjacent together, mostly. */
static void
file_crash(struct sim_file *f)
{
	unsigned survive = 0;
	unsigned left = 0;

	if (f->size != f->platter_size && sim_chance(500))
		f->platter_size = f->size;
	pages_cut(f, (f->platter_size + SIM_PAGE - 1) / SIM_PAGE);
	for (size_t i = 0; i < f->page_count; i++) {
		struct page *p = &f->pages[i];
		for (unsigned s = 0; s < SECTORS && p->dirty != 0; s++) {
			if (!(p->dirty & (1u << s)))
				continue;
			if (left-- == 0) {
				static const unsigned odds[] = { 0, 0, 500, 1000, 1000 };
				survive = odds[sim_below(5)];
				left = (unsigned)sim_below(64);
			}
			if (sim_chance(survive))
				sector_down(p, s);
		}
		p->dirty = 0;
		if (p->seen != p->platter) {
			sim_release(p->seen, SIM_PAGE);
			p->seen = p->platter;
		}
	}
	f->size = f->platter_size;
	f->opened = 0;
	f->locked = false;
}

/* ---- names ---- */

static struct name *
find(struct list *names, const char *text)
{
	for (struct list_node *n = list_first(names); n != NULL; n = list_next(names, n)) {
		struct name *name = LIST_ITEM(n, struct name, node);
		if (strcmp(name->text, text) == 0)
			return name;
	}
	return NULL;
}

static void
set(struct list *names, const char *text, struct sim_file *file)
{
	struct name *name = find(names, text);

	if (name == NULL) {
		name = sim_allocate(sizeof *name);
		memcpy(name->text, text, strlen(text) + 1);
		list_append(names, &name->node);
	}
	name->file = file;
}

static void
unset(struct list *names, const char *text)
{
	struct name *name = find(names, text);

	if (name == NULL)
		return;
	list_unlink(&name->node);
	sim_release(name, sizeof *name);
}

static struct place
place_of(struct sim_file *directory, const char *text)
{
	struct place p = { .directory = directory };

	ASSERT(strlen(text) < sizeof p.text);
	memcpy(p.text, text, strlen(text) + 1);
	return p;
}

static bool
same_place(const struct place *a, const struct place *b)
{
	return a->directory != NULL && a->directory == b->directory &&
	       strcmp(a->text, b->text) == 0;
}

static bool
touches_same(const struct change *a, const struct change *b)
{
	return same_place(&a->from, &b->from) || same_place(&a->from, &b->to) ||
	       same_place(&a->to, &b->from) || same_place(&a->to, &b->to);
}

static bool
has_name(const struct sim_files *all, const struct sim_file *f)
{
	for (struct list_node *n = list_first(&all->files); n != NULL;
	     n = list_next(&all->files, n)) {
		struct sim_file *d = LIST_ITEM(n, struct sim_file, node);
		const struct list *faces[] = { &d->seen, &d->platter };
		for (unsigned i = 0; i < 2; i++)
			for (struct list_node *m = list_first(faces[i]); m != NULL;
			     m = list_next(faces[i], m))
				if (LIST_ITEM(m, struct name, node)->file == f)
					return true;
	}
	for (struct list_node *n = list_first(&all->changes); n != NULL;
	     n = list_next(&all->changes, n))
		if (LIST_ITEM(n, struct change, node)->file == f)
			return true;
	return false;
}

/* Frees f where nothing can reach it any more, now or after a crash. */
static void
file_forget(struct sim_file *f)
{
	if (f->opened > 0 || f == f->all->root || has_name(f->all, f))
		return;
	pages_cut(f, 0);
	sim_release(f->pages, f->page_places * sizeof *f->pages);
	list_unlink(&f->node);
	sim_release(f, sizeof *f);
}

static void
change_apply(const struct change *c)
{
	if (c->from.directory != NULL)
		unset(&c->from.directory->platter, c->from.text);
	if (c->to.directory != NULL)
		set(&c->to.directory->platter, c->to.text, c->file);
}

/* The chosen changes happen on the platter, and all earlier ones of the same names with them. */
static void
changes_apply_chosen(struct sim_files *all)
{
	for (struct list_node *n = all->changes.head.previous; n != &all->changes.head;
	     n = n->previous) {
		struct change *later = LIST_ITEM(n, struct change, node);
		for (struct list_node *m = n->previous; later->chosen && m != &all->changes.head;
		     m = m->previous) {
			struct change *earlier = LIST_ITEM(m, struct change, node);
			earlier->chosen |= touches_same(earlier, later);
		}
	}
	struct list_node *next;
	for (struct list_node *n = list_first(&all->changes); n != NULL; n = next) {
		struct change *c = LIST_ITEM(n, struct change, node);
		next = list_next(&all->changes, n);
		if (!c->chosen)
			continue;
		change_apply(c);
		list_unlink(n);
		sim_release(c, sizeof *c);
	}
}

static void
change_add(struct sim_files *all, struct place from, struct place to, struct sim_file *file)
{
	struct change *c = sim_allocate(sizeof *c);

	*c = (struct change){ .from = from, .to = to, .file = file };
	list_append(&all->changes, &c->node);
}

static void
forget_all(struct sim_files *all)
{
	struct list_node *next;

	for (struct list_node *n = list_first(&all->files); n != NULL; n = next) {
		next = list_next(&all->files, n);
		file_forget(LIST_ITEM(n, struct sim_file, node));
	}
}

void
sim_directory_sync(struct sim_file *directory)
{
	struct sim_files *all = directory->all;

	for (struct list_node *n = list_first(&all->changes); n != NULL;
	     n = list_next(&all->changes, n)) {
		struct change *c = LIST_ITEM(n, struct change, node);
		c->chosen = c->from.directory == directory || c->to.directory == directory;
	}
	changes_apply_chosen(all);
	forget_all(all);
}

struct sim_file *
sim_name_find(struct sim_file *directory, const char *name)
{
	struct name *n = find(&directory->seen, name);

	return n == NULL ? NULL : n->file;
}

struct sim_file *
sim_name_create(struct sim_file *directory, const char *name, bool is_directory)
{
	struct sim_file *f = file_new(directory->all, is_directory);

	ASSERT(directory->is_directory);
	set(&directory->seen, name, f);
	change_add(directory->all, (struct place){ 0 }, place_of(directory, name), f);
	return f;
}

int
sim_name_unlink(struct sim_file *directory, const char *name)
{
	struct sim_file *f = sim_name_find(directory, name);

	if (f == NULL)
		return -ENOENT;
	unset(&directory->seen, name);
	change_add(directory->all, place_of(directory, name), (struct place){ 0 }, f);
	return 0;
}

int
sim_name_rename(struct sim_file *from_directory, const char *from, struct sim_file *to_directory,
		const char *to)
{
	struct sim_file *f = sim_name_find(from_directory, from);

	if (f == NULL)
		return -ENOENT;
	if (from_directory == to_directory && strcmp(from, to) == 0)
		return 0;
	unset(&from_directory->seen, from);
	set(&to_directory->seen, to, f);
	change_add(f->all, place_of(from_directory, from), place_of(to_directory, to), f);
	return 0;
}

void
sim_name_list(struct sim_file *directory, void (*on_name)(void *context, const char *name),
	      void *context)
{
	char(*texts)[SIM_NAME_MAX] = NULL;
	size_t count = 0;

	for (struct list_node *n = list_first(&directory->seen); n != NULL;
	     n = list_next(&directory->seen, n)) {
		texts = realloc(texts, (count + 1) * sizeof *texts);
		ASSERT(texts != NULL);
		memcpy(texts[count++], LIST_ITEM(n, struct name, node)->text, SIM_NAME_MAX);
	}
	for (size_t i = 0; i < count; i++)
		on_name(context, texts[i]);
	free(texts);
}

/* ---- holding open ---- */

void
sim_file_open(struct sim_file *f)
{
	f->opened++;
}

void
sim_file_close(struct sim_file *f)
{
	ASSERT(f->opened > 0);
	f->opened--;
	file_forget(f);
}

bool
sim_file_lock(struct sim_file *f)
{
	if (f->locked)
		return false;
	f->locked = true;
	return true;
}

void
sim_file_unlock(struct sim_file *f)
{
	f->locked = false;
}

/* What programs see after the crash is what the platter has. */
static void
directory_crash(struct sim_file *d)
{
	struct list_node *n;

	while ((n = list_shift(&d->seen)) != NULL)
		sim_release(LIST_ITEM(n, struct name, node), sizeof(struct name));
	for (n = list_first(&d->platter); n != NULL; n = list_next(&d->platter, n)) {
		struct name *name = LIST_ITEM(n, struct name, node);
		set(&d->seen, name->text, name->file);
	}
}

void
sim_files_crash(struct sim_files *all)
{
	unsigned survive = (unsigned)sim_below(3) * 500; /* none, half, all of the changes */
	struct list_node *n;

	for (n = list_first(&all->changes); n != NULL; n = list_next(&all->changes, n))
		LIST_ITEM(n, struct change, node)->chosen = sim_chance(survive);
	changes_apply_chosen(all);
	while ((n = list_shift(&all->changes)) != NULL)
		sim_release(LIST_ITEM(n, struct change, node), sizeof(struct change));
	for (n = list_first(&all->files); n != NULL; n = list_next(&all->files, n)) {
		struct sim_file *f = LIST_ITEM(n, struct sim_file, node);
		file_crash(f);
		if (f->is_directory)
			directory_crash(f);
	}
	forget_all(all);
}
