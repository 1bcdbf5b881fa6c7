/* SPDX-License-Identifier: Apache-2.0
 *
 * text: lines, words and addresses of the small files that resolvers have read since ever. Pure.
 *
 * Lines end with LF or at the end of the text; words are parted by spaces, tabs and CR. Nothing is
 * copied: what is handed out points into the text.
 */
#ifndef DNS_TEXT_H
#define DNS_TEXT_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/net_address.h"
#include "core/base/span.h"

/* Takes the next line off the text, without what follows one of the bytes of `comment`. False at
 * the end. */
bool text_line(struct span *text, struct span comment, struct span *line);
/* Takes the next word off the line. */
bool text_word(struct span *line, struct span *word);
/* "192.0.2.1", "2001:db8::1", "[2001:db8::1]". */
bool text_ip(struct span text, uint16_t port, struct net_address *out);

#endif
