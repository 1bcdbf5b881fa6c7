# SPDX-License-Identifier: Apache-2.0
# Writes functions.lua as the C function that functions.h promises:
#   cmake -D TEXT=queue/redis/functions.lua -D OUTPUT=functions.c -P embed.cmake
file(READ ${TEXT} hex HEX)
string(REGEX REPLACE "(................................)" "\\1\n" hex "${hex}")
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${hex}")
file(WRITE ${OUTPUT} "/* SPDX-License-Identifier: Apache-2.0 */\n"
	"#include \"queue/redis/functions.h\"\n\n"
	"static const uint8_t text[] = {\n${bytes}\n};\n\n"
	"struct span\nredis_functions(void)\n{\n\treturn span_of(text, sizeof text);\n}\n")
