/* File operations that fail, or kill their process, at the n-th of them: loaded by LD_PRELOAD, for tests on Linux.

   Only operations on files below one folder count. The settings and the counter lie in a file that all processes of a
   command map (FAULT_STATE), so that the n-th operation is that of the command, not of one process. */

#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>
#include <dlfcn.h>

/* The classes of operations: those that read, that write data or sync it, that make or move a name, that remove one. */
enum { READS = 1, WRITES = 2, NAMES = 4, REMOVES = 8 };

/* armed: 1 to count. classes: those that count. number: of the operation that fails, from 1; after it, every one fails
   if `lasting`. error: errno of the failure, 0 to kill the process. folder: absolute, without a slash at its end. */
struct state {
  long armed, classes, number, lasting, error, count, struck;
  char folder[4000];
};

static struct state *state;
static unsigned char ours[65536]; /* descriptors of files below the folder: the class of their opening */

__attribute__((constructor)) static void begin(void) {
  const char *path = getenv("FAULT_STATE");
  int (*real_open)(const char *, int, ...) = dlsym(RTLD_NEXT, "open");
  int (*real_close)(int) = dlsym(RTLD_NEXT, "close");
  int fd = path ? real_open(path, O_RDWR | O_CLOEXEC) : -1;
  if (fd < 0) return;
  void *mapped = mmap(NULL, sizeof(struct state), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  real_close(fd);
  if (mapped != MAP_FAILED) state = mapped;
}

/* 1 if the path is below the folder, or the folder itself; paths relative to the current folder are resolved. */
static int below(const char *path) {
  char whole[8192];
  if (!state || !state->armed || !path) return 0;
  if (path[0] != '/') {
    char *(*here)(char *, size_t) = getcwd;
    if (!here(whole, sizeof whole / 2)) return 0;
    strncat(whole, "/", 2);
    strncat(whole, path, sizeof whole / 2 - 2);
    path = whole;
  }
  size_t length = strlen(state->folder);
  return !strncmp(path, state->folder, length) && (path[length] == '/' || path[length] == 0);
}

static int is_ours(int fd) { return state && state->armed && fd >= 0 && fd < (int)sizeof ours ? ours[fd] : 0; }

/* 1 below a directory descriptor, or below the folder. */
static int below_at(int at, const char *path) {
  return path && (path[0] == '/' || at == AT_FDCWD) ? below(path) : is_ours(at);
}

/* Count an operation; returns 1, with errno set, if it fails. */
static int fails(int class) {
  if (!(state->classes & class)) return 0;
  long n = __sync_add_and_fetch(&state->count, 1);
  if (n != state->number && !(state->lasting && n > state->number)) return 0;
  state->struck = 1;
  if (state->error == 0) kill(getpid(), SIGKILL);
  errno = (int)state->error;
  return 1;
}

#define REAL(name) ((typeof(&name))dlsym(RTLD_NEXT, #name))

static int opened(int fd, int class) {
  if (fd >= 0 && fd < (int)sizeof ours) ours[fd] = (unsigned char)class;
  return fd;
}

static int class_of(int flags) { return flags & O_CREAT || (flags & O_TMPFILE) == O_TMPFILE ? NAMES : flags & O_ACCMODE ? WRITES : READS; }

#define OPEN(name)                                              \
  int name(const char *path, int flags, ...) {                  \
    va_list more;                                               \
    va_start(more, flags);                                      \
    int mode = va_arg(more, int), mine = below(path);           \
    va_end(more);                                               \
    if (mine && fails(class_of(flags))) return -1;              \
    return opened(REAL(name)(path, flags, mode), mine * class_of(flags)); \
  }
OPEN(open)
OPEN(open64)

#define OPENAT(name)                                            \
  int name(int at, const char *path, int flags, ...) {          \
    va_list more;                                               \
    va_start(more, flags);                                      \
    int mode = va_arg(more, int), mine = below_at(at, path);    \
    va_end(more);                                               \
    if (mine && fails(class_of(flags))) return -1;              \
    return opened(REAL(name)(at, path, flags, mode), mine * class_of(flags)); \
  }
OPENAT(openat)
OPENAT(openat64)

/* FUNCTION(result type, name, parameters, arguments, whether it is below the folder, its class, result of a failure) */
#define FUNCTION(type, name, parameters, arguments, mine, class, failure) \
  type name parameters {                                                  \
    if ((mine) && fails(class)) return failure;                           \
    return REAL(name) arguments;                                          \
  }
FUNCTION(ssize_t, write, (int fd, const void *data, size_t size), (fd, data, size), is_ours(fd), WRITES, -1)
FUNCTION(ssize_t, writev, (int fd, const struct iovec *data, int size), (fd, data, size), is_ours(fd), WRITES, -1)
FUNCTION(ssize_t, pwrite64, (int fd, const void *data, size_t size, off_t at), (fd, data, size, at), is_ours(fd), WRITES, -1)
FUNCTION(int, fsync, (int fd), (fd), is_ours(fd), WRITES, -1)
FUNCTION(int, fdatasync, (int fd), (fd), is_ours(fd), WRITES, -1)
FUNCTION(int, ftruncate64, (int fd, off_t size), (fd, size), is_ours(fd), WRITES, -1)
FUNCTION(int, truncate64, (const char *path, off_t size), (path, size), below(path), WRITES, -1)
FUNCTION(int, rename, (const char *from, const char *to), (from, to), below(from) || below(to), NAMES, -1)
FUNCTION(int, renameat, (int at, const char *from, int other, const char *to), (at, from, other, to), below_at(at, from) || below_at(other, to), NAMES, -1)
FUNCTION(int, link, (const char *from, const char *to), (from, to), below(from) || below(to), NAMES, -1)
FUNCTION(int, linkat, (int at, const char *from, int other, const char *to, int flags), (at, from, other, to, flags), below_at(at, from) || below_at(other, to), NAMES, -1)
FUNCTION(int, symlink, (const char *from, const char *to), (from, to), below(to), NAMES, -1)
FUNCTION(int, mkdir, (const char *path, mode_t mode), (path, mode), below(path), NAMES, -1)
FUNCTION(int, mkdirat, (int at, const char *path, mode_t mode), (at, path, mode), below_at(at, path), NAMES, -1)
FUNCTION(int, unlink, (const char *path), (path), below(path), REMOVES, -1)
FUNCTION(int, unlinkat, (int at, const char *path, int flags), (at, path, flags), below_at(at, path), REMOVES, -1)
FUNCTION(int, rmdir, (const char *path), (path), below(path), REMOVES, -1)
FUNCTION(ssize_t, read, (int fd, void *data, size_t size), (fd, data, size), is_ours(fd), READS, -1)
FUNCTION(ssize_t, pread64, (int fd, void *data, size_t size, off_t at), (fd, data, size, at), is_ours(fd), READS, -1)
FUNCTION(DIR *, opendir, (const char *path), (path), below(path), READS, NULL)
FUNCTION(int, stat64, (const char *path, struct stat64 *found), (path, found), below(path), READS, -1)
FUNCTION(int, lstat64, (const char *path, struct stat64 *found), (path, found), below(path), READS, -1)
FUNCTION(int, fstat64, (int fd, struct stat64 *found), (fd, found), is_ours(fd), READS, -1)
FUNCTION(int, fstatat64, (int at, const char *path, struct stat64 *found, int flags), (at, path, found, flags), below_at(at, path), READS, -1)

/* A descriptor is free after close, also if that fails. To close a file that was read writes nothing. */
int close(int fd) {
  int mine = is_ours(fd), failed = mine && fails(mine == READS ? READS : WRITES), error = errno;
  opened(fd, 0);
  int result = REAL(close)(fd);
  if (failed) errno = error;
  return failed ? -1 : result;
}
