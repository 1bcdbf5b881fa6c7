# SPDX-License-Identifier: Apache-2.0
# Writes texts, one behind the other, as the C function that HEADER promises:
#   cmake -D TEXT="functions.lua;nodes.lua" -D HEADER=queue/redis/functions.h \
#     -D FUNCTION=redis_functions -D OUTPUT=functions.c -P embed.cmake
set(hex "")
foreach(file ${TEXT})
	file(READ ${file} part HEX)
	string(APPEND hex ${part})
endforeach()
string(REGEX REPLACE "(................................)" "\\1\n" hex "${hex}")
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${hex}")
file(WRITE ${OUTPUT} "/* SPDX-License-Identifier: Apache-2.0 */\n"
	"#include \"${HEADER}\"\n\n"
	"static const uint8_t text[] = {\n${bytes}\n};\n\n"
	"struct span\n${FUNCTION}(void)\n{\n\treturn span_of(text, sizeof text);\n}\n")
