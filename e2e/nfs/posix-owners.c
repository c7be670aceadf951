/* Owners and modes: who may do what, whom new files belong to, which bits a change takes away. */
#include "posix.h"

enum { ANNA = 1001, BEN = 1002, TEAM = 2000, OTHERS = 3000 };

static void mode(const char *what, const char *name) {
  char label[128], value[16];
  snprintf(label, sizeof label, "mode %s", what);
  snprintf(value, sizeof value, "%04o", of(name).st_mode & 07777);
  text(label, value);
}

static void modes(void) {
  file("m", "m");
  folder("md");
  static const mode_t some[] = {0, 0777, 01777, 02755, 04755, 07777, 0111, 0444, 02644};
  for (unsigned n = 0; n < sizeof some / sizeof some[0]; n++) {
    char label[32];
    snprintf(label, sizeof label, "%04o", some[n]);
    result(label, chmod("m", some[n]));
    mode("of a file", "m");
    result(label, chmod("md", some[n]));
    mode("of a directory", "md");
  }
  umask(077);
  file("private", "");
  mkdir("private-d", 0777);
  mode("of a new file under umask 077", "private");
  mode("of a new directory under umask 077", "private-d");
  umask(0);
  close(open("open", O_CREAT | O_WRONLY, 07777));
  mkdir("open-d", 07777);
  mode("of a file made with 7777", "open");
  mode("of a directory made with 7777", "open-d");
  mkfifo("open-f", 0777);
  mode("of a FIFO made with 777", "open-f");
  umask(022);
}

static void group_directories(void) {
  folder("g");
  chown("g", ANNA, TEAM);
  chmod("g", 02775);
  as(ANNA, ANNA, TEAM);
  file("g/f", "f");
  number("group of a file in a set-group-id directory", of("g/f").st_gid);
  folder("g/d");
  number("group of a directory in it", of("g/d").st_gid);
  mode("of the directory in it", "g/d");
  folder("g/d/e");
  number("group one deeper", of("g/d/e").st_gid);
  symlink("x", "g/s");
  number("group of a symbolic link in it", of("g/s").st_gid);
  mkfifo("g/p", 0644);
  number("group of a FIFO in it", of("g/p").st_gid);
  close(open("g/x", O_CREAT | O_WRONLY, 02755));
  mode("of a set-group-id program made in it", "g/x");
  as(BEN, BEN, OTHERS);
  TRY(open("g/ben", O_CREAT | O_WRONLY, 0644));
  as(BEN, BEN, TEAM);
  TRY(open("g/ben", O_CREAT | O_WRONLY, 02755));
  number("owner of it", of("g/ben").st_uid);
  number("group of it", of("g/ben").st_gid);
  mode("of it", "g/ben");
  as(0, 0, 0);
  folder("plain");
  chown("plain", ANNA, TEAM);
  as(ANNA, ANNA, TEAM);
  file("plain/f", "f");
  number("group of a file in another directory", of("plain/f").st_gid);
  as(0, 0, 0);
}

static void changes(void) {
  file("c", "c");
  chown("c", ANNA, ANNA);
  as(ANNA, ANNA, TEAM);
  TRY(chown("c", BEN, (gid_t)-1));
  TRY(chown("c", ANNA, (gid_t)-1));
  TRY(chown("c", (uid_t)-1, TEAM));
  TRY(chown("c", (uid_t)-1, OTHERS));
  TRY(chmod("c", 06755));
  mode("06755 by its owner", "c");
  int fd = open("c", O_WRONLY);
  TRY(write(fd, "x", 1));
  close(fd);
  mode("after its owner's write", "c");
  chmod("c", 06755);
  TRY(truncate("c", 0));
  mode("after its owner's truncate", "c");
  chmod("c", 06755);
  TRY(chown("c", (uid_t)-1, ANNA));
  mode("after its owner's chown", "c");
  chmod("c", 02644);
  mode("02644", "c");
  TRY(chown("c", (uid_t)-1, TEAM));
  mode("02644 after chown", "c");
  as(0, 0, 0);
  file("nogroup", "");
  chown("nogroup", ANNA, OTHERS);
  as(ANNA, ANNA, TEAM);
  TRY(chmod("nogroup", 02755));
  mode("set-group-id of a group that is not one's own", "nogroup");
  as(0, 0, 0);
  chmod("c", 06755);
  TRY(chown("c", BEN, TEAM));
  mode("after the superuser's chown", "c");
  chmod("c", 06755);
  fd = open("c", O_WRONLY);
  TRY(write(fd, "x", 1));
  close(fd);
  mode("after the superuser's write", "c");
  as(BEN, BEN, BEN);
  TRY(chmod("m", 0644));
  TRY(chown("m", BEN, BEN));
  TRY(truncate("m", 0));
  as(0, 0, 0);
  TRY(chown("m", 4294967294u, 4294967294u));
  number("largest owner", of("m").st_uid);
}

static void access_rights(void) {
  folder("r");
  file("r/secret", "secret");
  chmod("r/secret", 0600);
  file("r/shared", "shared");
  chown("r/shared", ANNA, TEAM);
  chmod("r/shared", 0640);
  file("r/locked", "locked");
  chown("r/locked", ANNA, TEAM);
  chmod("r/locked", 0);
  file("r/inverse", "inverse");
  chown("r/inverse", ANNA, TEAM);
  chmod("r/inverse", 0066);
  as(BEN, BEN, OTHERS);
  TRY(open("r/secret", O_RDONLY));
  TRY(open("r/shared", O_RDONLY));
  TRY(open("r/new", O_CREAT | O_WRONLY, 0644));
  TRY(unlink("r/shared"));
  TRY(rename("r/shared", "r/x"));
  TRY(mkdir("r/x", 0755));
  TRY(symlink("x", "r/x"));
  TRY(mkfifo("r/x", 0644));
  TRY(link("r/inverse", "r/x"));
  TRY(open("r/inverse", O_RDWR));
  TRY(faccessat(AT_FDCWD, "r/shared", R_OK, AT_EACCESS));
  TRY(faccessat(AT_FDCWD, "r/inverse", W_OK, AT_EACCESS));
  as(BEN, BEN, TEAM);
  TRY(open("r/shared", O_RDONLY));
  TRY(open("r/shared", O_WRONLY));
  as(ANNA, ANNA, TEAM);
  TRY(open("r/locked", O_RDONLY));
  TRY(open("r/inverse", O_RDONLY));
  TRY(open("r/shared", O_RDWR));
  as(0, 0, 0);
  TRY(open("r/locked", O_RDWR));
  TRY(faccessat(AT_FDCWD, "r/locked", X_OK, AT_EACCESS));
  chown("r", ANNA, TEAM);
  as(ANNA, ANNA, TEAM);
  int fd = open("r/shared", O_RDWR);
  TRY(fchmod(fd, 0));
  TRY(pwrite(fd, "late", 4, 0));
  TRY(fsync(fd));
  char bytes[8];
  TRY(pread(fd, bytes, 4, 0));
  close(fd);
  TRY(open("r/shared", O_RDONLY));
  /* A new file without permissions is still its maker's to write, by the descriptor that made it. */
  fd = open("r/readonly", O_CREAT | O_EXCL | O_RDWR, 0444);
  TRY(write(fd, "content", 7));
  TRY(close(fd));
  text("content of what was made read-only", content("r/readonly"));
  as(0, 0, 0);
  chmod("r", 0700);
  as(BEN, BEN, TEAM);
  TRY(open("r/readonly", O_RDONLY));
  TRY(open("r", O_RDONLY));
  as(0, 0, 0);
  chmod("r", 0711);
  as(BEN, BEN, TEAM);
  TRY(open("r/readonly", O_RDONLY));
  TRY(open("r", O_RDONLY));
  as(0, 0, 0);
  chmod("r", 0744);
  as(BEN, BEN, OTHERS);
  TRY(open("r", O_RDONLY));
  TRY(open("r/readonly", O_RDONLY));
  TRY(access("r/missing", F_OK));
  as(0, 0, 0);
  folder("sticky");
  chmod("sticky", 01777);
  as(ANNA, ANNA, TEAM);
  file("sticky/anna", "");
  folder("sticky/anna-d");
  as(BEN, BEN, TEAM);
  file("sticky/ben", "");
  TRY(unlink("sticky/anna"));
  TRY(rename("sticky/anna", "sticky/x"));
  TRY(rename("sticky/ben", "sticky/anna"));
  TRY(rmdir("sticky/anna-d"));
  TRY(rename("sticky/ben", "sticky/y"));
  TRY(unlink("sticky/y"));
  as(0, 0, 0);
  TRY(unlink("sticky/anna"));
}

void owners(void) {
  modes();
  group_directories();
  changes();
  access_rights();
}
