/* SPDX-License-Identifier: Apache-2.0
 *
 * sim_lua: runs a function library as Redis 7 does: the text of FUNCTION LOAD in Lua 5.1, with the
 * same limits (nothing but redis.register_function while it is loaded, no new globals), flags of
 * functions, and conversions of arguments and replies.
 *
 * The interpreter belongs to the process and holds nothing of worth: what is loaded is said with
 * every call, and another text is loaded anew.
 */
#ifndef TESTS_FAULT_SIM_LUA_H
#define TESTS_FAULT_SIM_LUA_H

#include <stdbool.h>

#include "tests/fault/sim_keys.h"

enum { LUA_NO_WRITES = 1, LUA_ALLOW_OOM = 2 };

/* Loads it, as FUNCTION LOAD would; false: an error is appended. */
bool sim_lua_load(struct span library, struct text *out);
/* The flags of a function; -1: there is none of this name. */
int sim_lua_flags(struct span library, struct span function);
/* FCALL: words from the function's name on (name, number of keys, keys, arguments). */
void sim_lua_call(struct span library, struct keys *k, const struct span *words, unsigned count,
		  struct text *out);
/* Gives the interpreter back. */
void sim_lua_end(void);

#endif
