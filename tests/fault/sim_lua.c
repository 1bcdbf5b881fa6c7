/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/fault/sim_lua.h"

#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/assert.h"
#include "tests/fault/sim.h"

enum { WORDS_MOST = 8192, FUNCTIONS_MOST = 64, NAME_MOST = 64 };

struct function {
	char name[NAME_MOST];
	int reference; /* in the registry */
	int flags;
};

/* Of the process, see sim_lua.h. */
static struct {
	lua_State *lua;
	uint8_t *library; /* the text that is loaded */
	size_t library_size;
	bool loading;
	struct function functions[FUNCTIONS_MOST];
	unsigned count;
	struct keys *keys; /* of the call that runs */
	bool writes;       /* it may */
} engine;

/* ---- replies, from RESP2 to Lua ---- */

static int64_t
reply_line(struct span *reply, struct span *line)
{
	size_t end = span_find(*reply, '\r', 1);

	ASSERT(end + 1 < reply->size);
	*line = span_of(reply->data + 1, end - 1);
	*reply = span_after(*reply, end + 2);
	return line->size > 0 && (line->data[0] == '-' ||
				  (line->data[0] >= '0' && line->data[0] <= '9'))
		       ? strtoll((const char *)line->data, NULL, 10)
		       : 0;
}

static void
push_field(lua_State *lua, const char *name, struct span value)
{
	lua_newtable(lua);
	lua_pushstring(lua, name);
	lua_pushlstring(lua, (const char *)value.data, value.size);
	lua_rawset(lua, -3);
}

static void
push_reply(lua_State *lua, struct span *reply)
{
	uint8_t kind = reply->data[0];
	struct span line;
	int64_t n = reply_line(reply, &line);

	luaL_checkstack(lua, 8, "a reply");
	if (kind == ':') {
		lua_pushnumber(lua, (lua_Number)n);
	} else if (kind == '+' || kind == '-') {
		push_field(lua, kind == '+' ? "ok" : "err", line);
	} else if (n < 0) {
		lua_pushboolean(lua, 0);
	} else if (kind == '$') {
		lua_pushlstring(lua, (const char *)reply->data, (size_t)n);
		*reply = span_after(*reply, (size_t)n + 2);
	} else {
		lua_createtable(lua, (int)n, 0);
		for (int i = 1; i <= n; i++) {
			push_reply(lua, reply);
			lua_rawseti(lua, -2, i);
		}
	}
}

/* ---- what the library may call ---- */

/* Numbers are written as Redis does it. */
static struct span
word_at(lua_State *lua, int at, struct text *numbers)
{
	char number[64];
	size_t size;

	if (lua_type(lua, at) == LUA_TSTRING) {
		const char *text = lua_tolstring(lua, at, &size);
		return span_of(text, size);
	}
	if (lua_type(lua, at) != LUA_TNUMBER)
		luaL_error(lua, "Command arguments must be strings or integers");
	size = (size_t)snprintf(number, sizeof number, "%.17g", lua_tonumber(lua, at));
	ASSERT(numbers->size + size <= numbers->places);
	memcpy(numbers->data + numbers->size, number, size);
	numbers->size += size;
	return span_of(numbers->data + numbers->size - size, size);
}

static void
ask(struct span *words, unsigned count, struct text *reply)
{
	int flags = keys_flags(words[0]);

	if (flags >= 0 && (flags & KEYS_WRITES) && !engine.writes)
		text_error(reply, "ERR Write commands are not allowed from read-only scripts.");
	else
		keys_call(engine.keys, words, count, reply);
}

static int
redis_call(lua_State *lua)
{
	static struct span words[WORDS_MOST];
	static uint8_t digits[WORDS_MOST * 24];
	struct text numbers = { digits, 0, sizeof digits };
	int count = lua_gettop(lua);
	struct text reply = { 0 };

	if (count < 1 || count > WORDS_MOST)
		return luaL_error(lua, "a number of arguments that is not modelled: %d", count);
	for (int i = 0; i < count; i++)
		words[i] = word_at(lua, i + 1, &numbers);
	ask(words, (unsigned)count, &reply);
	struct span rest = span_of(reply.data, reply.size);
	bool failed = rest.data[0] == '-';
	push_reply(lua, &rest);
	text_fini(&reply);
	return failed ? lua_error(lua) : 1;
}

static int
flags_at(lua_State *lua, int table)
{
	int flags = 0;

	for (int i = 1; i <= (int)lua_objlen(lua, table); i++) {
		lua_rawgeti(lua, table, i);
		const char *name = luaL_checkstring(lua, -1);
		if (strcmp(name, "no-writes") == 0)
			flags |= LUA_NO_WRITES;
		else if (strcmp(name, "allow-oom") == 0)
			flags |= LUA_ALLOW_OOM;
		else
			luaL_error(lua, "a flag that is not modelled: %s", name);
		lua_pop(lua, 1);
	}
	return flags;
}

static int
register_function(lua_State *lua)
{
	if (!engine.loading)
		return luaL_error(lua,
				  "redis.register_function can only be called on FUNCTION LOAD");
	luaL_checktype(lua, 1, LUA_TTABLE);
	ASSERT(engine.count < FUNCTIONS_MOST);
	struct function *f = &engine.functions[engine.count];
	lua_getfield(lua, 1, "function_name");
	snprintf(f->name, sizeof f->name, "%s", luaL_checkstring(lua, -1));
	lua_getfield(lua, 1, "flags");
	f->flags = lua_istable(lua, -1) ? flags_at(lua, lua_gettop(lua)) : 0;
	lua_getfield(lua, 1, "callback");
	luaL_checktype(lua, -1, LUA_TFUNCTION);
	f->reference = luaL_ref(lua, LUA_REGISTRYINDEX);
	engine.count++;
	return 0;
}

/* Reads a global: while loading there is nothing but redis.register_function. */
static int
read_global(lua_State *lua)
{
	const char *name = luaL_checkstring(lua, 2);

	if (strcmp(name, "redis") == 0) {
		lua_newtable(lua);
		lua_pushcfunction(lua, engine.loading ? register_function : redis_call);
		lua_setfield(lua, -2, engine.loading ? "register_function" : "call");
		return 1;
	}
	lua_getfield(lua, LUA_GLOBALSINDEX, name);
	if (engine.loading || lua_isnil(lua, -1))
		return luaL_error(
			lua, "Script attempted to access nonexistent global variable '%s'", name);
	return 1;
}

static int
write_global(lua_State *lua)
{
	return luaL_error(lua, "Attempt to modify a readonly table");
}

/* ---- loading ---- */

static void
fence(lua_State *lua)
{
	lua_newtable(lua); /* the environment of the library, */
	lua_newtable(lua); /* and its metatable */
	lua_pushcfunction(lua, read_global);
	lua_setfield(lua, -2, "__index");
	lua_pushcfunction(lua, write_global);
	lua_setfield(lua, -2, "__newindex");
	lua_setmetatable(lua, -2);
	lua_setfenv(lua, -2);
}

void
sim_lua_end(void)
{
	if (engine.lua != NULL)
		lua_close(engine.lua);
	free(engine.library);
	memset(&engine, 0, sizeof engine);
}

/* How far the library at the front goes: several are one behind the other. */
static size_t
library_size(struct span libraries)
{
	size_t at = 1;

	while (at < libraries.size &&
	       !span_starts_with(span_after(libraries, at), SPAN("#!lua name=")))
		at++;
	return at;
}

/* Its first line names engine and library, and is no Lua. */
static int
load_one(struct span library)
{
	struct span text = span_after(library, span_find(library, '\n', 0));
	int failed =
		luaL_loadbuffer(engine.lua, (const char *)text.data, text.size, "@user_function");

	if (failed != 0)
		return failed;
	fence(engine.lua);
	return lua_pcall(engine.lua, 0, 0, 0);
}

bool
sim_lua_load(struct span library, struct text *out)
{
	struct span left = library;
	int failed = 0;

	sim_lua_end();
	if (!span_starts_with(library, SPAN("#!lua name="))) {
		text_error(out, "ERR Missing library metadata");
		return false;
	}
	engine.lua = luaL_newstate();
	ASSERT(engine.lua != NULL);
	luaL_openlibs(engine.lua);
	engine.loading = true;
	while (failed == 0 && left.size > 0) {
		size_t size = library_size(left);
		failed = load_one(span_first(left, size));
		left = span_after(left, size);
	}
	engine.loading = false;
	if (failed != 0) {
		text_error(out, "ERR Error registering functions: %s",
			   lua_tostring(engine.lua, -1));
		sim_lua_end();
		return false;
	}
	engine.library = malloc(library.size);
	ASSERT(engine.library != NULL);
	memcpy(engine.library, library.data, library.size);
	engine.library_size = library.size;
	return true;
}

static const struct function *
function_of(struct span library, struct span name)
{
	struct text ignored = { 0 };

	if (library.size == 0)
		return NULL;
	if (engine.lua == NULL || !span_eq(library, span_of(engine.library, engine.library_size))) {
		bool loaded = sim_lua_load(library, &ignored);
		text_fini(&ignored);
		ASSERT(loaded);
	}
	for (unsigned i = 0; i < engine.count; i++) {
		if (span_eq(name, span_of_string(engine.functions[i].name)))
			return &engine.functions[i];
	}
	return NULL;
}

int
sim_lua_flags(struct span library, struct span function)
{
	const struct function *f = function_of(library, function);

	return f == NULL ? -1 : f->flags;
}

/* ---- calling, and replies from Lua to RESP2 ---- */

static bool
reply_field(lua_State *lua, const char *name, struct text *out)
{
	size_t size;

	lua_pushstring(lua, name);
	lua_rawget(lua, -2);
	bool is_there = lua_isstring(lua, -1);
	if (is_there) {
		const char *text = lua_tolstring(lua, -1, &size);
		text_append(out, name[0] == 'o' ? "+" : "-", 1);
		text_append(out, text, size);
		text_append(out, "\r\n", 2);
	}
	lua_pop(lua, 1);
	return is_there;
}

/* The value on the top of the stack. */
static void
reply_value(lua_State *lua, struct text *out)
{
	size_t size;

	luaL_checkstack(lua, 8, "a reply");
	switch (lua_type(lua, -1)) {
	case LUA_TSTRING: {
		const char *text = lua_tolstring(lua, -1, &size);
		text_bulk(out, span_of(text, size));
		break;
	}
	case LUA_TNUMBER:
		text_number(out, (int64_t)lua_tonumber(lua, -1));
		break;
	case LUA_TTABLE: {
		if (reply_field(lua, "ok", out) || reply_field(lua, "err", out))
			break;
		int count = 0;
		for (;; count++) {
			lua_rawgeti(lua, -1, count + 1);
			bool ends = lua_isnil(lua, -1);
			lua_pop(lua, 1);
			if (ends)
				break;
		}
		text_array(out, (size_t)count);
		for (int i = 1; i <= count; i++) {
			lua_rawgeti(lua, -1, i);
			reply_value(lua, out);
			lua_pop(lua, 1);
		}
		break;
	}
	case LUA_TBOOLEAN:
		if (lua_toboolean(lua, -1)) {
			text_number(out, 1);
			break;
		}
		text_nothing(out);
		break;
	default:
		text_nothing(out);
	}
}

static void
reply_failure(lua_State *lua, struct span function, struct text *out)
{
	bool is_table = lua_istable(lua, -1);

	if (is_table)
		lua_getfield(lua, -1, "err");
	const char *why = lua_tostring(lua, -1);
	text_error(out, "%s%s script: %.*s", is_table ? "" : "ERR ",
		   why == NULL ? "ERR unknown" : why, SPAN_ARG(function));
}

static void
push_words(lua_State *lua, const struct span *words, unsigned count)
{
	lua_createtable(lua, (int)count, 0);
	for (unsigned i = 0; i < count; i++) {
		lua_pushlstring(lua, (const char *)words[i].data, words[i].size);
		lua_rawseti(lua, -2, (int)i + 1);
	}
}

void
sim_lua_call(struct span library, struct keys *k, const struct span *words, unsigned count,
	     struct text *out)
{
	const struct function *f = function_of(library, words[0]);
	uint64_t key_count;

	if (f == NULL) {
		text_error(out, "ERR Function not found");
		return;
	}
	if (count < 2 || !span_to_u64(words[1], &key_count) || key_count > count - 2) {
		text_error(out, "ERR Bad number of keys provided");
		return;
	}
	lua_State *lua = engine.lua;
	unsigned keys = (unsigned)key_count;
	engine.keys = k;
	engine.writes = !(f->flags & LUA_NO_WRITES);
	lua_rawgeti(lua, LUA_REGISTRYINDEX, f->reference);
	push_words(lua, words + 2, keys);
	push_words(lua, words + 2 + keys, count - 2 - keys);
	if (lua_pcall(lua, 2, 1, 0) == 0)
		reply_value(lua, out);
	else
		reply_failure(lua, words[0], out);
	lua_settop(lua, 0);
	engine.keys = NULL;
}
