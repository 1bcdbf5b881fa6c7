/* SPDX-License-Identifier: Apache-2.0
 *
 * crc32c: the Castagnoli checksum (RFC 3720 B.4), with the processor's instruction where it has
 * one (SSE 4.2, ARMv8 CRC), else by a small table. Pure; both ways give the same.
 *
 * crc32c(0, data) is the usual value; feeding the result in again goes on where it ended.
 */
#ifndef QUEUE_SPOOL_CRC32C_H
#define QUEUE_SPOOL_CRC32C_H

#include <stddef.h>
#include <stdint.h>

uint32_t crc32c(uint32_t crc, const void *data, size_t size);
/* The same without the instruction; for the tests. */
uint32_t crc32c_portable(uint32_t crc, const void *data, size_t size);

#endif
