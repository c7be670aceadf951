/*
 * posix: what a file system answers in the corners of POSIX, as facts on standard output, one a line, the same at every run. It judges
 * nothing: whoever runs it compares the facts with those of a reference. Makes a folder for each area in the current one, as the superuser.
 */
#include "posix.h"
#include <grp.h>

static const char *area;

void result(const char *what, int status) {
  printf("%s: %s = %s\n", area, what, status < 0 ? strerrorname_np(errno) : "ok");
  fflush(stdout);
}

void number(const char *what, long long value) {
  printf("%s: %s = %lld\n", area, what, value);
  fflush(stdout);
}

void text(const char *what, const char *value) {
  printf("%s: %s = '%s'\n", area, what, value);
  fflush(stdout);
}

static void must(int status, const char *what) {
  if (status >= 0) return;
  fprintf(stderr, "posix: %s: %s: %s\n", area, what, strerror(errno));
  exit(1);
}

void as(uid_t uid, gid_t gid, gid_t group) {
  must(seteuid(0), "seteuid 0");
  must(setegid(gid), "setegid");
  must(setgroups(1, &group), "setgroups");
  must(seteuid(uid), "seteuid");
}

void file(const char *name, const char *bytes) {
  int fd = open(name, O_CREAT | O_TRUNC | O_WRONLY, 0644);
  must(fd, name);
  must((int)write(fd, bytes, strlen(bytes)), name);
  must(close(fd), name);
}

void folder(const char *name) { must(mkdir(name, 0755), name); }

struct stat of(const char *name) {
  struct stat info;
  must(lstat(name, &info), name);
  return info;
}

const char *content(const char *name) {
  static char bytes[256];
  int fd = open(name, O_RDONLY);
  if (fd < 0) return strerrorname_np(errno);
  ssize_t length = read(fd, bytes, sizeof bytes - 1);
  must((int)length, name);
  bytes[length] = 0;
  close(fd);
  return bytes;
}

void tick(void) { usleep(30000); }

static void run(const char *name, void (*body)(void)) {
  area = name;
  folder(name);
  must(chdir(name), name);
  body();
  as(0, 0, 0);
  must(chdir(".."), "..");
}

int main(void) {
  umask(022);
  run("names", names);
  run("times", times);
  run("owners", owners);
  run("data", data);
  return 0;
}
