# SPDX-License-Identifier: Apache-2.0
# Puts the parts of the report's page together and writes them as a C array:
#   cmake -D FOLDER=bench/page -D OUTPUT=report_page.c -P embed.cmake
file(READ ${FOLDER}/page.html page)
file(READ ${FOLDER}/page.css style)
set(script "")
foreach(part data chart page)
	file(READ ${FOLDER}/${part}.js text)
	string(APPEND script "${text}")
endforeach()
string(REPLACE "@STYLE@" "${style}" page "${page}")
string(REPLACE "@SCRIPT@" "${script}" page "${page}")

string(REGEX MATCHALL "@[A-Z]+@" marks "${page}")
if(NOT marks STREQUAL "@RESULTS@")
	message(FATAL_ERROR "the page must hold the mark @RESULTS@ once, and no other: ${marks}")
endif()

file(WRITE ${OUTPUT}.html "${page}")
file(READ ${OUTPUT}.html hex HEX)
string(REGEX REPLACE "(................................)" "\\1\n" hex "${hex}")
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${hex}")
file(WRITE ${OUTPUT} "/* SPDX-License-Identifier: Apache-2.0 */\n"
	"#include \"bench/report_page.h\"\n\n"
	"const unsigned char report_page[] = {\n${bytes}\n};\n"
	"const size_t report_page_size = sizeof report_page;\n")
