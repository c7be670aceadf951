/*
 * fsx FILE SEED OPERATIONS: random operations on one file through every way that a program has to its bytes, each compared with a
 * model in memory: read, write, append, shared mapping, direct I/O, truncation up and down, copying within the file, flush, dropped
 * page cache, closed and opened again. The model's bytes are left in /tmp/FILE.model, and `fsx --compare FILE` compares them later, after
 * a fresh mount for example. Exit status 1 at the first difference, with the last operations.
 *
 * Not done: what NFSv3 has no call for (punching holes, collapsing ranges). Holes come from writing beyond the end and truncating.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_SIZE (1 << 20)
#define MAX_LENGTH (64 * 1024)
#define PAGE 4096

static unsigned char model[MAX_SIZE];
static long size;
static int fd = -1, direct = -1;
static const char *path;
static unsigned char *buffer;
static uint64_t state;
static char history[16][96];
static long operation;

static uint64_t chance(uint64_t below) {
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return (state >> 11) % below;
}

static void failed(const char *what) {
  fprintf(stderr, "fsx %s: operation %ld: %s (%s); before it:\n", path, operation, what, strerror(errno));
  for (long n = operation < 15 ? 0 : operation - 15; n <= operation; n++) fprintf(stderr, "  %s\n", history[n % 16]);
  exit(1);
}

static void note(const char *what, long from, long length) {
  snprintf(history[operation % 16], sizeof history[0], "%ld: %s at %ld, length %ld, size %ld", operation, what, from, length, size);
}

static void same(const unsigned char *found, long from, long length, const char *what) {
  for (long n = 0; n < length; n++)
    if (found[n] != model[from + n]) {
      fprintf(stderr, "fsx %s: byte %ld is %02x, should be %02x\n", path, from + n, found[n], model[from + n]);
      errno = 0;
      failed(what);
    }
}

static void grow(long to) {
  if (to <= size) return;
  memset(model + size, 0, (size_t)(to - size));
  size = to;
}

static void fill(long length) {
  unsigned char first = (unsigned char)chance(256);
  for (long n = 0; n < length; n++) buffer[n] = (unsigned char)(first + n * 7 + (n >> 8));
}

static void open_both(void) {
  fd = open(path, O_RDWR);
  direct = open(path, O_RDWR | O_DIRECT);
  if (fd < 0 || direct < 0) failed("open");
}

static void check_size(void) {
  struct stat info;
  if (fstat(fd, &info) != 0) failed("fstat");
  if (info.st_size != size) {
    fprintf(stderr, "fsx %s: size is %lld, should be %ld\n", path, (long long)info.st_size, size);
    failed("size");
  }
}

static void read_some(int which, const char *what) {
  long from = (long)chance((uint64_t)MAX_SIZE), length = 1 + (long)chance(MAX_LENGTH);
  if (which == direct) from &= ~511L, length = (length + 511) & ~511L;
  note(what, from, length);
  long expected = from >= size ? 0 : from + length > size ? size - from : length;
  ssize_t got = pread(which, buffer, (size_t)length, from);
  if (got != expected) failed(what);
  same(buffer, from, expected, what);
}

static void write_some(int which, const char *what) {
  long from = (long)chance((uint64_t)MAX_SIZE - MAX_LENGTH - 512), length = 1 + (long)chance(MAX_LENGTH);
  if (chance(3) != 0 && size > 0) from = (long)chance((uint64_t)size) % (MAX_SIZE - MAX_LENGTH - 512);
  if (which == direct) from &= ~511L, length = (length + 511) & ~511L;
  note(what, from, length);
  fill(length);
  if (pwrite(which, buffer, (size_t)length, from) != length) failed(what);
  grow(from + length);
  memcpy(model + from, buffer, (size_t)length);
}

static void append(void) {
  long length = 1 + (long)chance(5000);
  if (size + length > MAX_SIZE) return;
  note("append", size, length);
  fill(length);
  int end = open(path, O_WRONLY | O_APPEND);
  if (end < 0 || write(end, buffer, (size_t)length) != length || close(end) != 0) failed("append");
  long from = size;
  grow(from + length);
  memcpy(model + from, buffer, (size_t)length);
}

static void mapped(int writes) {
  if (size == 0) return;
  long from = (long)chance((uint64_t)size), length = 1 + (long)chance(MAX_LENGTH);
  if (from + length > size) length = size - from;
  long base = from & ~(long)(PAGE - 1);
  note(writes ? "mapped write" : "mapped read", from, length);
  unsigned char *map = mmap(NULL, (size_t)(from - base + length), PROT_READ | (writes ? PROT_WRITE : 0), MAP_SHARED, fd, base);
  if (map == MAP_FAILED) failed("mmap");
  if (writes) {
    fill(length);
    memcpy(map + (from - base), buffer, (size_t)length);
    memcpy(model + from, buffer, (size_t)length);
    if (chance(2) == 0 && msync(map, (size_t)(from - base + length), MS_SYNC) != 0) failed("msync");
  } else {
    same(map + (from - base), from, length, "mapped read");
  }
  if (munmap(map, (size_t)(from - base + length)) != 0) failed("munmap");
}

static void truncate_to(void) {
  long to = chance(2) == 0 && size > 0 ? (long)chance((uint64_t)size) : (long)chance(MAX_SIZE);
  note("truncate", to, 0);
  if (ftruncate(fd, to) != 0) failed("ftruncate");
  grow(to);
  size = to;
}

static void copy(void) {
  if (size < 2) return;
  long from = (long)chance((uint64_t)size), to = (long)chance((uint64_t)MAX_SIZE - MAX_LENGTH), length = 1 + (long)chance(MAX_LENGTH / 2);
  if (from + length > size) length = size - from;
  if (to < from + length && from < to + length) return; /* overlapping ranges are refused */
  note("copy", to, length);
  off64_t source = from, target = to;
  long left = length;
  while (left > 0) {
    ssize_t done = copy_file_range(fd, &source, fd, &target, (size_t)left, 0);
    if (done <= 0) {
      if (left == length && (errno == EXDEV || errno == EOPNOTSUPP || errno == EINVAL)) return;
      failed("copy_file_range");
    }
    left -= done;
  }
  unsigned char *moved = malloc((size_t)length);
  memcpy(moved, model + from, (size_t)length);
  grow(to + length);
  memcpy(model + to, moved, (size_t)length);
  free(moved);
}

static void reopen(void) {
  note("reopen", 0, 0);
  if (close(fd) != 0 || close(direct) != 0) failed("close");
  open_both();
}

static void drop(void) {
  note("fsync and drop", 0, 0);
  if (fsync(fd) != 0) failed("fsync");
  if (posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) != 0) failed("fadvise");
}

static void model_path(char *text) { snprintf(text, 256, "/tmp/%s.model", path); }

static int compare(void) {
  char name[256];
  model_path(name);
  FILE *file = fopen(name, "r");
  if (file == NULL) failed("no model");
  size = (long)fread(model, 1, sizeof model, file);
  fclose(file);
  fd = open(path, O_RDONLY);
  if (fd < 0) failed("open");
  check_size();
  unsigned char *found = malloc(MAX_SIZE + 1);
  long length = 0;
  ssize_t got;
  while ((got = read(fd, found + length, (size_t)(MAX_SIZE + 1 - length))) > 0) length += got;
  if (got < 0 || length != size) failed("read to the end");
  same(found, 0, size, "compare");
  return 0;
}

int main(int argc, char **argv) {
  if (argc == 3 && strcmp(argv[1], "--compare") == 0) {
    path = argv[2];
    return compare();
  }
  if (argc != 4) return 2;
  path = argv[1];
  state = 0x9E3779B97F4A7C15ULL * (strtoull(argv[2], NULL, 10) + 1);
  if (posix_memalign((void **)&buffer, PAGE, 2 * MAX_LENGTH) != 0) return 2;
  int made = open(path, O_CREAT | O_TRUNC | O_RDWR, 0644);
  if (made < 0) failed("create");
  close(made);
  open_both();
  long operations = atol(argv[3]);
  for (operation = 0; operation < operations; operation++) {
    switch (chance(16)) {
      case 0: case 1: read_some(fd, "read"); break;
      case 2: case 3: case 4: write_some(fd, "write"); break;
      case 5: append(); break;
      case 6: case 7: mapped(1); break;
      case 8: mapped(0); break;
      case 9: case 10: truncate_to(); break;
      case 11: read_some(direct, "direct read"); break;
      case 12: write_some(direct, "direct write"); break;
      case 13: copy(); break;
      case 14: reopen(); break;
      default: drop(); break;
    }
    check_size();
  }
  if (fsync(fd) != 0 || close(fd) != 0 || close(direct) != 0) failed("close");
  char name[256];
  model_path(name);
  FILE *file = fopen(name, "w");
  if (file == NULL || fwrite(model, 1, (size_t)size, file) != (size_t)size || fclose(file) != 0) failed("model");
  return compare();
}
