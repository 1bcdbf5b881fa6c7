/* SPDX-License-Identifier: Apache-2.0
 *
 * Linked into every unit test that does not say that it uses threads (tests/CMakeLists.txt): TSan
 * leaves those out, so one that starts a thread nevertheless must not pass anywhere.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
			  void *(*start)(void *), void *context);

int
__wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *),
		      void *context)
{
	(void)thread;
	(void)attributes;
	(void)start;
	(void)context;
	fputs("a thread is started: this test must say that it uses threads\n", stderr);
	abort();
}
