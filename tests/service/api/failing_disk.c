/* Lets one call that writes or syncs a file of the database fail with EIO, or that one and all later ones. Preloaded. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static long at = 0, seen = 0;
static int lasting = 0;

void fault_arm(long n, int on) { at = n; lasting = on; seen = 0; }
long fault_seen(void) { return seen; }

static int fails(int fd) {
    char link[64], name[4096];
    ssize_t size;
    if (at == 0) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    size = readlink(link, name, sizeof name - 1);
    if (size <= 0) return 0;
    name[size] = 0;
    if (!strstr(name, "/serve.sqlite")) return 0;
    seen++;
    if (seen != at && !(lasting && seen > at)) return 0;
    errno = EIO;
    return 1;
}

#define REAL(type, name, args, given)                                         \
    type name args {                                                          \
        static type(*real) args = 0;                                          \
        if (!real) real = (type(*) args)dlsym(RTLD_NEXT, #name);              \
        if (fails(fd)) return -1;                                             \
        return real given;                                                    \
    }

REAL(ssize_t, write, (int fd, const void *from, size_t n), (fd, from, n))
REAL(ssize_t, pwrite, (int fd, const void *from, size_t n, off_t to), (fd, from, n, to))
REAL(ssize_t, pwrite64, (int fd, const void *from, size_t n, off64_t to), (fd, from, n, to))
REAL(int, fsync, (int fd), (fd))
REAL(int, fdatasync, (int fd), (fd))
REAL(int, ftruncate, (int fd, off_t n), (fd, n))
REAL(int, ftruncate64, (int fd, off64_t n), (fd, n))
