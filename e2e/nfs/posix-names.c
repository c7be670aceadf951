/* Names: rename, link, unlink, directories, symbolic links, special files, long and strange names. */
#include "posix.h"
#include <sys/socket.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/wait.h>

static void renames(void) {
  file("a", "a");
  file("b", "b");
  TRY(rename("a", "b"));
  text("content after rename over a file", content("b"));
  TRY(access("a", F_OK));
  folder("empty");
  folder("full");
  file("full/x", "x");
  folder("d");
  TRY(rename("d", "empty"));
  folder("d");
  TRY(rename("d", "full"));
  TRY(rename("b", "d"));
  TRY(rename("d", "b"));
  TRY(rename("d", "d"));
  TRY(rename("d", "d/inside"));
  folder("d/deeper");
  TRY(rename("d", "d/deeper/inside"));
  TRY(rename("d/deeper", "d"));
  TRY(rename("b", "b"));
  TRY(rename("b", "b/x"));
  TRY(rename("missing", "x"));
  TRY(rename("b", "missing/x"));
  TRY(rename("d/.", "x"));
  TRY(rename("d/..", "x"));
  TRY(rename("b", ""));
  TRY(rename("b", "x/"));
  TRY(rename("d/", "e/"));
  TRY(link("b", "b2"));
  TRY(rename("b", "b2"));
  number("links after rename to a hard link of itself", of("b").st_nlink);
  TRY(access("b2", F_OK));
  number("links of full", of("full").st_nlink);
  TRY(rename("e", "full/e"));
  number("links of full after a directory came", of("full").st_nlink);
  number("links of . after a directory went", of(".").st_nlink);
  struct stat up = of("full/e/.."), full = of("full");
  number("its .. is the new parent", up.st_ino == full.st_ino);
  TRY(rename("full/e/deeper", "deeper"));
  number("links of full/e", of("full/e").st_nlink);
  TRY(symlink("b", "s"));
  TRY(rename("s", "s2"));
  TRY(readlink("s2", (char[8]){0}, 8));
  TRY(rename("b2", "s2"));
  number("what was a symbolic link is a file", S_ISREG(of("s2").st_mode));
  file("f", "f");
  file("g", "g");
  TRY(renameat2(AT_FDCWD, "f", AT_FDCWD, "g", RENAME_NOREPLACE));
  TRY(renameat2(AT_FDCWD, "f", AT_FDCWD, "g", RENAME_EXCHANGE));
  int fd = open("g", O_RDWR);
  char old[4] = {0};
  TRY(rename("f", "g"));
  number("read from what was replaced while open", pread(fd, old, 1, 0));
  text("its content", old);
  TRY(pwrite(fd, "new", 3, 0));
  close(fd);
  text("content of what replaced it", content("g"));
  folder("sub");
  TRY(rename("g", "sub/h"));
  TRY(rename("sub", "moved"));
  text("content below a renamed directory", content("moved/h"));
}

static void unlinks(void) {
  TRY(unlink("missing"));
  folder("u");
  TRY(unlink("u"));
  file("u/f", "content");
  TRY(rmdir("u"));
  TRY(rmdir("u/f"));
  TRY(rmdir("u/."));
  TRY(rmdir("u/.."));
  TRY(rmdir("missing"));
  TRY(unlink("u/f/x"));
  int fd = open("u/f", O_RDWR);
  TRY(unlink("u/f"));
  TRY(access("u/f", F_OK));
  struct stat info;
  char bytes[16] = {0};
  TRY(fstat(fd, &info));
  number("size of an open file without a name", info.st_size);
  number("read from it", pread(fd, bytes, 7, 0));
  text("content of it", bytes);
  TRY(pwrite(fd, "changed", 7, 0));
  TRY(ftruncate(fd, 3));
  TRY(fsync(fd));
  number("read again", pread(fd, bytes, 7, 0));
  TRY(rmdir("u"));
  TRY(close(fd));
  TRY(rmdir("u"));
  TRY(symlink("missing", "dangling"));
  TRY(unlink("dangling"));
  folder("gone");
  int directory = open("gone", O_RDONLY | O_DIRECTORY);
  TRY(rmdir("gone"));
  TRY(openat(directory, "x", O_CREAT | O_WRONLY, 0644));
  close(directory);
}

static void links(void) {
  file("l", "l");
  char name[32];
  for (int n = 0; n < 300; n++) {
    snprintf(name, sizeof name, "l%d", n);
    if (link("l", name) != 0) result(name, -1);
  }
  number("links of a file with 301 names", of("l").st_nlink);
  number("a name of it is the same file", of("l").st_ino == of("l299").st_ino);
  for (int n = 0; n < 300; n++) {
    snprintf(name, sizeof name, "l%d", n);
    if (unlink(name) != 0) result(name, -1);
  }
  number("links after removing 300", of("l").st_nlink);
  folder("ld");
  TRY(link("ld", "ld2"));
  TRY(link("l", "ld"));
  TRY(link("missing", "x"));
  TRY(link("l", "l/x"));
  TRY(link("l", "missing/x"));
  symlink("l", "ls");
  TRY(link("ls", "ls2"));
  number("a link to a symbolic link is one", S_ISLNK(of("ls2").st_mode));
  number("links of the symbolic link", of("ls").st_nlink);
  mkfifo("lf", 0644);
  TRY(link("lf", "lf2"));
  number("links of the FIFO", of("lf").st_nlink);
  int before = (int)of(".").st_nlink;
  folder("n1");
  folder("n2");
  number("links of a directory after two more in it", (long)of(".").st_nlink - before);
  rmdir("n1");
  number("after one less", (long)of(".").st_nlink - before);
}

static void symlinks(void) {
  char target[5000];
  const int lengths[] = {1, 59, 60, 255, 1000, 1023};
  for (unsigned n = 0; n < sizeof lengths / sizeof lengths[0]; n++) {
    char name[32], read[5000];
    for (int m = 0; m < lengths[n]; m++) target[m] = (char)(m % 50 == 49 ? '/' : 'a' + m % 26);
    target[lengths[n]] = 0;
    snprintf(name, sizeof name, "s%d", lengths[n]);
    result(name, symlink(target, name));
    number("length read", readlink(name, read, sizeof read));
    number("the same", memcmp(target, read, (size_t)lengths[n]) == 0);
    number("size", of(name).st_size);
  }
  memset(target, 'x', sizeof target);
  target[1024] = 0;
  result("symlink of 1024 bytes", symlink(target, "s1024"));
  TRY(symlink("", "s-empty"));
  TRY(symlink("loop", "loop"));
  TRY(open("loop", O_RDONLY));
  TRY(symlink("nowhere", "dangle"));
  TRY(open("dangle", O_RDONLY));
  TRY(open("dangle", O_RDONLY | O_NOFOLLOW));
  TRY(open("dangle", O_CREAT | O_EXCL | O_WRONLY, 0644));
  TRY(open("dangle", O_CREAT | O_WRONLY, 0644));
  TRY(access("nowhere", F_OK));
  TRY(mkdir("dangle", 0755));
  folder("sd");
  file("sd/f", "through");
  TRY(symlink("sd", "sdl"));
  text("through a symbolic link", content("sdl/f"));
  TRY(rmdir("sdl"));
  TRY(symlink("../names/sd/../sd/f", "dots"));
  text("through dots", content("dots"));
  TRY(readlink("sd/f", target, 10));
  TRY(lchown("dangle", 7, 8));
  number("owner of a symbolic link", of("dangle").st_uid);
  number("mode of a symbolic link", of("dangle").st_mode & 07777);
}

static void special(void) {
  TRY(mkfifo("fifo", 0622));
  number("a FIFO", S_ISFIFO(of("fifo").st_mode));
  pid_t child = fork();
  if (child == 0) {
    int fd = open("fifo", O_WRONLY);
    _exit(write(fd, "pipe", 4) == 4 ? 0 : 1);
  }
  char bytes[8] = {0};
  int fd = open("fifo", O_RDONLY);
  number("through a FIFO", read(fd, bytes, sizeof bytes));
  close(fd);
  int status;
  waitpid(child, &status, 0);
  text("what came", bytes);
  struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "socket"};
  int listener = socket(AF_UNIX, SOCK_STREAM, 0), client = socket(AF_UNIX, SOCK_STREAM, 0);
  TRY(bind(listener, (struct sockaddr *)&address, sizeof address));
  TRY(listen(listener, 1));
  number("a socket", S_ISSOCK(of("socket").st_mode));
  TRY(connect(client, (struct sockaddr *)&address, sizeof address));
  TRY(bind(client, (struct sockaddr *)&address, sizeof address));
  TRY(open("socket", O_RDONLY));
  close(client);
  close(listener);
  TRY(unlink("socket"));
  TRY(mknod("null", S_IFCHR | 0666, makedev(1, 3)));
  number("written to a device", write(open("null", O_WRONLY), "x", 1));
  TRY(mknod("block", S_IFBLK | 0600, makedev(511, 262143)));
  struct stat info = of("block");
  number("a block device", S_ISBLK(info.st_mode));
  number("its major number", major(info.st_rdev));
  number("its minor number", minor(info.st_rdev));
  TRY(mknod("plain", S_IFREG | 0640, 0));
  number("mode of a file by mknod", of("plain").st_mode);
  TRY(mknod("null", S_IFCHR | 0666, makedev(1, 3)));
}

static void strange(void) {
  char name[300], path[5000] = "";
  memset(name, 'n', sizeof name);
  name[256] = 0;
  result("a name of 256 bytes", open(name, O_CREAT | O_WRONLY, 0644));
  name[255] = 0;
  result("a name of 255 bytes", open(name, O_CREAT | O_WRONLY, 0644));
  number("found again", access(name, F_OK));
  name[254] = 'm';
  result("another at its last byte", mkdir(name, 0755));
  name[254] = 'l';
  result("link of that length", link("l", name));
  char umlaut[256] = "";
  for (int n = 0; n < 127; n++) strcat(umlaut, "\xc3\xa4");
  result("255 bytes of UTF-8", open(strcat(umlaut, "x"), O_CREAT | O_WRONLY, 0644));
  const char *odd[] = {"\xe6\x97\xa5\xe6\x9c\xac\xe8\xaa\x9e", "\xff\xfe\x80", "new\nline", "tab\t", " ", "...", "-rf", "a\\b", "\x01", "\x7f", "A", "a", "e\xcc\x81", "\xc3\xa9"};
  folder("odd");
  for (unsigned n = 0; n < sizeof odd / sizeof odd[0]; n++) {
    snprintf(path, sizeof path, "odd/%s", odd[n]);
    int fd = open(path, O_CREAT | O_EXCL | O_WRONLY, 0644);
    char label[32];
    snprintf(label, sizeof label, "odd name %u", n);
    result(label, fd);
    close(fd);
  }
  int count = 0, known = 0;
  DIR *directory = opendir("odd");
  for (struct dirent *entry; (entry = readdir(directory)) != NULL; count++)
    for (unsigned n = 0; n < sizeof odd / sizeof odd[0]; n++) known += strcmp(entry->d_name, odd[n]) == 0;
  closedir(directory);
  number("entries of it with . and ..", count);
  number("known names among them", known);
  TRY(open("missing/x", O_CREAT | O_WRONLY, 0644));
  TRY(open("l/x", O_CREAT | O_WRONLY, 0644));
  TRY(mkdir("l", 0755));
  TRY(mkdir("odd", 0755));
  TRY(mkdir("odd/..", 0755));
  TRY(open("odd", O_WRONLY));
  TRY(open("odd", O_CREAT | O_RDONLY, 0644));
  TRY(open("l", O_RDONLY | O_DIRECTORY));
  TRY(open("l", O_CREAT | O_EXCL | O_RDWR, 0644));
  TRY(open(".", O_TMPFILE | O_RDWR, 0644));
  /* Forty directories deep, and a path of nearly 4096 bytes down there. */
  path[0] = 0;
  for (int n = 0; n < 40; n++) {
    strcat(path, n == 0 ? "" : "/");
    memset(path + strlen(path), 'd', 100);
    if (mkdir(path, 0755) != 0) result(path, -1);
  }
  strcat(path, "/f");
  result("a file at a path of 4041 bytes", open(path, O_CREAT | O_WRONLY, 0644));
}

void names(void) {
  renames();
  unlinks();
  links();
  symlinks();
  special();
  strange();
}
