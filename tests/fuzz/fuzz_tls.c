/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz: uses tls machine certificates */
/*
 * A server's layer under whatever a client may do. The first byte chooses: the rest is what comes
 * on the wire, cut in pieces; or it is a script of moves of a conversation with a real client, in
 * which the wire is cut anywhere and may be bent. States go forward only, nothing is read beyond
 * what is given or written beyond the room, there is no plain text in a handshake, and as long as
 * nothing was bent, what one side has written is what the other one reads.
 */
#include <openssl/err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/assert.h"
#include "tests/lib/certificates.h"
#include "tls/context.h"
#include "tls/engine.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { WIRE_SIZE = 64 * 1024, PIECE_MAX = 4096 };

static struct tls *server_worker;
static SSL_CTX *client_context;

static void
make_worker(void)
{
	char folder[] = "/tmp/fuzz_tls.XXXXXX", chain[64], key[64], text[1024];
	struct config_errors errors = { 0 };
	struct buf why = buf_of(text, sizeof text);
	struct made_certificate c =
		certificate_make(&(struct certificate_wish){ .names = "DNS:mx.example.org" });

	ASSERT(mkdtemp(folder) != NULL);
	snprintf(chain, sizeof chain, "%s/chain", folder);
	snprintf(key, sizeof key, "%s/key", folder);
	certificate_write(&c, NULL, chain, key);
	certificate_drop(&c);
	int size = snprintf(text, sizeof text,
			    "hostname: mx.example.org\n"
			    "listeners: [{ address: \"127.0.0.1:2525\" }]\n"
			    "routes: [{ domain: \"*\", to: discard }]\n"
			    "tls: { ca_file: none, certificates: [{ chain: %s, key: %s }] }\n",
			    chain, key);
	const struct config *config = config_parse("fuzz", span_of(text, (size_t)size), &errors);
	ASSERT(config != NULL);
	struct tls_setup *s = tls_setup_load(config, NULL, &why);
	ASSERT(s != NULL);
	server_worker = tls_new(s, &why);
	client_context = SSL_CTX_new(TLS_client_method());
	ASSERT(server_worker != NULL && client_context != NULL);
	tls_setup_put(s);
	config_put(config);
	unlink(chain);
	unlink(key);
	rmdir(folder);
}

static void
on_free(struct engine *e)
{
	free(e);
}

static const struct engine_side client_side = { .peer = "the server", .on_free = on_free };

/* One end: what it has written and read, and what is on its way to it. */
struct end {
	struct layer *layer;
	uint8_t wire_memory[WIRE_SIZE];
	struct buf wire;
	uint64_t written; /* bytes of plain text */
	uint64_t read;
	bool ended;
};

static bool is_bent;

static uint8_t
plain_byte(uint64_t i)
{
	return (uint8_t)(i * 167 >> 3);
}

static void
deliver(struct end *to, size_t most)
{
	uint8_t memory[PIECE_MAX];
	struct buf plain = buf_of(memory, most % 7 == 0 ? 5 : sizeof memory);
	struct span piece = span_first(buf_span(&to->wire), most);
	uint8_t before = to->layer->state;
	uint8_t *copy = malloc(piece.size + 1);

	if (piece.size > 0)
		memcpy(copy, piece.data, piece.size);
	size_t used = to->layer->ops->read(to->layer, span_of(copy, piece.size), &plain);
	free(copy);
	ASSERT(used <= piece.size && !plain.overflow);
	ASSERT(to->layer->state >= before);
	ASSERT(to->layer->state != LAYER_HANDSHAKE || plain.size == 0);
	ASSERT(used == piece.size || plain.size == plain.capacity);
	buf_consume(&to->wire, used);
	for (size_t i = 0; i < plain.size && !is_bent; i++)
		ASSERT(memory[i] == plain_byte(to->read + i));
	to->read += plain.size;
}

static void
say(struct end *from, struct end *to, size_t size)
{
	uint8_t memory[PIECE_MAX];
	struct buf room = buf_of(to->wire.data + to->wire.size, buf_room(&to->wire));

	size = size < sizeof memory ? size : sizeof memory;
	if (from->ended)
		size = 0;
	for (size_t i = 0; i < size; i++)
		memory[i] = plain_byte(from->written + i);
	size_t used = from->layer->ops->write(from->layer, span_of(memory, size), &room);
	ASSERT(used <= size && !room.overflow);
	from->written += used;
	to->wire.size += room.size;
}

static void
end(struct end *e)
{
	if (e->ended || (e->layer->state != LAYER_OPEN && e->layer->state != LAYER_ENDED))
		return;
	e->ended = true;
	e->layer->ops->end(e->layer);
}

static void
move(struct end *server, struct end *client, uint8_t what, uint8_t how)
{
	switch (what % 10) {
	case 0:
	case 1:
		deliver(server, (size_t)how * (what & 0x80 ? 64 : 1));
		break;
	case 2:
	case 3:
		deliver(client, (size_t)how * (what & 0x80 ? 64 : 1));
		break;
	case 4:
		say(client, server, (size_t)how * 16);
		break;
	case 5:
		say(server, client, (size_t)how * 16);
		break;
	case 6:
		if (server->wire.size > 0) {
			server->wire.data[how % server->wire.size] ^= what;
			is_bent |= what != 0;
		}
		break;
	case 7:
		if (client->layer->state == LAYER_OPEN)
			SSL_key_update(engine_of(client->layer)->ssl, how % 2);
		ERR_clear_error();
		break;
	case 8:
		end(client);
		break;
	default:
		end(server);
		break;
	}
}

static void
run_script(struct end *server, struct end *client, struct span script)
{
	struct engine *e = calloc(1, sizeof *e);

	ASSERT(e != NULL && engine_init(e, client_context, server_worker->setup, &client_side));
	if ((script.size & 1) != 0)
		SSL_set_max_proto_version(e->ssl, TLS1_2_VERSION);
	engine_start(e);
	client->layer = &e->layer;
	client->wire = buf_of(client->wire_memory, WIRE_SIZE);
	for (size_t i = 0; i + 1 < script.size; i += 2)
		move(server, client, script.data[i], script.data[i + 1]);
	/* At the end all that is on its way arrives. */
	for (unsigned i = 0; i < 100 && !is_bent; i++) {
		say(client, server, 0);
		say(server, client, 0);
		deliver(server, WIRE_SIZE);
		deliver(client, WIRE_SIZE);
	}
	if (!is_bent) {
		ASSERT(server->layer->state != LAYER_FAILED);
		ASSERT(client->layer->state != LAYER_FAILED);
	}
	e->layer.ops->free(&e->layer);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct end server, client;
	struct tls_accept_options options = { .ask_certificate = size % 3 == 0 };

	if (server_worker == NULL)
		make_worker();
	if (size == 0)
		return 0;
	is_bent = (data[0] & 1) == 0;
	memset(&server, 0, offsetof(struct end, wire_memory));
	memset(&client, 0, offsetof(struct end, wire_memory));
	server.written = server.read = client.written = client.read = 0;
	server.ended = client.ended = false;
	server.layer = tls_accept(server_worker, &options);
	server.wire = buf_of(server.wire_memory, WIRE_SIZE);
	ASSERT(server.layer != NULL);
	struct span rest = span_first(span_after(span_of(data, size), 1), WIRE_SIZE);
	if (!is_bent) {
		run_script(&server, &client, rest);
	} else {
		buf_append(&server.wire, rest);
		for (unsigned i = 0; i < 10000 && server.wire.size > 0; i++)
			deliver(&server, (size_t)(data[0] >> 1) + 1);
	}
	struct tls_facts facts;
	tls_facts(server.layer, &facts);
	ASSERT((server.layer->state == LAYER_FAILED) == (facts.failure != TLS_FAILURE_NONE));
	server.layer->ops->free(server.layer);
	ASSERT(ERR_peek_error() == 0);
	return 0;
}
