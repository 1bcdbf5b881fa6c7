/* SPDX-License-Identifier: Apache-2.0
 *
 * lean: OpenSSL for the generator's side of TLS, with no more in it than TLS needs.
 *
 * OpenSSL 3.0 builds a decoder for the key in each certificate that a server shows, out of all
 * decoders and kinds of keys that there are, and looks for those among all algorithms that it has:
 * a third of a client's handshake, and most of it grows with how many there are. A generator is to
 * cost less than what it measures. So its threads have a library context that shows only the
 * algorithms of TLS 1.2 and 1.3 with certificates (RSA, ECDSA, EdDSA). They are the default
 * provider's own: a handshake computes, sends and checks what it does otherwise.
 *
 * For the generator alone: a server whose kind of key or cipher is missing here is an error that
 * the result shows, where a relay would have to go on without TLS.
 */
#ifndef BENCH_LEAN_H
#define BENCH_LEAN_H

/* From here on the calling thread's OpenSSL is the lean one. Where it cannot be made, or
 * openssl.cnf has set up other providers, all stays as it is, only slower. Any thread. */
void lean_enter(void);
/* The default context again. */
void lean_leave(void);

#endif
