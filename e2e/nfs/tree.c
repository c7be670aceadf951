/*
 * tree FOLDER FILES: makes a tree of so many files, the same at every run: directories of up to 100 files three deep, sizes from
 * nothing to a few hundred KiB (most are small), holes, hard links, symbolic links, several modes and owners, times to the nanosecond.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static uint64_t state = 88172645463325252ULL;
static uint64_t chance(uint64_t below) {
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return (state >> 11) % below;
}

static void check(int ok, const char *what) {
  if (ok) return;
  fprintf(stderr, "tree: %s: %s\n", what, strerror(errno));
  exit(1);
}

static char content[512 * 1024];

int main(int argc, char **argv) {
  if (argc != 3) return 2;
  long files = atol(argv[2]);
  check(mkdir(argv[1], 0755) == 0 && chdir(argv[1]) == 0, argv[1]);
  for (size_t n = 0; n < sizeof content; n++) content[n] = (char)chance(256);
  char folder[64], name[128], last[128] = "";
  for (long n = 0; n < files; n++) {
    if (n % 10000 == 0) {
      snprintf(folder, sizeof folder, "d%ld", n / 10000);
      check(mkdir(folder, 0755) == 0, folder);
    }
    if (n % 100 == 0) {
      snprintf(folder, sizeof folder, "d%ld/e%ld", n / 10000, n / 100);
      check(mkdir(folder, n % 300 == 0 ? 02775 : 0755) == 0, folder);
    }
    snprintf(name, sizeof name, "%s/file-%ld", folder, n);
    uint64_t kind = chance(1000);
    if (kind < 20 && last[0] != 0) {
      check(link(last, name) == 0, name);
      continue;
    }
    if (kind < 40) {
      check(symlink("../e0/file-0", name) == 0, name);
      continue;
    }
    size_t size = kind < 60 ? 0 : kind < 70 ? chance(sizeof content) : chance(4096);
    int fd = open(name, O_CREAT | O_EXCL | O_WRONLY, 0600);
    check(fd >= 0, name);
    check(write(fd, content + chance(sizeof content - size), size) == (ssize_t)size, name);
    if (kind == 69) check(ftruncate(fd, (off_t)size + 1000000) == 0, name);
    static const mode_t modes[] = {0644, 0600, 0755, 04755, 0444, 0640};
    if (chance(10) == 0) check(fchown(fd, (uid_t)chance(3000), (gid_t)chance(3000)) == 0, name);
    check(fchmod(fd, modes[chance(6)]) == 0, name);
    struct timespec times[2] = {{1000000000 + (time_t)chance(700000000), (long)chance(1000000000)}, {0, 0}};
    times[1] = times[0];
    check(futimens(fd, times) == 0, name);
    close(fd);
    strcpy(last, name);
  }
  return 0;
}
