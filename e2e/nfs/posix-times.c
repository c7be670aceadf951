/* Times: set to the nanosecond, kept, and moved by what must move them and by nothing else. */
#include "posix.h"
#include <time.h>

static void show(const char *what, const char *name) {
  struct stat info = of(name);
  char label[128];
  snprintf(label, sizeof label, "%s: mtime", what);
  number(label, info.st_mtim.tv_sec);
  snprintf(label, sizeof label, "%s: mtime's nanoseconds", what);
  number(label, info.st_mtim.tv_nsec);
  snprintf(label, sizeof label, "%s: atime's nanoseconds", what);
  number(label, info.st_atim.tv_nsec);
}

static int later(struct timespec a, struct timespec b) {
  return a.tv_sec > b.tv_sec || (a.tv_sec == b.tv_sec && a.tv_nsec > b.tv_nsec);
}

static struct stat before;
/* Tells which of the three times of `name` have moved since `before`. */
static void moved(const char *what, const char *name) {
  struct stat info = of(name);
  char label[160], value[8];
  snprintf(label, sizeof label, "moved by %s", what);
  snprintf(value, sizeof value, "%s%s", later(info.st_mtim, before.st_mtim) ? "m" : "", later(info.st_ctim, before.st_ctim) ? "c" : "");
  text(label, value);
  before = info;
  tick();
}

static void watch(const char *name) {
  tick();
  before = of(name);
  tick();
}

void times(void) {
  file("f", "f");
  folder("d");
  symlink("f", "s");
  struct timespec exact[2] = {{1234567890, 987654321}, {1700000000, 123456789}};
  TRY(utimensat(AT_FDCWD, "f", exact, 0));
  show("file", "f");
  TRY(utimensat(AT_FDCWD, "d", exact, 0));
  show("directory", "d");
  TRY(utimensat(AT_FDCWD, "s", exact, AT_SYMLINK_NOFOLLOW));
  show("symbolic link", "s");
  exact[0].tv_nsec = UTIME_OMIT;
  exact[1] = (struct timespec){1, 1};
  TRY(utimensat(AT_FDCWD, "f", exact, 0));
  show("only mtime", "f");
  exact[0] = (struct timespec){2, 2};
  exact[1].tv_nsec = UTIME_OMIT;
  TRY(utimensat(AT_FDCWD, "f", exact, 0));
  show("only atime", "f");
  exact[0].tv_nsec = exact[1].tv_nsec = UTIME_NOW;
  TRY(utimensat(AT_FDCWD, "f", exact, 0));
  number("now is now", labs((long)(of("f").st_mtime - time(NULL))) < 30);
  exact[0] = (struct timespec){3, 3};
  exact[1] = (struct timespec){0, 0};
  TRY(utimensat(AT_FDCWD, "f", exact, 0));
  show("the epoch", "f");
  exact[1] = (struct timespec){4294967295, 999999999};
  TRY(utimensat(AT_FDCWD, "f", exact, 0));
  show("the last second of NFSv3", "f");
  exact[1] = (struct timespec){0, 1000000000};
  TRY(utimensat(AT_FDCWD, "f", exact, 0));

  as(1001, 1001, 1001);
  TRY(utimensat(AT_FDCWD, "f", NULL, 0));
  as(0, 0, 0);
  chmod("f", 0666);
  as(1001, 1001, 1001);
  TRY(utimensat(AT_FDCWD, "f", NULL, 0));
  exact[0] = exact[1] = (struct timespec){5, 5};
  TRY(utimensat(AT_FDCWD, "f", exact, 0));
  as(0, 0, 0);

  file("w", "w");
  watch("w");
  file("w", "more");
  moved("a write", "w");
  chmod("w", 0600);
  moved("chmod", "w");
  chown("w", 5, 5);
  moved("chown", "w");
  link("w", "w2");
  moved("link", "w");
  unlink("w2");
  moved("unlink of another name", "w");
  rename("w", "w3");
  moved("rename of it", "w3");
  truncate("w3", 2);
  moved("truncate", "w3");
  truncate("w3", 2);
  moved("truncate to the same size", "w3");
  content("w3");
  moved("reading", "w3");
  close(open("w3", O_WRONLY | O_TRUNC));
  moved("O_TRUNC", "w3");
  close(open("w3", O_WRONLY | O_TRUNC));
  moved("O_TRUNC of an empty file", "w3");
  chmod("w3", 0600);
  moved("chmod to the same", "w3");
  folder("p");
  watch("p");
  file("p/a", "a");
  moved("a new file in it", "p");
  file("p/a", "b");
  moved("a write to a file in it", "p");
  rename("p/a", "p/b");
  moved("a rename in it", "p");
  link("p/b", "p/c");
  moved("a link in it", "p");
  unlink("p/c");
  moved("an unlink in it", "p");
  mkdir("p/d", 0755);
  moved("mkdir in it", "p");
  rmdir("p/d");
  moved("rmdir in it", "p");
  symlink("x", "p/s");
  moved("symlink in it", "p");
  rename("p/b", "away");
  moved("a rename out of it", "p");
  rename("away", "p/b");
  moved("a rename into it", "p");
  rename("p/missing", "p/x");
  moved("a rename that failed", "p");
  DIR *directory = opendir("p");
  while (readdir(directory) != NULL) continue;
  closedir(directory);
  moved("being listed", "p");
}
