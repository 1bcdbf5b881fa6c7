/* SPDX-License-Identifier: Apache-2.0
 *
 * name_server: a small name server on a thread, over UDP and TCP, for tests of the resolver.
 *
 * It recurses nowhere and signs nothing; what it answers is said by the first label of the name:
 *   ok...      A 192.0.2.1, MX 10 and the name itself, PTR ok.example; of other types there is none
 *   numbers    the same, so that PTR of addresses work
 *   nx...      there is no such name; the same where a later label is nx
 *   fail...    SERVFAIL
 *   silent...  no reply
 *   held...    as ok, when name_server_release() is called
 *   big...     over UDP it is truncated; over TCP as ok
 *   short...   as ok, with a TTL of 0
 *   loose...   a packet that is cut
 *   pair...    MX 10 ok and MX 20 silent
 * Where a later label is spf or inc, there is a TXT record, too:
 *   spf        "v=spf1 a include:ok.inc.example -all"
 *   inc        "v=spf1 ip4:192.0.2.7 ?all"
 */
#ifndef TESTS_LIB_NAME_SERVER_H
#define TESTS_LIB_NAME_SERVER_H

#include "core/base/net_address.h"

struct name_server;

struct name_server *name_server_start(struct net_address *out);
/* Answers what it holds, and holds nothing from now on. */
void name_server_release(struct name_server *s);
/* Questions whose name begins with this. */
unsigned name_server_count(struct name_server *s, const char *begin);
void name_server_stop(struct name_server *s);

#endif
