/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/ctl/user.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <libgen.h>
#include <limits.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include "core/base/assert.h"
#include "core/base/base64.h"
#include "core/config.h"
#include "core/file.h"
#include "relay/ctl/user_edit.h"

enum {
	DONE = 0,
	REFUSED = 1,
	USAGE = 2,
	TRY_AGAIN = 75,
	FILE_MAX = 1 << 28,
	/* Checking a password with 100 000 iterations takes a core 50 to 100 ms: as much as a host
	 * can spare at each login that the cache of passwords does not know. What is recommended
	 * for passwords that people choose is more (OWASP: 600 000), and --iterations takes it. */
	ITERATIONS = 100000,
	CANCEL = 3, /* Control-C, as a character */
};

#define STANDARD_FILE "/etc/ringpost/users"

struct user_command;

struct command {
	const char *name;
	bool needs_name;
	bool takes_words;
	int (*run)(struct user_command *c);
	const char *doc;
};

struct user_command {
	const char *path;
	char real_path[PATH_MAX]; /* what a link leads to */
	struct span name;
	char **words; /* rights, up to NULL */
	uint32_t iterations;
	bool no_password;
	uid_t owner; /* of a new file */
	gid_t group;
	char *text; /* of the file */
	size_t size;
	bool exists;
	int lock;
	struct stat was;
};

static int refuse(int status, const char *format, ...) __attribute__((format(printf, 2, 3)));

static int
refuse(int status, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	fputs("ringpostctl: ", stderr);
	vfprintf(stderr, format, arguments);
	fputc('\n', stderr);
	va_end(arguments);
	return status;
}

/* ---- the file ---- */

static int
lock_folder(struct user_command *c)
{
	char path[PATH_MAX];

	snprintf(path, sizeof path, "%s", c->real_path);
	c->lock = open(dirname(path), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (c->lock < 0 || flock(c->lock, LOCK_EX) != 0)
		return refuse(REFUSED, "%s: %s; its directory must exist", c->path,
			      strerror(errno));
	return DONE;
}

static int
read_users(struct user_command *c)
{
	struct file_identity identity;
	char memory[PATH_MAX + 128];
	struct buf why = buf_of(memory, sizeof memory);

	if (realpath(c->path, c->real_path) == NULL)
		snprintf(c->real_path, sizeof c->real_path, "%s", c->path);
	int status = lock_folder(c);
	if (status != DONE)
		return status;
	if (!file_is_private(c->real_path, &why))
		return refuse(REFUSED, "%.*s", SPAN_ARG(buf_span(&why)));
	c->text = file_read(c->real_path, FILE_MAX, &c->size, &identity);
	c->exists = c->text != NULL && stat(c->real_path, &c->was) == 0;
	if (c->text == NULL && errno != ENOENT)
		return refuse(REFUSED, "%s: %s", c->path, strerror(errno));
	return DONE;
}

static bool
write_all(int fd, struct span text)
{
	while (text.size > 0) {
		ssize_t n = write(fd, text.data, text.size);
		if (n < 0 && errno != EINTR)
			return false;
		text = span_after(text, n < 0 ? 0 : (size_t)n);
	}
	return fsync(fd) == 0;
}

/* The new text takes the old one's place, whole or not at all. */
static int
replace(struct user_command *c, struct span text)
{
	char path[PATH_MAX + 8];
	uid_t owner = c->exists ? c->was.st_uid : c->owner;
	gid_t group = c->exists ? c->was.st_gid : c->group;

	snprintf(path, sizeof path, "%s.new", c->real_path);
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return refuse(REFUSED, "%s: %s", path, strerror(errno));
	bool fine = fchmod(fd, 0600) == 0 && write_all(fd, text);
	if (fine && (owner != geteuid() || group != getegid()))
		fine = fchown(fd, owner, group) == 0;
	fine = close(fd) == 0 && fine && rename(path, c->real_path) == 0 && fsync(c->lock) == 0;
	if (fine)
		return DONE;
	int error = errno;
	unlink(path);
	return refuse(REFUSED, "%s: %s; nothing was changed", c->path, strerror(error));
}

/* ---- passwords ---- */

/* One line. The size without its end; -1 where there is none, or it is too long. */
static ssize_t
read_line(int fd, char *line, size_t size_max)
{
	size_t size = 0;
	char c;

	for (;;) {
		ssize_t n = read(fd, &c, 1);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0 || c == '\n')
			break;
		if (size == size_max || c == CANCEL)
			return -1;
		line[size++] = c;
	}
	return size == 0 ? -1 : (ssize_t)size;
}

/* From the terminal, which does not show it. Control-C comes as a character, so that the terminal
 * is not left mute. */
static ssize_t
ask(int tty, const char *prompt, char *line, size_t size_max)
{
	struct termios was, mute;

	if (tcgetattr(tty, &was) != 0)
		return -1;
	mute = was;
	mute.c_lflag &= (tcflag_t) ~(ECHO | ISIG);
	tcsetattr(tty, TCSAFLUSH, &mute);
	dprintf(tty, "%s: ", prompt);
	ssize_t size = read_line(tty, line, size_max);
	dprintf(tty, "\n");
	tcsetattr(tty, TCSAFLUSH, &was);
	return size;
}

static int
ask_twice(char *line, ssize_t *size)
{
	char again[SASL_PASSWORD_MAX];
	int tty = open("/dev/tty", O_RDWR | O_CLOEXEC);

	if (tty < 0)
		return refuse(REFUSED, "no terminal to ask for the password; give it as the first "
				       "line of standard input");
	*size = ask(tty, "Password", line, SASL_PASSWORD_MAX);
	ssize_t second = *size < 0 ? -1 : ask(tty, "Again", again, sizeof again);
	bool same = *size >= 0 && second == *size && memcmp(line, again, (size_t)second) == 0;
	explicit_bzero(again, sizeof again);
	close(tty);
	return *size < 0 || same ? DONE : refuse(REFUSED, "they differ; nothing was changed");
}

/* The verifier of a password that is asked for, as a word. */
static int
make_verifier(const struct user_command *c, struct buf *word)
{
	struct sasl_verifier v = { .iterations = c->iterations, .salt_size = SASL_SALT_SIZE };
	char line[SASL_PASSWORD_MAX];
	ssize_t size = -1;
	int status = DONE;

	if (c->no_password) {
		buf_append_byte(word, '-');
		return DONE;
	}
	if (isatty(STDIN_FILENO))
		status = ask_twice(line, &size);
	else
		size = read_line(STDIN_FILENO, line, sizeof line);
	struct span password = span_of(line, size < 0 ? 0 : (size_t)size);
	if (status == DONE && !sasl_is_fit(password, SASL_PASSWORD_MAX))
		status = refuse(REFUSED, "no password: it has 1 to 512 bytes of UTF-8 and no "
					 "controls; nothing was changed");
	if (status == DONE && getrandom(v.salt, v.salt_size, 0) != v.salt_size)
		status = refuse(TRY_AGAIN, "out of randomness");
	if (status == DONE) {
		sasl_verifier_make(&v, password);
		sasl_verifier_show(&v, word);
	}
	explicit_bzero(line, sizeof line);
	return status;
}

/* ---- the commands ---- */

/* Room for the text with one line more. */
static struct buf
room_for(const struct user_command *c)
{
	size_t capacity = c->size + 2 * USER_LINE_MAX;
	void *memory = malloc(capacity);

	return buf_of(memory, memory == NULL ? 0 : capacity);
}

static int
store(struct user_command *c, bool edited, struct buf *text)
{
	int status = edited ? replace(c, buf_span(text)) : refuse(TRY_AGAIN, "out of memory");

	free(text->data);
	return status;
}

/* What stands in front of the first user. */
static void
begin_file(struct buf *text)
{
	uint8_t secret[32];

	buf_append_string(text, "# Users of ringpostd. `ringpostctl user` changes this file.\n"
				"# The secret hides which users exist; keep it.\n"
				"secret ");
	if (getrandom(secret, sizeof secret, 0) != (ssize_t)sizeof secret)
		text->overflow = true;
	base64_encode(span_of(secret, sizeof secret), text);
	buf_append_byte(text, '\n');
}

static int
run_add(struct user_command *c)
{
	uint8_t memory[USER_LINE_MAX];
	struct buf line = buf_of(memory, sizeof memory);
	struct user_line parsed;
	struct user_place place;

	if (user_edit_find(span_of(c->text, c->size), c->name, &place))
		return refuse(REFUSED, "%.*s is there already; use passwd for another password",
			      SPAN_ARG(c->name));
	buf_append(&line, c->name);
	buf_append_string(&line, " -");
	for (char **word = c->words; *word != NULL; word++) {
		buf_append_byte(&line, ' ');
		buf_append_string(&line, *word);
	}
	/* Before the password is asked for. */
	const char *fault =
		line.overflow ? "is too long" : user_line_parse(buf_span(&line), &parsed);
	if (fault != NULL)
		return refuse(USAGE, "the line of '%.*s' %s", SPAN_ARG(c->name), fault);
	struct buf word = buf_of(memory, sizeof memory);
	buf_append(&word, c->name);
	buf_append_byte(&word, ' ');
	int status = make_verifier(c, &word);
	if (status != DONE)
		return status;
	for (char **right = c->words; *right != NULL; right++) {
		buf_append_byte(&word, ' ');
		buf_append_string(&word, *right);
	}
	struct buf text = room_for(c);
	struct span before = span_of(c->text, c->size);
	if (!c->exists) {
		begin_file(&text);
		before = span_none();
	}
	return store(c, !word.overflow && user_edit_add(before, buf_span(&word), &text), &text);
}

static int
run_passwd(struct user_command *c)
{
	uint8_t memory[SASL_VERIFIER_TEXT_MAX];
	struct buf word = buf_of(memory, sizeof memory);
	struct span before = span_of(c->text, c->size);
	struct user_place place;

	if (!user_edit_find(before, c->name, &place))
		return refuse(REFUSED, "there is no user %.*s", SPAN_ARG(c->name));
	int status = make_verifier(c, &word);
	if (status != DONE)
		return status;
	struct buf text = room_for(c);
	return store(c, user_edit_verifier(before, place, buf_span(&word), &text), &text);
}

static int
run_remove(struct user_command *c)
{
	struct span before = span_of(c->text, c->size);
	struct user_place place;

	if (!user_edit_find(before, c->name, &place))
		return refuse(REFUSED, "there is no user %.*s", SPAN_ARG(c->name));
	struct buf text = room_for(c);
	return store(c, user_edit_remove(before, place, &text), &text);
}

static int
run_list(struct user_command *c)
{
	static uint8_t memory[2 * USER_LINE_MAX];
	struct span text = span_of(c->text, c->size);
	struct user_place place;
	struct span name;
	size_t at = 0;

	if (!c->exists)
		return refuse(REFUSED, "%s: there is no such file", c->path);
	while (user_edit_next(text, &at, &place, &name)) {
		struct buf line = buf_of(memory, sizeof memory);
		user_edit_show(span_first(span_after(text, place.at), place.size), &line);
		fwrite(memory, 1, line.size, stdout);
	}
	return DONE;
}

static const struct command commands[] = {
	{ "add", true, true, run_add, "A new user, with a password that is asked for." },
	{ "passwd", true, false, run_passwd, "Another password for a user." },
	{ "list", false, false, run_list, "All users and what they may do." },
	{ "remove", true, false, run_remove, "The user is no more." },
};

enum { COMMANDS = sizeof commands / sizeof commands[0] };

void
user_help(struct buf *out)
{
	buf_append_string(
		out, "usage: ringpostctl user add NAME [WORD...] [OPTION...]\n"
		     "       ringpostctl user passwd NAME [OPTION...]\n"
		     "       ringpostctl user list [OPTION...]\n"
		     "       ringpostctl user remove NAME [OPTION...]\n"
		     "\n"
		     "The password comes from the terminal, or is the first line of standard "
		     "input. ringpostd reads the\n"
		     "changed file by itself.\n"
		     "\n"
		     "  --file FILE       of users (" STANDARD_FILE ")\n"
		     "  --config FILE     of ringpostd, which names it in users.file\n"
		     "  --iterations N    of PBKDF2-HMAC-SHA-256 (100000)\n"
		     "  --no-password     for a user who has a certificate\n"
		     "\n"
		     "Words, as in the file:\n"
		     "  from=LIST         what may be sent from: ann@example.org, @example.org, * "
		     "(the name, if it is an\n"
		     "                    address)\n"
		     "  certificate=LIST  SHA-256 fingerprints of client certificates\n"
		     "  mails_per_hour=N mails_per_day=N recipients_per_hour=N "
		     "recipients_per_day=N connections=N\n"
		     "                    in place of what the configuration says; none: no limit\n"
		     "  disabled          may not log in\n");
}

void
user_list_commands(struct buf *out)
{
	for (unsigned i = 0; i < COMMANDS; i++)
		buf_printf(out, "user %s --file --config --iterations --no-password\n",
			   commands[i].name);
}

/* ---- the command line ---- */

/* The file, and whose a new one shall be, from the configuration. */
static int
use_config(struct user_command *c, const char *path)
{
	struct config_errors errors = { 0 };
	const struct config *config = config_load(path, &errors);

	if (config == NULL)
		return refuse(REFUSED, "%s", errors.lines[0]);
	if (!config_names_file(config->users.file))
		return refuse(REFUSED, "%s names no users.file; add it, or use --file", path);
	c->path = (const char *)config->users.file.data; /* kept to the end of the program */
	if (config->user.size > 0 && geteuid() == 0) {
		const struct passwd *entry = getpwnam((const char *)config->user.data);
		if (entry == NULL)
			return refuse(REFUSED, "%s: there is no user %.*s on this host", path,
				      SPAN_ARG(config->user));
		c->owner = entry->pw_uid;
		c->group = entry->pw_gid;
	}
	return DONE;
}

static int
print_help(void)
{
	static uint8_t memory[4096];
	struct buf out = buf_of(memory, sizeof memory);

	user_help(&out);
	fwrite(memory, 1, out.size, stdout);
	return DONE;
}

static int
read_options(struct user_command *c, int argc, char **argv, bool *help)
{
	static const struct option options[] = {
		{ "file", required_argument, NULL, 'f' },
		{ "config", required_argument, NULL, 'c' },
		{ "iterations", required_argument, NULL, 'i' },
		{ "no-password", no_argument, NULL, 'n' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	uint64_t number;
	int option, status;

	while ((option = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		switch (option) {
		case 'f':
			c->path = optarg;
			break;
		case 'c':
			status = use_config(c, optarg);
			if (status != DONE)
				return status;
			break;
		case 'i':
			if (!span_to_u64(span_of_string(optarg), &number) ||
			    number < SASL_ITERATIONS_MIN || number > SASL_ITERATIONS_MAX)
				return refuse(USAGE, "--iterations: must be 4096 to 10000000");
			c->iterations = (uint32_t)number;
			break;
		case 'n':
			c->no_password = true;
			break;
		case 'h':
			*help = true;
			break;
		default:
			return USAGE; /* getopt has said why */
		}
	}
	return DONE;
}

static int
run(const struct command *command, struct user_command *c)
{
	int status = read_users(c);

	if (status == DONE)
		status = command->run(c);
	if (c->text != NULL)
		explicit_bzero(c->text, c->size);
	free(c->text);
	return status;
}

int
user_main(int argc, char **argv)
{
	static struct user_command c = { .path = STANDARD_FILE, .iterations = ITERATIONS };
	bool help = false;

	c.owner = geteuid();
	c.group = getegid();
	int status = read_options(&c, argc, argv, &help);
	if (status != DONE || help)
		return status != DONE ? status : print_help();
	const char *word = optind < argc ? argv[optind++] : "";
	for (unsigned i = 0; i < COMMANDS; i++) {
		const struct command *command = &commands[i];
		if (strcmp(word, command->name) != 0)
			continue;
		if (command->needs_name) {
			c.name = span_of_string(optind < argc ? argv[optind++] : "");
			if (!user_line_is_name(c.name))
				return refuse(USAGE,
					      "user %s needs a user name: 1 to 255 bytes "
					      "without blanks",
					      word);
		}
		c.words = argv + optind;
		if (!command->takes_words && optind < argc)
			return refuse(USAGE, "user %s takes no word %.100s", word, argv[optind]);
		return run(command, &c);
	}
	return refuse(USAGE,
		      "user needs a word more: add, passwd, list or remove; see user --help");
}
