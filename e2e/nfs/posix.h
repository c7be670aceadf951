/* What the parts of the program posix share: how a fact is told, and whose hands do it. */
#ifndef POSIX_H
#define POSIX_H
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

/* A fact: `area: what = ok`, or the error's name, or a number. */
void result(const char *what, int status);
void number(const char *what, long long value);
void text(const char *what, const char *value);
/* The following acts are this user's, whose only other group is `group`; `as(0, 0, 0)` is the superuser again. */
void as(uid_t uid, gid_t gid, gid_t group);
/* Helpers for what is no fact itself: they end the program when they fail. */
void file(const char *name, const char *content);
void folder(const char *name);
struct stat of(const char *name);
/* The content of a small file. */
const char *content(const char *name);
/* Waits until the clock that the file system stamps with has gone on. */
void tick(void);

#define TRY(expression) result(#expression, (expression) < 0 ? -1 : 0)

void names(void);
void times(void);
void owners(void);
void data(void);
#endif
