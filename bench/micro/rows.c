/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/micro/rows.h"

#include "bench/micro/dialogue.h"
#include "bench/micro/material.h"
#include "core/base/arena.h"
#include "core/base/pool.h"
#include "core/log.h"
#include "core/mailbox.h"
#include "core/metric.h"
#include "core/timer.h"
#include "dns/mx.h"
#include "dns/packet.h"
#include "dns/spf_check.h"
#include "queue/spool/record.h"
#include "relay/message/header.h"
#include "relay/smtp/body_out.h"

#define TEXT(literal)                                              \
	{                                                          \
		(const uint8_t *)("" literal), sizeof(literal) - 1 \
	}
#define NONE            \
	{               \
		NULL, 0 \
	}
#define STATE(name) sizeof(struct name)

#define LABEL_40 "abcdefghijklmnopqrstuvwxyz-0123456789-xyz"

/* clang-format off */
const struct micro_row micro_rows[] = {
	/* name, function, text, number, bytes of state */
	{ "address.plain", measure_path, TEXT("<alice.smith@example.org>"), 0, STATE(address) },
	{ "address.long", measure_path, TEXT("<" LABEL_40 "+b=alice=example.org@"
		LABEL_40 ".bounces." LABEL_40 ".example.net>"), 0, STATE(address) },
	{ "address.quoted", measure_path, TEXT("<\"Alice \\\"A.\\\" Smith\"@example.org>"), 0,
		STATE(address) },
	{ "address.utf8", measure_path, TEXT("<\xcf\x83\xcf\x84\xce\xad\xce\xbb\xce\xbd\xcf\x89@"
		"\xcf\x80\xce\xb1\xcf\x81\xce\xac\xce\xb4.example>"), 0, STATE(address) },
	{ "address.ipv4", measure_path, TEXT("<root@[192.0.2.17]>"), 0, STATE(address) },
	{ "address.ipv6", measure_path, TEXT("<root@[IPv6:2001:db8::25:1]>"), 0, STATE(address) },
	{ "address.route", measure_path, TEXT("<@gw.example.net,@mx.example.com:bob@example.org>"),
		0, STATE(address) },
	{ "address.null", measure_path, TEXT("<>"), 0, STATE(address) },

	{ "receiver.session", measure_session, NONE, 0, STATE(receiver) },
	{ "receiver.rcpt", measure_command, TEXT("RCPT TO:<alice.smith@example.org>\r\n"), 0,
		STATE(receiver) },
	{ "receiver.rcpt_dsn", measure_command, TEXT("RCPT TO:<alice.smith@example.org> "
		"NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;alice.smith@example.org\r\n"), 0,
		STATE(receiver) },
	{ "receiver.noop", measure_command, TEXT("NOOP\r\n"), 0, STATE(receiver) },
	{ "receiver.mail_data", measure_receive, NONE, CLIENT_DATA, STATE(receiver) },
	{ "receiver.mail_bdat", measure_receive, NONE, CLIENT_BDAT, STATE(receiver) },
	{ "receiver.body_data", measure_body, NONE, CLIENT_DATA, STATE(receiver) },
	{ "receiver.body_bdat", measure_body, NONE, CLIENT_BDAT, STATE(receiver) },

	{ "sender.session", measure_connect, NONE, PEER_CHUNKING, STATE(sender) },
	{ "sender.mail_chunking", measure_send, NONE, PEER_CHUNKING, STATE(sender) },
	{ "sender.mail_pipelining", measure_send, NONE, PEER_PIPELINING, STATE(sender) },
	{ "sender.mail_lockstep", measure_send, NONE, PEER_LOCKSTEP, STATE(sender) },

	{ "reply.line", measure_reply, TEXT("250 2.0.0 queued as 06ehq2x8c1v5mz9k3t7bn4wpra\r\n"),
		0, STATE(reply) },
	{ "reply.lines", measure_reply, TEXT("550-5.1.1 The email account that you tried to reach "
		"does not exist. Please try\r\n550-5.1.1 double-checking the recipient's email "
		"address for typos or\r\n550 5.1.1 unnecessary spaces. "
		"https://support.example.com/?p=NoSuchUser\r\n"), 0, STATE(reply) },

	{ "body_in.prose", measure_body_in, NONE, MATERIAL_PROSE, STATE(body_in) },
	{ "body_in.base64", measure_body_in, NONE, MATERIAL_BASE64, STATE(body_in) },
	{ "body_in.dots", measure_body_in, NONE, MATERIAL_DOTS, STATE(body_in) },
	{ "body_out.prose", measure_body_out, NONE, MATERIAL_PROSE, STATE(body_out) },
	{ "body_out.base64", measure_body_out, NONE, MATERIAL_BASE64, STATE(body_out) },
	{ "body_out.dots", measure_body_out, NONE, MATERIAL_DOTS, STATE(body_out) },
	{ "body_dots.prose", measure_dots, NONE, MATERIAL_PROSE, STATE(body_dots) },
	{ "body_dots.base64", measure_dots, NONE, MATERIAL_BASE64, STATE(body_dots) },

	{ "header.small", measure_header, NONE, 0, STATE(header) },
	{ "header.large", measure_header, NONE, 1, STATE(header) },
	{ "trace.received", measure_trace, NONE, 0, 0 },

	{ "record.put_write", measure_put_write, NONE, 0, 0 },
	{ "record.put_parse", measure_put_parse, NONE, 0, STATE(record) },
	{ "record.outcome_write", measure_outcome_write, NONE, 0, 0 },
	{ "record.outcome_parse", measure_outcome_parse, NONE, 0, STATE(record) },
	{ "record.frame_write", measure_frame, NONE, 0, 0 },
	{ "crc32c.64", measure_crc32c, NONE, 64, 0 },
	{ "crc32c.1k", measure_crc32c, NONE, 1024, 0 },
	{ "crc32c.4k", measure_crc32c, NONE, 4096, 0 },
	{ "crc32c.256k", measure_crc32c, NONE, MATERIAL_BODY_SIZE, 0 },
	{ "crc32c.portable_4k", measure_crc32c_portable, NONE, 4096, 0 },

	{ "id.write", measure_id, NONE, 0, 0 },
	{ "net_address.v4", measure_peer_name, TEXT("192.0.2.17:43112"), 0, 0 },
	{ "net_address.v6", measure_peer_name, TEXT("[2001:db8::25:1]:43112"), 0, 0 },
	{ "log.write", measure_log_write, NONE, 0, 0 },
	{ "log.line", measure_log_line, NONE, 0, 0 },
	{ "metric.add", measure_metric_add, NONE, 0, STATE(metrics) },
	{ "metric.observe", measure_metric_observe, NONE, 0, STATE(metrics) },
	{ "timer.set_stop", measure_timer_set, NONE, 0, STATE(timer) },
	{ "timer.move", measure_timer_move, NONE, 0, STATE(timer) },
	{ "timer.fire", measure_timer_fire, NONE, 0, STATE(timer) },
	{ "pool.get_put", measure_pool, NONE, 0, STATE(pool) },
	{ "arena.mail", measure_arena, NONE, 0, STATE(arena) },
	{ "mailbox.post_run", measure_mailbox, NONE, 0, STATE(mailbox) },

	{ "dns.packet_a", measure_packet, NONE, 0, STATE(packet) },
	{ "dns.packet_mx", measure_packet, NONE, 1, STATE(packet) },
	{ "dns.answer_warm", measure_answer_warm, NONE, 0, STATE(dns_query) },
	{ "dns.mx_warm", measure_mx_warm, NONE, 0, STATE(mx_lookup) },
	{ "dns.spf_record", measure_spf_record, NONE, 0, 0 },
	{ "dns.spf_warm", measure_spf_warm, NONE, 0, STATE(spf_check) },

	{ "whole.mail_data", measure_whole, NONE, CLIENT_DATA, 0 },
	{ "whole.mail_bdat", measure_whole, NONE, CLIENT_BDAT, 0 },
};
/* clang-format on */

const size_t micro_row_count = sizeof micro_rows / sizeof micro_rows[0];
