/* Bytes: sizes, holes, far offsets, appending, mapping, direct I/O, and what NFSv3 has no call for. */
#include "posix.h"
#include <signal.h>
#include <sys/mman.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <sys/xattr.h>

#define TIB (1LL << 40)

static void far(void) {
  int fd = open("far", O_CREAT | O_RDWR, 0644);
  char byte = 0;
  result("a byte at 16 TiB - 4097", (int)pwrite(fd, "x", 1, 16 * TIB - 4097));
  result("a byte at 16 TiB - 1", (int)pwrite(fd, "y", 1, 16 * TIB - 1));
  TRY(fsync(fd));
  number("size", of("far").st_size);
  number("it takes little room", of("far").st_blocks < 1000);
  number("bytes read there", pread(fd, &byte, 1, 16 * TIB - 1));
  number("the byte", byte);
  number("bytes read in the hole", pread(fd, &byte, 1, 8 * TIB));
  number("the hole's byte", byte);
  number("bytes read at the end", pread(fd, &byte, 1, 16 * TIB));
  TRY(ftruncate(fd, 16 * TIB - 4096));
  number("bytes read beyond the new end", pread(fd, &byte, 1, 16 * TIB - 1));
  pread(fd, &byte, 1, 16 * TIB - 4097);
  number("the last byte now", byte);
  TRY(ftruncate(fd, 16 * TIB));
  number("bytes read after growing", pread(fd, &byte, 1, 16 * TIB - 1));
  number("what was cut is zero", byte);
  result("a byte at 16 TiB", (int)pwrite(fd, "z", 1, 16 * TIB) < 0 || fsync(fd) < 0 ? -1 : 0);
  TRY(ftruncate(fd, 16 * TIB + 1));
  close(fd);
  /* A hole between two islands, with pieces of blocks. */
  fd = open("holes", O_CREAT | O_RDWR, 0644);
  pwrite(fd, "head", 4, 0);
  pwrite(fd, "tail", 4, 1000001);
  fsync(fd);
  char bytes[12] = {0};
  pread(fd, bytes, 8, 999997);
  number("zero before the second island", bytes[0] | bytes[1] | bytes[2] | bytes[3]);
  text("the island", bytes + 4);
  TRY(ftruncate(fd, 2));
  TRY(ftruncate(fd, 8192));
  pread(fd, bytes, 8, 0);
  number("cut bytes come back as zero", bytes[2] | bytes[3]);
  number("offset of data", lseek(fd, 0, SEEK_DATA));
  number("offset of a hole", lseek(fd, 0, SEEK_HOLE));
  TRY(lseek(fd, 8192, SEEK_DATA));
  close(fd);
  TRY(truncate("holes", -1));
  TRY(truncate(".", 0));
  TRY(truncate("missing", 0));
}

static void append(void) {
  file("log", "");
  for (int n = 0; n < 4; n++)
    if (fork() == 0) {
      /* Programs of one client: its kernel keeps their appends apart. */
      int fd = open("log", O_WRONLY | O_APPEND);
      for (int m = 0; m < 50; m++) {
        char line[16];
        snprintf(line, sizeof line, "%d %03d.........", n, m);
        if (write(fd, line, 10) != 10) _exit(1);
      }
      _exit(close(fd));
    }
  int status, bad = 0;
  for (int n = 0; n < 4; n++) {
    wait(&status);
    bad += status != 0;
  }
  number("programs that failed to append", bad);
  number("size after 200 appends of 10 bytes", of("log").st_size);
  int fd = open("log", O_RDWR | O_APPEND);
  TRY(lseek(fd, 0, SEEK_SET));
  TRY(write(fd, "end", 3));
  number("size after an append from offset 0", of("log").st_size);
  close(fd);
}

static void mapped(void) {
  int fd = open("map", O_CREAT | O_RDWR, 0644);
  ftruncate(fd, 10000);
  char *map = mmap(NULL, 16384, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  result("mmap beyond the end", map == MAP_FAILED ? -1 : 0);
  memcpy(map + 9990, "0123456789beyond", 16);
  TRY(msync(map, 16384, MS_SYNC));
  number("size after writing beyond the end by mapping", of("map").st_size);
  char bytes[12] = {0};
  number("read by call", pread(fd, bytes, 11, 9990));
  text("what was mapped", bytes);
  pwrite(fd, "call", 4, 5000);
  number("a write is seen in the mapping", memcmp(map + 5000, "call", 4) == 0);
  TRY(ftruncate(fd, 9995));
  TRY(ftruncate(fd, 10000));
  number("zero in the mapping after cut and growth", map[9996]);
  pid_t child = fork();
  if (child == 0) {
    volatile char *beyond = map + 12288;
    _exit(*beyond);
  }
  int status;
  waitpid(child, &status, 0);
  number("a page beyond the end is SIGBUS", WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS);
  munmap(map, 16384);
  close(fd);
}

static void direct(void) {
  char *page;
  if (posix_memalign((void **)&page, 4096, 8192) != 0) exit(1);
  memset(page, 'd', 8192);
  int fd = open("direct", O_CREAT | O_RDWR | O_DIRECT, 0644), cached = open("direct", O_RDWR);
  number("direct write", write(fd, page, 8192));
  char bytes[8] = {0};
  number("cached read of it", pread(cached, bytes, 4, 4000));
  text("its bytes", bytes);
  pwrite(cached, "cached", 6, 100);
  number("direct read after a cached write", pread(fd, page, 4096, 0));
  number("sees it", memcmp(page + 100, "cached", 6) == 0);
  number("direct read at an odd offset", pread(fd, page, 100, 3));
  number("direct read beyond the end", pread(fd, page, 4096, 8192));
  close(fd);
  close(cached);
}

static void missing_calls(void) {
  int fd = open("n", O_CREAT | O_RDWR, 0644);
  TRY(fallocate(fd, 0, 0, 4096));
  TRY(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096));
  TRY(setxattr("n", "user.x", "x", 1, 0));
  TRY(listxattr("n", NULL, 0));
  struct statvfs info;
  TRY(statvfs(".", &info));
  number("longest name", (long long)info.f_namemax);
  number("there is room", info.f_bfree > 0 && info.f_bavail <= info.f_bfree && info.f_bfree <= info.f_blocks);
  number("there are inodes", info.f_ffree > 0 && info.f_ffree <= info.f_files);
  number("longest path", pathconf(".", _PC_PATH_MAX));
  number("most links are at least 1000", pathconf("n", _PC_LINK_MAX) >= 1000);
  number("chown is restricted", pathconf(".", _PC_CHOWN_RESTRICTED));
  number("names are cut", pathconf(".", _PC_NO_TRUNC) == 0);
  TRY(ftruncate(fd, 100));
  number("written nothing", write(fd, "", 0));
  number("read nothing", read(fd, NULL, 0));
  close(fd);
}

void data(void) {
  far();
  append();
  mapped();
  direct();
  missing_calls();
}
