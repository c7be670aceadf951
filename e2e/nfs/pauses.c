/*
 * pauses FILE LOG STOP: what a client feels. Writes a few bytes of FILE through to the server every 20 ms; every write that took more
 * than 100 ms is a line `<began, ms since 1970> <took, ms>` in LOG, a failed one `error <errno>`. Ends when the file STOP is there, with
 * a last line `writes <count>`.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static long long now(void) {
  struct timespec t;
  clock_gettime(CLOCK_REALTIME, &t);
  return t.tv_sec * 1000LL + t.tv_nsec / 1000000;
}

/* Opened and closed for each line: the folder is shared with another kernel, which sees what was closed. */
static void note(const char *log, const char *format, long long a, long long b) {
  FILE *file = fopen(log, "a");
  if (file == NULL) exit(2);
  fprintf(file, format, a, b);
  fclose(file);
}

int main(int argc, char **argv) {
  if (argc != 4) return 2;
  int fd = open(argv[1], O_RDWR | O_CREAT | O_SYNC, 0644);
  if (fd < 0) {
    note(argv[2], "error %lld\n", errno, 0);
    return 1;
  }
  long long writes = 0;
  while (access(argv[3], F_OK) != 0) {
    long long began = now();
    if (pwrite(fd, &writes, sizeof writes, (writes % 512) * (long long)sizeof writes) != sizeof writes) note(argv[2], "error %lld\n", errno, 0);
    long long took = now() - began;
    if (took > 100) note(argv[2], "%lld %lld\n", began, took);
    writes++;
    usleep(20000);
  }
  note(argv[2], "writes %lld\n", writes, 0);
  return 0;
}
