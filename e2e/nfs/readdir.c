/*
 * readdir FOLDER ENTRIES: a directory of so many names, read while others come and go. Each name that stayed must be seen exactly once,
 * whatever happens beside it; positions (telldir) stay valid; removing while reading leaves nothing. Facts go to standard output, the
 * first violation to standard error with exit status 1.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static long entries;
static unsigned char *seen;

/* A fact on standard output, and on standard error when it was reached. */
static void reached(const char *fact) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  printf("%s\n", fact);
  fprintf(stderr, "%ld.%03ld %s\n", (long)now.tv_sec, now.tv_nsec / 1000000, fact);
}

static void failed(const char *what, const char *name) {
  fprintf(stderr, "readdir: %s: %s (%s)\n", what, name, strerror(errno));
  exit(1);
}

static void name_of(char *name, long n) { snprintf(name, 64, "stays-%07ld-%s", n, n % 3 == 0 ? "with-a-longer-name" : "x"); }

static void make(const char *name) {
  int fd = open(name, O_CREAT | O_EXCL | O_WRONLY, 0644);
  if (fd < 0) failed("create", name);
  close(fd);
}

/* Notes one name; those that come and go are counted and may be seen or not. */
static long note(const struct dirent *entry) {
  if (strncmp(entry->d_name, "stays-", 6) != 0) return -1;
  long n = atol(entry->d_name + 6);
  if (n < 0 || n >= entries) failed("a name that nobody made", entry->d_name);
  if (seen[n]++ != 0) failed("seen twice", entry->d_name);
  return n;
}

static void all_seen(const char *when) {
  char name[64];
  for (long n = 0; n < entries; n++)
    if (seen[n] != 1) {
      name_of(name, n);
      failed(when, name);
    }
  memset(seen, 0, (size_t)entries);
}

static void whole(DIR *directory, const char *when) {
  struct dirent *entry;
  errno = 0;
  while ((entry = readdir(directory)) != NULL) note(entry);
  if (errno != 0) failed("readdir", when);
  all_seen(when);
}

/* Makes and removes names, of which some take the places of those removed, until it is killed. */
static void churn(int which, volatile long *done) {
  char name[64], other[128];
  for (long n = 0;; n++) {
    snprintf(name, sizeof name, "goes-%d-%ld", which, n % 50);
    make(name);
    snprintf(other, sizeof other, "%s-renamed-to-something-longer", name);
    if (n % 2 == 0 && rename(name, other) != 0) failed("rename", name);
    if (unlink(n % 2 == 0 ? other : name) != 0) failed("unlink", name);
    ++*done;
  }
}

int main(int argc, char **argv) {
  if (argc != 3) return 2;
  entries = atol(argv[2]);
  seen = calloc((size_t)entries, 1);
  if (mkdir(argv[1], 0755) != 0 || chdir(argv[1]) != 0) failed("mkdir", argv[1]);
  char name[64];
  for (long n = 0; n < entries; n++) {
    name_of(name, n);
    make(name);
  }
  reached("made");
  DIR *directory = opendir(".");
  if (directory == NULL) failed("opendir", argv[1]);
  whole(directory, "at rest");
  reached("at rest: each once");
  pid_t children[2];
  volatile long *done = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  for (int n = 0; n < 2; n++)
    if ((children[n] = fork()) == 0) churn(n, done + n);
  long listings = 0;
  for (; listings < 10 || done[0] + done[1] < entries / 10; listings++) {
    rewinddir(directory);
    whole(directory, "while others come and go");
    /* Opened anew: the client asks whether its cache is still good. */
    DIR *fresh = opendir(".");
    whole(fresh, "opened anew while others come and go");
    closedir(fresh);
    if (waitpid(-1, NULL, WNOHANG) != 0) failed("a program that makes and removes names", "ended");
  }
  reached("while others come and go: each once");
  fprintf(stderr, "%ld listings while %ld names came and went\n", 2 * listings, done[0] + done[1]);
  for (int n = 0; n < 2; n++) {
    kill(children[n], SIGKILL);
    waitpid(children[n], NULL, 0);
  }
  /* Positions, taken on the way, lead back to the same name, in any order. */
  enum { EVERY = 97 };
  long *positions = malloc(sizeof(long) * (size_t)(entries / EVERY + 2)), *numbers = malloc(sizeof(long) * (size_t)(entries / EVERY + 2)), count = 0, at = 0;
  closedir(directory);
  directory = opendir(".");
  struct dirent *entry;
  for (long before = telldir(directory); (entry = readdir(directory)) != NULL; before = telldir(directory)) {
    if (strncmp(entry->d_name, "stays-", 6) != 0 || at++ % EVERY != 0) continue;
    positions[count] = before;
    numbers[count++] = atol(entry->d_name + 6);
  }
  for (long n = 0; n < count; n++) {
    long which = (n * 7919) % count;
    seekdir(directory, positions[which]);
    entry = readdir(directory);
    if (entry == NULL) failed("seekdir", "nothing there");
    if (atol(entry->d_name + 6) != numbers[which]) failed("seekdir led elsewhere", entry->d_name);
    struct stat info;
    if (lstat(entry->d_name, &info) != 0 || info.st_ino != entry->d_ino) failed("another inode number", entry->d_name);
  }
  reached("positions lead back");
  /* Half is removed by somebody else while a reader stands in the middle. */
  rewinddir(directory);
  for (long n = 0; n < entries / 2 && (entry = readdir(directory)) != NULL; n++) note(entry);
  for (long n = 0; n < entries; n += 2) {
    name_of(name, n);
    if (unlink(name) != 0) failed("unlink", name);
    seen[n] = 1;
  }
  while ((entry = readdir(directory)) != NULL)
    if (strncmp(entry->d_name, "stays-", 6) == 0 && atol(entry->d_name + 6) % 2 == 1) note(entry);
  all_seen("half removed while reading");
  reached("half removed while reading: each of the rest once");
  closedir(directory);
  /* As rm -r does: read and remove what was read, to the end. */
  directory = opendir(".");
  while ((entry = readdir(directory)) != NULL)
    if (entry->d_name[0] != '.' && unlink(entry->d_name) != 0) failed("unlink", entry->d_name);
  closedir(directory);
  if (chdir("..") != 0 || rmdir(argv[1]) != 0) failed("rmdir after removing all that was read", argv[1]);
  reached("removed while reading: empty");
  return 0;
}
