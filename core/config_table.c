/* SPDX-License-Identifier: Apache-2.0 */
#include "core/config_table.h"

#include "core/base/assert.h"

/* clang-format off */
#define CHOICES(tag)                  static const struct choice_word words_##tag[] = {
#define WORD(tag, name, word, remedy)         [name] = { word, remedy },
#define CHOICES_END(tag)              }; \
	static const struct choice choice_##tag = { \
		words_##tag, sizeof words_##tag / sizeof words_##tag[0] };
#include "core/tables/choices.def"
#undef CHOICES
#undef WORD
#undef CHOICES_END
/* clang-format on */

#define RELOAD  false
#define RESTART true

#define MEMBER_BOOL(name)         name
#define MEMBER_GIVEN(name)        name
#define MEMBER_NUMBER(name)       name
#define MEMBER_POWER(name)        name
#define MEMBER_AUTO_NUMBER(name)  name
#define MEMBER_SIZE(name)         name
#define MEMBER_AUTO_SIZE(name)    name
#define MEMBER_DURATION(name)     name##_ms
#define MEMBER_HOSTNAME(name)     name
#define MEMBER_NAME(name)         name
#define MEMBER_PATH(name)         name
#define MEMBER_DOMAIN(name)       name
#define MEMBER_ROUTE_DOMAIN(name) name
#define MEMBER_MAILBOX(name)      name
#define MEMBER_ADDRESS(name)      name
#define MEMBER_NETWORKS(name)     name
#define MEMBER_TARGET(name)       name
#define MEMBER_RECIPIENTS(name)   name
#define MEMBER_DELIMITERS(name)   name
#define MEMBER_DURATIONS(name)    name##_ms
#define MEMBER_DOMAINS(name)      name
#define MEMBER_WORD(name)         name
#define MEMBER_SERVER(name)       name
#define MEMBER_SERVERS(name)      name
#define MEMBER_FORWARDERS(name)   name
#define MEMBER_FILE(name)         name
#define MEMBER_AUTO_FILE(name)    name
#define MEMBER_FINGERPRINTS(name) name
/* The other member of a sequence that is a bare array; for all else the field itself. */
#define COUNT_BOOL(name)         name
#define COUNT_GIVEN(name)        name
#define COUNT_NUMBER(name)       name
#define COUNT_POWER(name)        name
#define COUNT_AUTO_NUMBER(name)  name
#define COUNT_SIZE(name)         name
#define COUNT_AUTO_SIZE(name)    name
#define COUNT_DURATION(name)     name##_ms
#define COUNT_HOSTNAME(name)     name
#define COUNT_NAME(name)         name
#define COUNT_PATH(name)         name
#define COUNT_DOMAIN(name)       name
#define COUNT_ROUTE_DOMAIN(name) name
#define COUNT_MAILBOX(name)      name
#define COUNT_ADDRESS(name)      name
#define COUNT_NETWORKS(name)     name
#define COUNT_TARGET(name)       name
#define COUNT_RECIPIENTS(name)   name
#define COUNT_DELIMITERS(name)   name
#define COUNT_DURATIONS(name)    name##_count
#define COUNT_DOMAINS(name)      name##_count
#define COUNT_WORD(name)         name
#define COUNT_SERVER(name)       name
#define COUNT_SERVERS(name)      name##_count
#define COUNT_FORWARDERS(name)   name
#define COUNT_FILE(name)         name
#define COUNT_AUTO_FILE(name)    name
#define COUNT_FINGERPRINTS(name) name##_count

#define OPTION(kind_, owner, name_, standard_, least_, most_, when, doc_) \
	{ .kind = OPTION_##kind_,                                         \
	  .name = #name_,                                                 \
	  .standard = standard_,                                          \
	  .least = least_,                                                \
	  .most = most_,                                                  \
	  .doc = doc_,                                                    \
	  .offset = offsetof(struct owner, MEMBER_##kind_(name_)),        \
	  .count_offset = offsetof(struct owner, COUNT_##kind_(name_)),   \
	  .restart = when },
#define CHOICE(tag, owner, name_, standard_, when, doc_) \
	{ .kind = OPTION_CHOICE,                         \
	  .name = #name_,                                \
	  .standard = standard_,                         \
	  .doc = doc_,                                   \
	  .choice = &choice_##tag,                       \
	  .offset = offsetof(struct owner, name_),       \
	  .restart = when },
#define GROUP(owner, name_, doc_) \
	{ .kind = OPTION_GROUP,   \
	  .name = #name_,         \
	  .doc = doc_,            \
	  .offset = offsetof(struct owner, name_) },
#define GROUP_END(name_) { .kind = OPTION_GROUP_END, .name = #name_ },
#define LIST(item, owner, name_, least_, most_, when, doc_)      \
	{ .kind = OPTION_LIST,                                   \
	  .name = #name_,                                        \
	  .least = least_,                                       \
	  .most = most_,                                         \
	  .doc = doc_,                                           \
	  .offset = offsetof(struct owner, name_),               \
	  .count_offset = offsetof(struct owner, name_##_count), \
	  .item_size = sizeof(struct item),                      \
	  .restart = when },
#define LIST_END(name_) { .kind = OPTION_LIST_END, .name = #name_ },

const struct option option_rows[] = {
#include "core/tables/options.def"
};
const size_t option_rows_count = sizeof option_rows / sizeof option_rows[0];

/* The parser writes enums as unsigned. */
_Static_assert(sizeof(enum config_role) == sizeof(unsigned), "an enum is an unsigned");

const char *
config_role_word(enum config_role role)
{
	ASSERT(role < sizeof words_config_role / sizeof words_config_role[0]);
	return words_config_role[role].word;
}

size_t
option_skip(size_t row)
{
	size_t depth = 0;

	do {
		ASSERT(row < option_rows_count);
		enum option_kind kind = option_rows[row].kind;
		if (kind == OPTION_GROUP || kind == OPTION_LIST)
			depth++;
		if (kind == OPTION_GROUP_END || kind == OPTION_LIST_END)
			depth--;
		row++;
	} while (depth > 0);
	return row;
}

bool
option_is_sequence(const struct option *o)
{
	return o->kind == OPTION_NETWORKS || o->kind == OPTION_TARGET ||
	       o->kind == OPTION_DURATIONS || o->kind == OPTION_DOMAINS ||
	       o->kind == OPTION_FORWARDERS || o->kind == OPTION_FINGERPRINTS ||
	       o->kind == OPTION_SERVERS;
}

const void *
option_items(const struct option *o, const void *base, size_t *count)
{
	const void *items;

	ASSERT(o->kind == OPTION_LIST);
	memcpy(&items, (const char *)base + o->offset, sizeof items);
	memcpy(count, (const char *)base + o->count_offset, sizeof *count);
	return items;
}
