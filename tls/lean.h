/* SPDX-License-Identifier: Apache-2.0
 *
 * lean: OpenSSL for the client's side, with fewer decoders. Inside of tls/ only.
 *
 * For each certificate that a server shows, OpenSSL 3.0 builds a decoder for the key in it out of
 * all decoders and all kinds of keys that there are, some eighty and twenty: a quarter of the
 * client's handshake. A key in a certificate has one form (SubjectPublicKeyInfo, DER) and is of one
 * of five kinds, so a library context that knows only these does the same in less. All else is the
 * default provider's own, in the default context: algorithms, groups, randomness. Where openssl.cnf
 * sets up other providers, it is not made.
 */
#ifndef TLS_LEAN_H
#define TLS_LEAN_H

#include <openssl/types.h>

/* One for the process, made when it is first asked for; never freed. NULL: the default context,
 * which does as well, only slower. Any thread. */
OSSL_LIB_CTX *lean_library(void);

#endif
