/* SPDX-License-Identifier: Apache-2.0
 *
 * replay: runs a fuzz target over the files of its corpus, in builds without libFuzzer. A corpus
 * that is empty or missing fails.
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned
replay_file(const char *folder, const char *name)
{
	char path[4096];

	snprintf(path, sizeof path, "%s/%s", folder, name);
	FILE *in = fopen(path, "rb");
	if (in == NULL || fseek(in, 0, SEEK_END) != 0) {
		perror(path);
		exit(1);
	}
	size_t size = (size_t)ftell(in);
	uint8_t *data = malloc(size + (size == 0)); /* exact: a look behind it is caught */
	rewind(in);
	if (data == NULL || fread(data, 1, size, in) != size) {
		perror(path);
		exit(1);
	}
	fclose(in);
	LLVMFuzzerTestOneInput(data, size);
	free(data);
	return 1;
}

int
main(int argc, char **argv)
{
	unsigned count = 0;

	for (int i = 1; i < argc; i++) {
		DIR *folder = opendir(argv[i]);
		if (folder == NULL) {
			perror(argv[i]);
			return 1;
		}
		for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
			if (entry->d_name[0] != '.')
				count += replay_file(argv[i], entry->d_name);
		}
		closedir(folder);
	}
	printf("%u files\n", count);
	return count > 0 ? 0 : 1;
}
