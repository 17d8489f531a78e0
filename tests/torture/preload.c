/* Lets the n-th file operation below a directory fail: see preload.py, which compiles and loads this.
 *
 * What is to fail stands in a file that both sides map (EVLOG_FAULTS), so a process that was forked is
 * steered as well. Operations are counted over all threads. A short write comes first if that is asked for:
 * then the operation after it fails.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <unistd.h>

struct state {
    int64_t count, at, times, code, is_short, fired;
    char prefix[1024];
};

static struct state *state;

__attribute__((constructor)) static void begin(void) {
    const char *name = getenv("EVLOG_FAULTS");
    int (*real)(const char *, int, ...) = dlsym(RTLD_NEXT, "open");
    int fd = name ? real(name, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0) return;
    void *memory = mmap(NULL, sizeof *state, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (memory != MAP_FAILED) state = memory;
    close(fd);
}

static int is_ours(const char *path) {
    size_t size = state ? strlen(state->prefix) : 0;
    return size && path && !strncmp(path, state->prefix, size);
}

static int is_our_fd(int fd) {
    char link[64], path[2048];
    if (!state || !state->prefix[0]) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, path, sizeof path - 1);
    if (size < 0) return 0;
    path[size] = 0;
    return is_ours(path);
}

/* Count an operation; return the error that it shall have, 0 for none, -1 for a short write. */
static int verdict(int can_be_short) {
    int64_t number = __atomic_add_fetch(&state->count, 1, __ATOMIC_SEQ_CST);
    if (!state->at || number < state->at || number >= state->at + state->times) return 0;
    __atomic_add_fetch(&state->fired, 1, __ATOMIC_SEQ_CST);
    if (state->is_short && number == state->at && can_be_short) {
        state->at++;
        return -1;
    }
    return (int)state->code;
}

#define REAL(name) __typeof__(&name) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

#define BY_FD(type, name, arguments, call)                      \
    type name arguments {                                       \
        REAL(name);                                             \
        int code = is_our_fd(fd) ? verdict(0) : 0;              \
        if (code) { errno = code; return -1; }                  \
        return real call;                                       \
    }

#define BY_PATH(name, path, arguments, call)                    \
    int name arguments {                                        \
        REAL(name);                                             \
        int code = is_ours(path) ? verdict(0) : 0;              \
        if (code) { errno = code; return -1; }                  \
        return real call;                                       \
    }

#define WRITES(name, arguments, call, half)                     \
    ssize_t name arguments {                                    \
        REAL(name);                                             \
        int code = is_our_fd(fd) ? verdict(size > 1) : 0;       \
        if (code == -1) return real half;                       \
        if (code) { errno = code; return -1; }                  \
        return real call;                                       \
    }

WRITES(write, (int fd, const void *data, size_t size), (fd, data, size), (fd, data, size / 2))
WRITES(pwrite, (int fd, const void *data, size_t size, off_t at), (fd, data, size, at), (fd, data, size / 2, at))
WRITES(pwrite64, (int fd, const void *data, size_t size, off64_t at), (fd, data, size, at),
       (fd, data, size / 2, at))

BY_FD(int, fsync, (int fd), (fd))
BY_FD(int, fdatasync, (int fd), (fd))
BY_FD(int, ftruncate, (int fd, off_t size), (fd, size))
BY_FD(int, ftruncate64, (int fd, off64_t size), (fd, size))
BY_FD(int, fallocate, (int fd, int mode, off_t at, off_t size), (fd, mode, at, size))
BY_FD(int, fallocate64, (int fd, int mode, off64_t at, off64_t size), (fd, mode, at, size))

BY_PATH(rename, to, (const char *from, const char *to), (from, to))
BY_PATH(link, to, (const char *from, const char *to), (from, to))
BY_PATH(linkat, to, (int at, const char *from, int at_to, const char *to, int flags), (at, from, at_to, to, flags))
BY_PATH(mkdir, path, (const char *path, mode_t mode), (path, mode))
BY_PATH(mkdirat, path, (int at, const char *path, mode_t mode), (at, path, mode))

/* These return the error instead of setting it. */
int posix_fallocate(int fd, off_t at, off_t size) {
    REAL(posix_fallocate);
    int code = is_our_fd(fd) ? verdict(0) : 0;
    return code ? code : real(fd, at, size);
}

int posix_fallocate64(int fd, off64_t at, off64_t size) {
    REAL(posix_fallocate64);
    int code = is_our_fd(fd) ? verdict(0) : 0;
    return code ? code : real(fd, at, size);
}

/* Opening counts if it is for writing. */
#define OPENS(name, at)                                                                 \
    {                                                                                   \
        mode_t mode = 0;                                                                \
        if (flags & (O_CREAT | O_TMPFILE)) {                                            \
            va_list rest;                                                               \
            va_start(rest, flags);                                                      \
            mode = va_arg(rest, mode_t);                                                \
            va_end(rest);                                                               \
        }                                                                               \
        REAL(name);                                                                     \
        int code = (flags & (O_WRONLY | O_RDWR)) && is_ours(path) ? verdict(0) : 0;     \
        if (code) { errno = code; return -1; }                                          \
        return real(at path, flags, mode);                                              \
    }
#define NOTHING
#define DIRECTORY directory,

int open(const char *path, int flags, ...) OPENS(open, NOTHING)
int open64(const char *path, int flags, ...) OPENS(open64, NOTHING)
int openat(int directory, const char *path, int flags, ...) OPENS(openat, DIRECTORY)
int openat64(int directory, const char *path, int flags, ...) OPENS(openat64, DIRECTORY)
